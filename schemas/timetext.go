package schemas

import (
	"time"
)

// The years a payload time may lie in, in milliseconds since 1970: what RFC 3339 can
// write and every store can hold. [minTimeMs, maxTimeMs].
const (
	minTimeMs = -62_135_596_800_000 // 0001-01-01T00:00:00.000Z
	maxTimeMs = 253_402_300_799_999 // 9999-12-31T23:59:59.999Z
)

// parseTime reads RFC 3339 in any offset; 'T' and 'Z' may be lower case and 'T' a
// space, as the RFC allows. Digits beyond milliseconds are dropped, a leap second is
// the second after. ok is false for anything else, dates that are none included; the
// year range is the caller's to check.
func parseTime(b []byte) (ms int64, ok bool) {
	if len(b) < len("2006-01-02T15:04:05Z") {
		return 0, false
	}
	year, ok1 := number(b[0:4])
	month, ok2 := number(b[5:7])
	day, ok3 := number(b[8:10])
	hour, ok4 := number(b[11:13])
	minute, ok5 := number(b[14:16])
	sec, ok6 := number(b[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	if c := b[10]; c != 'T' && c != 't' && c != ' ' {
		return 0, false
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || sec > 60 {
		return 0, false
	}
	frac, rest, ok := millis(b[19:])
	if !ok {
		return 0, false
	}
	offset, ok := zone(rest)
	if !ok {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, sec, 0, time.UTC).Unix()
	return (t-int64(offset))*1000 + int64(frac), true
}

// millis reads an optional fraction of a second.
func millis(b []byte) (ms int, rest []byte, ok bool) {
	if b[0] != '.' {
		return 0, b, true
	}
	i, scale := 1, 100
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		ms += int(b[i]-'0') * scale
		scale /= 10
	}
	return ms, b[i:], i > 1 && i < len(b)
}

// zone reads Z or +hh:mm and returns seconds east of UTC.
func zone(b []byte) (seconds int, ok bool) {
	if len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, ok1 := number(b[1:3])
	m, ok2 := number(b[4:6])
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, false
	}
	seconds = h*3600 + m*60
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// appendTime writes milliseconds since 1970 as RFC 3339 in UTC with exactly three
// decimals. ms must lie in the years 0001 to 9999.
func appendTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
}
