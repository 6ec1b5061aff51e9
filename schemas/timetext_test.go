package schemas

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	good := map[string]string{
		"2026-11-23T10:15:42Z":                "2026-11-23T10:15:42Z",
		"2026-11-23t10:15:42.1z":              "2026-11-23T10:15:42.1Z",
		"2026-11-23 10:15:42.123456789+05:30": "2026-11-23T04:45:42.123Z",
		"2024-02-29T23:59:59-00:00":           "2024-02-29T23:59:59Z",
		"2000-02-29T00:00:00-23:59":           "2000-02-29T23:59:00Z",
		"1969-12-31T23:59:59.9999Z":           "1969-12-31T23:59:59.999Z",
		"2016-12-31T23:59:60Z":                "2017-01-01T00:00:00Z",
		"0000-01-01T00:00:00Z":                "0000-01-01T00:00:00Z",
	}
	for in, want := range good {
		at, err := time.Parse(time.RFC3339Nano, want)
		if err != nil {
			t.Fatal(err)
		}
		if ms, ok := parseTime([]byte(in)); !ok || ms != at.UnixMilli() {
			t.Errorf("%s: %d %v, want %d", in, ms, ok, at.UnixMilli())
		}
	}
	for _, in := range []string{
		"", "2026-11-23", "2026-11-23T10:15:42", "2026-11-23T10:15:42+0100", "2026-11-23T10:15:42.Z", "2026-11-23T10:15:42.1",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-11-00T00:00:00Z",
		"2026-11-23T24:00:00Z", "2026-11-23T10:60:00Z", "2026-11-23T10:15:61Z", "2026-11-23T10:15:42+24:00", "2026-11-23T10:15:42+01:60",
		"2026-11-23T10:15:42ZZ", "2026-11-23_10:15:42Z", "2026/11/23T10:15:42Z", "-026-11-23T10:15:42Z", "12026-11-23T10:15:42Z", "2026-11-23T10:15:42+01.00", "2026-11-23T10:15:42Z\x00",
	} {
		if ms, ok := parseTime([]byte(in)); ok {
			t.Errorf("%q is %d", in, ms)
		}
	}
}

// FuzzParseTime: what time.Parse takes as RFC 3339 means the same here, and what is
// taken here is what time.Parse takes, but for the RFC's own liberties.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-11-23T10:15:42.123Z", "2026-11-23T10:15:42+05:30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := parseTime([]byte(s))
		at, err := time.Parse(time.RFC3339Nano, s)
		switch {
		case err == nil && ok && at.UnixMilli() != ms:
			t.Fatalf("%q: %d, time.Parse %d", s, ms, at.UnixMilli())
		// time.Parse also takes a comma, hours of one digit, and offsets of 24 h or 60 min.
		case err == nil && !ok && !strings.Contains(s, ",") && s[12] != ':' && !strings.Contains(s[19:], "24:") && !strings.HasSuffix(s, ":60"):
			t.Fatalf("%q is refused", s)
		case err != nil && ok && s[17:19] != "60" && strings.ContainsAny(s, "TZ") && !strings.ContainsAny(s, "tz "):
			t.Fatalf("%q is taken: %v", s, err)
		}
		if ok && ms >= minTimeMs && ms <= maxTimeMs {
			text := appendTime(nil, ms)
			if back, ok := parseTime(text); !ok || back != ms {
				t.Fatalf("%d written as %s", ms, text)
			}
		}
	})
}

func TestWholeNumber(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "-0": 0, "007": 7, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63,
		"3.0": 3, "-3e2": -300, "1.5e1": 15, "9007199254740992.0": 1 << 53,
	} {
		if got, ok := wholeNumber(in); !ok || got != want {
			t.Errorf("%s: %d %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-", "+1", "1.5", "9223372036854775808", "-9223372036854775809", "1e19", "9007199254740994.0", "1e400", "NaN", "Inf", "0x10", "1_000", " 1", "1 "} {
		if got, ok := wholeNumber(in); ok {
			t.Errorf("%q is %d", in, got)
		}
	}
}
