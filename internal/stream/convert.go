package stream

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
)

// timeMs undoes the client's conversion of a batch's milliseconds to time.Time,
// which multiplies in int64 nanoseconds and wraps for extreme values: a wrapped one
// is not a whole number of milliseconds. Only where the wraps are a multiple of
// 15,625, which begins 9 million years from 1970, does a wrapped one look whole; such
// a timestamp, and int64's own ends are two, is taken for the small one it wraps to.
func timeMs(t time.Time) int64 {
	if t.UnixNano()%1e6 != 0 {
		return ledger.TimeOutOfRange
	}
	return t.UnixMilli()
}

// fromKgo takes a record apart without copying key, value or header values.
func fromKgo(r *kgo.Record) ledger.Record {
	out := ledger.Record{
		Key: r.Key, Value: r.Value,
		TimeMs: timeMs(r.Timestamp), Offset: r.Offset, LeaderEpoch: r.LeaderEpoch,
		LogAppendTime: r.Attrs.TimestampType() == 1,
	}
	if len(r.Headers) > 0 {
		out.Headers = make([]ledger.Header, len(r.Headers))
		for i, h := range r.Headers {
			out.Headers[i] = ledger.Header{Name: h.Key, Value: h.Value}
		}
	}
	return out
}

// fromFetch converts a fetched run into dst, carving all headers from one slab.
func fromFetch(dst []ledger.Record, rs []*kgo.Record) []ledger.Record {
	n := 0
	for _, r := range rs {
		n += len(r.Headers)
	}
	slab := make([]ledger.Header, 0, n)
	for _, r := range rs {
		rec := ledger.Record{
			Key: r.Key, Value: r.Value,
			TimeMs: timeMs(r.Timestamp), Offset: r.Offset, LeaderEpoch: r.LeaderEpoch,
			LogAppendTime: r.Attrs.TimestampType() == 1,
		}
		if len(r.Headers) > 0 {
			from := len(slab)
			for _, h := range r.Headers {
				slab = append(slab, ledger.Header{Name: h.Key, Value: h.Value})
			}
			rec.Headers = slab[from:len(slab):len(slab)]
		}
		dst = append(dst, rec)
	}
	return dst
}

// toKgo fills recs with what must be produced, reusing the fetched records' memory
// where there are enough of them: their keys and values live on in out.
func toKgo(recs []*kgo.Record, out []ledger.Record, topic string, partition int32) []*kgo.Record {
	n := 0
	for i := range out {
		n += len(out[i].Headers)
	}
	slab := make([]kgo.RecordHeader, 0, n)
	if extra := len(out) - len(recs); extra > 0 {
		more := make([]kgo.Record, extra)
		for i := range more {
			recs = append(recs, &more[i])
		}
	}
	recs = recs[:len(out)]
	for i := range out {
		from := len(slab)
		for _, h := range out[i].Headers {
			slab = append(slab, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		*recs[i] = kgo.Record{
			Topic: topic, Partition: partition,
			Key: out[i].Key, Value: out[i].Value,
			Headers:   slab[from:len(slab):len(slab)],
			Timestamp: time.UnixMilli(out[i].TimeMs),
		}
	}
	return recs
}
