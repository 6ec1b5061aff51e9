package ledger

import "math"

// Record is one record as a topic's partition holds it, without any client
// library's types. A nil Key or Value is null; an empty one is not.
type Record struct {
	Key, Value []byte
	Headers    []Header

	// TimeMs is the record timestamp in milliseconds since 1970, exactly as in
	// the record batch: -1 is "none", negatives stay as they are, and
	// [TimeOutOfRange] stands for what no Go client can tell apart.
	TimeMs int64

	// Offset is the record's position in its partition.
	Offset int64

	// LeaderEpoch is the partition's leader epoch, -1 when unknown.
	LeaderEpoch int32

	// LogAppendTime says that the broker, not the producer, set TimeMs.
	LogAppendTime bool
}

// Header is one record header. Names are raw bytes (not necessarily UTF-8), may
// repeat, and their order matters. A nil Value is null.
type Header struct {
	Name  string
	Value []byte
}

// TimeOutOfRange replaces a timestamp beyond what nanoseconds in an int64 can
// hold (about 292 years either side of 1970).
const TimeOutOfRange = math.MinInt64

// MaxTimeMs is the largest magnitude of a timestamp that is kept as it is.
const MaxTimeMs = 9_223_372_036_854

// SealHeader names the last header of every sealed record; its value is the
// 200-byte statement, followed by the 16-byte salt when there is one.
const SealHeader = "seal"

// GenesisHeader and CloseHeader carry a genesis body: a ledger's own, and its successor's.
const (
	GenesisHeader = "genesis"
	CloseHeader   = "close"
)
