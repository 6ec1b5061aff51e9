package stream

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fenceAfter is the patience with somebody's open transaction on a newly assigned
// output partition; living owners finish in less.
const fenceAfter = 700 * time.Millisecond

// fence ends transactions that an owner which is gone for good left open on the
// output partitions this member was just given. Otherwise recovery would wait for
// the transaction time-out and the broker's own scan, 15 to 25 s.
//
// It is safe against a living owner: the new epoch fences it, its commit fails, and
// the log says what happened.
func (s *session) fence(ctx context.Context, out string, ps []int32) {
	log, began := newTopicLog(s.adm, out), time.Now()
	done := map[string]bool{}
	for ctx.Err() == nil && time.Since(began) < fenceAfter+10*time.Second {
		all, err := log.spans(ctx)
		if err == nil {
			open := kadm.TopicsSet{}
			for _, p := range ps {
				if sp, ok := all[p]; ok && sp.stable != sp.end {
					open.Add(out, p)
				}
			}
			if len(open) == 0 {
				return
			}
			if time.Since(began) > fenceAfter {
				err = s.fenceOpen(ctx, log.adm, open, done)
			}
		}
		if err != nil {
			s.r.Log.WarnContext(ctx, "cannot fence open transactions yet", "topic", out, "err", err)
		}
		if pause(ctx, 25*time.Millisecond) != nil {
			return
		}
	}
}

func (s *session) fenceOpen(ctx context.Context, adm *kadm.Client, open kadm.TopicsSet, done map[string]bool) error {
	dp, err := adm.DescribeProducers(ctx, open)
	if err != nil {
		return err
	}
	var pids []int64
	for _, p := range dp.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			pids = append(pids, p.ProducerID)
		}
	}
	if len(pids) == 0 {
		return nil
	}
	txns, err := adm.ListTransactions(ctx, pids, []string{"Ongoing"})
	if err != nil {
		return err
	}
	for _, t := range txns.Sorted() {
		if t.TxnID == s.txID || done[t.TxnID] {
			continue
		}
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &t.TxnID
		req.TransactionTimeoutMillis = 15_000
		resp, err := req.RequestWith(ctx, s.adm)
		if err != nil {
			return err
		}
		// Concurrent is Apache Kafka's first answer: it has begun to end the transaction,
		// and wants to be asked again for the producer id, which nobody needs here.
		err = kerr.ErrorForCode(resp.ErrorCode)
		if err != nil && !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		if _, said := done[t.TxnID]; !said {
			s.r.Log.WarnContext(ctx, "ended a transaction that its owner left open", "transactional_id", t.TxnID)
		}
		done[t.TxnID] = err == nil
	}
	return nil
}
