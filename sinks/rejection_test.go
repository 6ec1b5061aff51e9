package sinks_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

func rejectionOf(r sinks.Record, p sinks.Partition) sinks.Rejection {
	return sinks.Rejection{
		Sink: "postgres", Partition: p, Record: r, Code: "22021", Reason: "invalid_text", Detail: "column user_id", Attempts: 13,
		First: time.Unix(1_795_430_954, 5).UTC(), Last: time.Unix(1_795_430_960, 0).UTC(),
	}
}

func TestRejectionHeaders(t *testing.T) {
	src := sinktest.NewSource(t, topic, 3)
	event := sinktest.Event(1)
	// A record that was itself set aside once carries headers of the same names.
	event.Headers = append(event.Headers, ledger.Header{Name: "reject.offset", Value: []byte("9")}, ledger.Header{Name: "seal", Value: []byte("mine")})
	r := src.Seal(event)[0]
	hs := rejectionOf(r, src.Partition).Headers()

	n := len(event.Headers)
	if diff := cmp.Diff(event.Headers, hs[:n]); diff != "" {
		t.Errorf("the record's own headers (-want +got):\n%s", diff)
	}
	seal := hs[n]
	if seal.Name != "seal" || string(seal.Value) != string(r.Raw[:])+string(r.Salt[:]) {
		t.Error("the header behind them is not the record's seal with its salt")
	}
	got := map[string]string{}
	for _, h := range hs[n+1:] {
		got[h.Name] = string(h.Value)
	}
	want := map[string]string{
		"reject.version": "1", "reject.sink": "postgres", "reject.topic": topic, "reject.partition": "3", "reject.offset": "1",
		"reject.ledger": src.ID.String(), "reject.seq": "1", "reject.reason": "invalid_text", "reject.code": "22021", "reject.text": "column user_id",
		"reject.attempts": "13", "reject.first_time": "2026-11-23T10:49:14.000000005Z", "reject.last_time": "2026-11-23T10:49:20Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	// What is set aside still opens as a sealed record once our headers are off.
	if _, err := ledger.Open(&ledger.Record{Key: r.Source.Key, Value: r.Source.Value, Headers: hs[:n+1], TimeMs: r.Source.TimeMs}); err != nil {
		t.Errorf("open what was set aside: %v", err)
	}
}

func TestRejectionRoundTrip(t *testing.T) {
	odd := sinktest.OddRecords()
	names := make([]string, 0, len(odd))
	for name := range odd {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		src := sinktest.NewSourceWith(t, topic, int32(rapid.IntRange(0, 99).Draw(rt, "partition")), nil)
		if rapid.Bool().Draw(rt, "salted") {
			src = sinktest.NewSource(t, topic, 0)
		}
		r := src.First()
		if rapid.Bool().Draw(rt, "event") {
			r = src.Seal(odd[rapid.SampledFrom(names).Draw(rt, "record")])[0]
		}
		want := rejectionOf(r, src.Partition)
		want.Detail = sinks.Text(rapid.String().Draw(rt, "text"), sinks.MaxRejectionText)
		got, err := sinks.ParseRejection(want.Headers())
		if err != nil {
			rt.Fatal(err)
		}
		// Key, value and what the statement says about the source are the caller's to add.
		want.Record.Source = ledger.Record{Headers: slices.Clip(want.Record.Source.Headers)}
		got.Record.Source.Headers = append([]ledger.Header(nil), got.Record.Source.Headers...)
		want.Record.Source.Headers = append([]ledger.Header(nil), want.Record.Source.Headers...)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("parsed (-want +got):\n%s", diff)
		}
	})
}

func TestParseRejectionRefuses(t *testing.T) {
	src := sinktest.NewSource(t, topic, 0)
	good := rejectionOf(src.Events(1)[0], src.Partition).Headers()
	at := func(name string) int {
		return slices.IndexFunc(good, func(h ledger.Header) bool { return h.Name == name })
	}
	set := func(name, value string) func([]ledger.Header) []ledger.Header {
		return func(hs []ledger.Header) []ledger.Header { hs[at(name)].Value = []byte(value); return hs }
	}
	for name, change := range map[string]func([]ledger.Header) []ledger.Header{
		"no headers": func([]ledger.Header) []ledger.Header { return nil },
		"only ours":  func(hs []ledger.Header) []ledger.Header { return hs[at("seal")+1:] },
		"one missing": func(hs []ledger.Header) []ledger.Header {
			return slices.Delete(hs, at("reject.seq"), at("reject.seq")+1)
		},
		"one behind": func(hs []ledger.Header) []ledger.Header { return append(hs, ledger.Header{Name: "traceparent"}) },
		"swapped": func(hs []ledger.Header) []ledger.Header {
			i := at("reject.seq")
			hs[i], hs[i-1] = hs[i-1], hs[i]
			return hs
		},
		"version":         set("reject.version", "2"),
		"offset":          set("reject.offset", "-1"),
		"leading zero":    set("reject.offset", "01"),
		"partition":       set("reject.partition", "2147483648"),
		"time":            set("reject.first_time", "yesterday"),
		"another seq":     set("reject.seq", "9"),
		"another ledger":  set("reject.ledger", strings.Repeat("0", 32)),
		"long text":       set("reject.text", strings.Repeat("x", 513)),
		"text not UTF-8":  set("reject.text", "\xff"),
		"seal cut":        set("seal", "x"),
		"seal of zeros":   set("seal", string(make([]byte, 216))),
		"seal not salted": func(hs []ledger.Header) []ledger.Header { i := at("seal"); hs[i].Value = hs[i].Value[:200]; return hs },
		"no seal":         func(hs []ledger.Header) []ledger.Header { hs[at("seal")].Name = "other"; return hs },
	} {
		hs := make([]ledger.Header, len(good))
		for i, h := range good {
			hs[i] = ledger.Header{Name: h.Name, Value: slices.Clone(h.Value)}
		}
		if _, err := sinks.ParseRejection(change(hs)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := sinks.ParseRejection(good); err != nil {
		t.Errorf("the unchanged headers: %v", err)
	}
}

func FuzzParseRejection(f *testing.F) {
	src := sinktest.NewSource(f, topic, 0)
	good := rejectionOf(src.Events(1)[0], src.Partition).Headers()
	join := func(hs []ledger.Header) (names, values string) {
		for _, h := range hs {
			names += h.Name + "\n"
			values += string(h.Value) + "\x00\x01"
		}
		return names, values
	}
	for _, hs := range [][]ledger.Header{good, good[1:], good[:3]} {
		names, values := join(hs)
		f.Add(names, values)
	}
	f.Fuzz(func(t *testing.T, names, values string) {
		var hs []ledger.Header
		vs := strings.Split(values, "\x00\x01")
		for i, name := range strings.Split(names, "\n") {
			if i < len(vs) {
				hs = append(hs, ledger.Header{Name: name, Value: []byte(vs[i])})
			}
		}
		r, err := sinks.ParseRejection(hs)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := sinks.ParseRejection(r.Headers())
		if err != nil {
			t.Fatalf("headers made of parsed headers: %v", err)
		}
		if again.Record.Statement != r.Record.Statement || again.Detail != r.Detail || again.Partition != r.Partition {
			t.Errorf("parsed again: %+v, want %+v", again, r)
		}
	})
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 4, ""}, {"abcd", 4, "abcd"}, {"abcde", 4, "abcd"}, {"äöü", 5, "äö"}, {"äöü", 4, "äö"}, {"a\x00b", 9, "a\uFFFDb"},
		{"a\xff\xfeb", 9, "a\uFFFDb"}, {"\uFFFD", 2, ""}, {"ab", 0, ""},
	} {
		if got := sinks.Text(c.in, c.limit); got != c.want {
			t.Errorf("Text(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		in, limit := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "in")), rapid.IntRange(0, 40).Draw(rt, "limit")
		got := sinks.Text(in, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsRune(got, 0) || sinks.Text(got, limit) != got {
			rt.Fatalf("Text(%q, %d) = %q", in, limit, got)
		}
	})
}
