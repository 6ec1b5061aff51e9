package seal

import (
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

const (
	seenWord  = "seen"
	seenLabel = "sealstream/seen/1"
)

// keeper makes and reads what is kept beside the group offset of one source partition:
//
//	seen <offset> <key id>:<MAC in hex>
//
// It says that the source held no record from behind the head up to offset, so that a log
// start in between is no loss. Whoever may read as the seal's group may write there, and
// could hide a loss. So the text is believed only with the MAC of a salt master that is
// held, for this topic id, partition and head. An older text that is written back says
// something about a head that stands no more, for heads only grow, and is not believed;
// at its own head it is as true as when it was made. Without masters nothing is kept and
// nothing believed: then a loss may be claimed that is none, never the other way round.
type keeper struct {
	keys      *ledger.Keyring
	topic     ledger.TopicID
	partition int32
}

func (p *Processor) keeper(in processors.Input) keeper {
	return keeper{keys: p.o.Keys, topic: in.TopicID, partition: in.Partition}
}

// text is empty when the master of key is not held.
func (k keeper) text(head ledger.Hash, seen int64, key uint32) string {
	m := append([]byte(seenLabel), k.topic[:]...)
	m = binary.BigEndian.AppendUint32(m, uint32(k.partition))
	m = binary.BigEndian.AppendUint64(m, uint64(seen))
	m = binary.BigEndian.AppendUint32(m, key)
	mac, err := k.keys.MAC(key, append(m, head[:]...))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d:%s", seenWord, seen, key, hex.EncodeToString(mac[:]))
}

// read returns the offset of a text that is believed, else 0.
func (k keeper) read(head ledger.Hash, text string) int64 {
	word := strings.Split(text, " ")
	if len(word) != 3 {
		return 0
	}
	id, _, _ := strings.Cut(word[2], ":")
	seen, serr := strconv.ParseInt(word[1], 10, 64)
	key, kerr := strconv.ParseUint(id, 10, 32)
	if serr != nil || kerr != nil {
		return 0
	}
	// All of the text is compared, so that there is one way to write it and no more.
	want := k.text(head, seen, uint32(key))
	if want == "" || !hmac.Equal([]byte(want), []byte(text)) {
		return 0
	}
	return seen
}
