package faults

import (
	"context"
	"testing"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// verified runs the product's own verification over brokers and database.
func verified(t *testing.T, ctx context.Context, kafka stream.Config, url string, sources []string) *verify.Report {
	t.Helper()
	reader, err := stream.NewReader(kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	auditor, err := postgres.NewAuditor(postgres.AuditorOptions{URL: url, Sink: "postgres", Codec: schemas.NewCodec(nil)})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := verify.Run(ctx, verify.Options{Sources: sources, SealedName: schemas.SealedName, RejectsTopic: schemas.TopicRejects,
		SinkName: "postgres", Log: brokerLog{reader}, Rows: databaseRows{auditor}})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

type brokerLog struct{ *stream.Reader }

func (l brokerLog) Partitions(ctx context.Context, topic string) ([]verify.Partition, error) {
	ps, _, err := l.Reader.Partitions(ctx, topic)
	out := make([]verify.Partition, len(ps))
	for i, p := range ps {
		out[i] = verify.Partition(p)
	}
	return out, err
}

func (l brokerLog) Read(ctx context.Context, p verify.Partition, fn func([]ledger.Record) error) error {
	return l.Reader.Read(ctx, stream.Partition(p), fn)
}

type databaseRows struct{ *postgres.Auditor }

func (r databaseRows) Compare(ctx context.Context, c verify.Comparing) (verify.Comparison, error) {
	cmp, err := r.Auditor.Compare(ctx, postgres.CompareOptions{Ledger: c.Ledger, Partition: c.Partition, Stored: c.Stored, Rejected: c.Rejected})
	if err != nil {
		return nil, err
	}
	return rowComparison{cmp}, nil
}

type rowComparison struct{ *postgres.Comparison }

func (c rowComparison) Finish() ([]ledger.Finding, verify.Counts, error) {
	fs, n, err := c.Comparison.Finish()
	return fs, verify.Counts{Rows: n.Rows, Lag: n.Lag, Rejected: n.Rejected}, err
}
