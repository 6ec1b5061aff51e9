package stream_test

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawProduce appends one record with a timestamp of any value, which the Go client's
// producer cannot write (it converts through nanoseconds).
func (b *bench) rawProduce(topic string, partition int32, value []byte, ms int64) {
	b.t.Helper()
	rec := kmsg.Record{Value: value}
	rec.Length = int32(len(kmsgBody(rec)))
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: ms, MaxTimestamp: ms,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: rec.AppendTo(nil),
	}
	raw := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))

	md, err := kadm.NewClient(b.cl).Metadata(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, md.Topics[topic].ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, raw
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := b.cl.Broker(int(md.Topics[topic].Partitions[partition].Leader)).Request(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
		b.t.Fatal(err)
	}
}

// kmsgBody is a record behind its length field.
func kmsgBody(r kmsg.Record) []byte {
	r.Length = 0
	return r.AppendTo(nil)[1:]
}
