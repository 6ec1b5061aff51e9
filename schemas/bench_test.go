package schemas

import (
	"testing"
	"time"
)

// benchJSON is an audit event as services send them, about 400 bytes.
const benchJSON = `{"@timestamp":"2026-11-23T10:15:42.123Z","event":{"id":"0190c6f0-7d3a-7cc1-9d53-1f2e3d4c5b6a","kind":"event","category":["iam"],"type":["user","change"],"action":"role.grant","outcome":"success","dataset":"acme.iam"},"organization":{"id":"acme"},"user":{"id":"u-000123","name":"alice"},"source":{"ip":"10.1.2.3"},"audit":{"object":{"type":"role","id":"r-77"}},"trace":{"id":"4bf92f3577b34da6a3ce929d0e0e4736"}}`

func BenchmarkProject(b *testing.B) {
	var e AuditEvent
	if err := e.UnmarshalJSON([]byte(benchJSON)); err != nil {
		b.Fatal(err)
	}
	body, err := e.AppendAvro(nil)
	if err != nil {
		b.Fatal(err)
	}
	c := NewCodec(registry{7: AuditSchema()})
	for name, value := range map[string][]byte{"json": []byte(benchJSON), "avro": AppendFrame(nil, 7, body)} {
		b.Run(name, func(b *testing.B) {
			var f Fields
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Project(b.Context(), value, &f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("avro-to-json", func(b *testing.B) {
		value := AppendFrame(nil, 7, body)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.JSON(b.Context(), value); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCheck is what the API does with each event it is sent.
func BenchmarkCheck(b *testing.B) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		var e AuditEvent
		if err := e.UnmarshalJSON([]byte(benchJSON)); err != nil {
			b.Fatal(err)
		}
		if err := ValidateAudit(&e, now); err != nil {
			b.Fatal(err)
		}
	}
}
