package schemas

import "encoding/binary"

// FrameSize is the length of a Confluent frame's head: a zero byte and the schema id.
const FrameSize = 5

// AppendFrame appends the Confluent frame of an Avro body: 0, the id in big-endian
// order, the body.
func AppendFrame(dst []byte, id uint32, avro []byte) []byte {
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, id)
	return append(dst, avro...)
}

// SplitFrame takes a Confluent frame apart. ok is false when value is too short to be
// one or does not begin with a zero byte. body shares value's memory.
func SplitFrame(value []byte) (id uint32, body []byte, ok bool) {
	if len(value) < FrameSize || value[0] != 0 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(value[1:]), value[FrameSize:], true
}
