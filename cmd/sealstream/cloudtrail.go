package main

import (
	"errors"
	"io"
	"strconv"

	"github.com/sealstream/sealstream/producers/adapters/cloudtrail"
	"github.com/sealstream/sealstream/producers/ingest"
	"github.com/sealstream/sealstream/schemas"
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
	it, e, err := t.next()
	if err != nil || it.Err != nil {
		return it, err
	}
	if it.Value, it.Err = e.MarshalJSON(); it.Err != nil {
		return it, nil
	}
	it.Key = t.r.d.keyer.Audit(t.r.tenant, actor(e))
	f := facts{id: e.Event.ID, action: deref(e.Event.Action), time: e.Timestamp}
	it.Attributes = t.r.attributes(f, "sealstream/ingest/cloudtrail")
	return it, nil
}

// Pass is Next without making a record of the event.
func (t *trail) Pass() (ingest.Item, error) {
	it, _, err := t.next()
	return it, err
}

func (t *trail) next() (ingest.Item, *schemas.AuditEvent, error) {
	rec, err := t.in.Next()
	var re *cloudtrail.RecordError
	if errors.As(err, &re) {
		// A refused record is known by its place alone.
		n := strconv.Itoa(re.Number)
		return ingest.Item{Where: "record " + n, Bytes: []byte("refused " + n), Err: re.Err, Open: re.Open}, nil, nil
	}
	if err != nil {
		return ingest.Item{}, nil, err
	}
	return ingest.Item{Where: "record " + strconv.Itoa(rec.Number), Bytes: rec.Raw}, rec.Event, nil
}
