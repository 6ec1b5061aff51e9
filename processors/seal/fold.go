package seal

import (
	"fmt"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// fold is one partition's open ledger.
type fold struct {
	chain     *ledger.Chain
	committed ledger.Mark
	pending   []ledger.Record // close and genesis not committed yet
	keep      keeper
	lost      *processors.Loss
}

func newFold(c *ledger.Chain, pending []ledger.Record, k keeper) *fold {
	return &fold{chain: c, committed: c.Mark(), pending: pending, keep: k}
}

func (f *fold) Lost() *processors.Loss { return f.lost }

// Next is the source offset behind the head.
func (f *fold) Next() int64 { return f.chain.Next() }

func (f *fold) Keep(seen int64) string {
	return f.keep.text(f.chain.Head(), seen, f.keep.keys.Active())
}

func (f *fold) Pending() []ledger.Record { return f.pending }

func (f *fold) Commit() {
	f.committed = f.chain.Mark()
	f.pending = nil
}

func (f *fold) Abort() { f.chain.Reset(f.committed) }

// sealBytes is the longest value of a seal header.
const sealBytes = ledger.StatementSize + len(ledger.Salt{})

// Append seals in. One slab per call carries all statements and one all headers, so
// that a record costs no allocation of its own.
func (f *fold) Append(out, in []ledger.Record) ([]ledger.Record, error) {
	n := 0
	for i := range in {
		n += len(in[i].Headers) + 1
	}
	headers := make([]ledger.Header, 0, n)
	seals := make([]byte, 0, len(in)*sealBytes)
	for i := range in {
		src := &in[i]
		if src.Offset < f.chain.Next() {
			continue // consumed again after a rewind below the head
		}
		var (
			seal []byte
			err  error
		)
		seal, seals, err = f.chain.Append(src, seals)
		if err != nil {
			return out, fmt.Errorf("seal offset %d: %w", src.Offset, err)
		}
		from := len(headers)
		headers = append(headers, src.Headers...)
		headers = append(headers, ledger.Header{Name: ledger.SealHeader, Value: seal})
		rec := ledger.Record{
			Key: src.Key, Value: src.Value, TimeMs: src.TimeMs,
			Headers: headers[from:len(headers):len(headers)],
		}
		if rec.TimeMs == ledger.TimeOutOfRange {
			rec.TimeMs = -1 // cannot be written; the statement says what it was
		}
		out = append(out, rec)
	}
	return out, nil
}
