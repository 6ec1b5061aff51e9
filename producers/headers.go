package producers

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sealstream/sealstream/ledger"
)

// Header names, after the Kafka protocol binding of CloudEvents 1.0, binary mode.
// ce_tenant is an extension attribute.
const (
	HeaderID          = "ce_id"
	HeaderSource      = "ce_source"
	HeaderSpecVersion = "ce_specversion"
	HeaderType        = "ce_type"
	HeaderTime        = "ce_time"
	HeaderTenant      = "ce_tenant"
	HeaderContentType = "content-type"
)

// Content types of the two forms a value may have.
const (
	ContentJSON = "application/json"
	ContentAvro = "application/vnd.confluent.avro"
)

// Attributes are the CloudEvents attributes of one event. They are in clear for as
// long as the record lives: no personal data belongs in them.
type Attributes struct {
	ID          string    // required; unique per Source
	Source      string    // required; a URI reference such as "sealstream/ingest"
	Type        string    // required; such as the event's action
	Time        time.Time // of the occurrence; left out when zero
	Tenant      string    // as configured or proven by the caller's token, never from the payload; left out when empty
	ContentType string    // [ContentJSON] or [ContentAvro]; left out when empty
}

// NewID returns a new event id, a UUID of version 7: ids made later sort later.
func NewID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an event id: %w", err)
	}
	return id.String(), nil
}

// Headers appends the record headers of a to dst. The error names the attribute
// that CloudEvents does not allow.
func (a Attributes) Headers(dst []ledger.Header) ([]ledger.Header, error) {
	attributes := [...]struct {
		name, value string
		required    bool
	}{
		{HeaderSpecVersion, "1.0", true}, {HeaderID, a.ID, true}, {HeaderSource, a.Source, true}, {HeaderType, a.Type, true},
		{HeaderTime, "", false}, {HeaderTenant, a.Tenant, false}, {HeaderContentType, a.ContentType, false},
	}
	size := len(time.RFC3339Nano)
	for i := range attributes {
		size += len(attributes[i].value)
	}
	// One allocation for all values: this is done for every event there is.
	slab := make([]byte, 0, size)
	for i := range attributes {
		h := &attributes[i]
		from := len(slab)
		switch {
		case h.name == HeaderTime && !a.Time.IsZero():
			slab = a.Time.UTC().AppendFormat(slab, time.RFC3339Nano)
		case h.value == "" && h.required:
			return nil, fmt.Errorf("%s: %w", h.name, errEmpty)
		case h.value == "":
			continue
		default:
			if err := checkText(h.value); err != nil {
				return nil, fmt.Errorf("%s: %w", h.name, err)
			}
			slab = append(slab, h.value...)
		}
		dst = append(dst, ledger.Header{Name: h.name, Value: slab[from:len(slab):len(slab)]})
	}
	return dst, nil
}

// maxAttributeBytes bounds one attribute; a header is no place for content.
const maxAttributeBytes = 1024

var (
	errEmpty   = errors.New("must not be empty")
	errText    = errors.New("must be UTF-8 without control characters")
	errTooLong = fmt.Errorf("must not be longer than %d bytes", maxAttributeBytes)
)

func checkText(s string) error {
	if len(s) > maxAttributeBytes {
		return errTooLong
	}
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return nil
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 }) {
		return errText
	}
	return nil
}
