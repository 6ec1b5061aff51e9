package ledger

// StatementSize is the length of a statement in bytes.
const StatementSize = 200

// Kind says what a statement is about.
type Kind uint8

// The three kinds.
const (
	KindGenesis Kind = 1
	KindEvent   Kind = 2
	KindClose   Kind = 3
)

// Statement holds the fields of a 200-byte statement; docs/ledger-format.md
// section 1 gives their places.
type Statement struct {
	Kind       Kind
	Flags      uint16
	Partition  uint32
	Ledger     ID
	Seq        uint64
	Prev       Hash
	TimeMs     int64
	Epoch      int32
	Topic      TopicID
	Offset     uint64
	EventID    [16]byte
	Commitment Hash
	SaltKey    uint32
}
