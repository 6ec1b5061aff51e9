package main

import (
	"errors"
	"io"
	"strconv"

	"github.com/sealstream/sealstream/producers/adapters/cloudtrail"
	"github.com/sealstream/sealstream/producers/ingest"
)

// trail is the source of events of one CloudTrail file.
type trail struct {
	r  *reader
	in *cloudtrail.Reader
}

func (r *reader) cloudTrail(text io.Reader) ingest.Source {
	return &trail{r, cloudtrail.NewReader(text, cloudtrail.Options{MaxRecord: r.maxBytes, Now: r.d.now})}
}

// Next implements ingest.Source.
func (t *trail) Next() (ingest.Item, error) {
	rec, err := t.in.Next()
	var re *cloudtrail.RecordError
	if errors.As(err, &re) {
		// A refused record is known by its place alone.
		n := strconv.Itoa(re.Number)
		return ingest.Item{Where: "record " + n, Bytes: []byte("refused " + n), Err: re.Err, Open: re.Open}, nil
	}
	if err != nil {
		return ingest.Item{}, err
	}
	it := ingest.Item{Where: "record " + strconv.Itoa(rec.Number), Bytes: rec.Raw}
	value, err := rec.Event.MarshalJSON()
	if err != nil {
		it.Err = err
		return it, nil
	}
	it.Value = value
	it.Key = t.r.d.keyer.Audit(t.r.tenant, actor(rec.Event))
	f := facts{id: rec.Event.Event.ID, action: deref(rec.Event.Event.Action), time: rec.Event.Timestamp}
	it.Attributes = t.r.attributes(f, "sealstream/ingest/cloudtrail")
	return it, nil
}
