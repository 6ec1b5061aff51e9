package schemas

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// checkNow is when all checks here are made, so that the times around the bounds can be
// written down.
func checkNow() time.Time { return time.Date(2026, 11, 24, 0, 0, 0, 500_000, time.UTC) }

// auditByRules and domainByRules are what a check must agree with: the whole event,
// then the rules, by the words of their own documentation.
func auditByRules(ctx context.Context, c *Codec, value []byte) (o Outline, err error) {
	e, err := c.Audit(ctx, value)
	if err == nil {
		err = ValidateAudit(e, checkNow())
	}
	if err != nil {
		return o, err
	}
	o = Outline{ID: e.Event.ID, Action: *e.Event.Action, Time: e.Timestamp}
	if e.User != nil {
		o.Actor = actorByRules(e.User.ID, e.User.Name, e.User.Email)
	}
	return o, nil
}

func actorByRules(names ...*string) string {
	i := slices.IndexFunc(names, func(s *string) bool { return s != nil && *s != "" })
	if i < 0 {
		return ""
	}
	return *names[i]
}

func domainByRules(ctx context.Context, c *Codec, value []byte) (o Outline, err error) {
	e, err := c.Domain(ctx, value)
	if err == nil {
		err = ValidateDomain(e, checkNow())
	}
	if err != nil {
		return o, err
	}
	o = Outline{ID: e.Event.ID, Action: *e.Event.Action, Aggregate: e.Aggregate.ID, Time: e.Timestamp}
	if e.User != nil {
		o.Actor = actorByRules(e.User.ID, e.User.Name, e.User.Email)
	}
	return o, nil
}

// checkAgrees holds a check of one value to the rules and says whether it was good, and
// whether the quick way saw it.
func checkAgrees(t interface{ Fatalf(string, ...any) }, domain bool, value []byte) (good, quick bool) {
	ctx, c := context.Background(), NewCodec(nil)
	byRules, check, plan := auditByRules, c.CheckAudit, auditCheck()
	if domain {
		byRules, check, plan = domainByRules, c.CheckDomain, domainCheck()
	}
	want, wantErr := byRules(ctx, c, value)
	var alone Outline
	if quick = quickCheck(plan, value, checkNow(), &alone); quick {
		if wantErr != nil {
			t.Fatalf("the quick check took what the rules refuse: %v\n%q", wantErr, value)
		}
		if d := cmp.Diff(want, alone); d != "" {
			t.Fatalf("the quick check saw another event (-rules +quick):\n%s\n%q", d, value)
		}
	}
	var got Outline
	err := check(ctx, value, checkNow(), &got)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("check says %v, the rules %v\n%q", err, wantErr, value)
	}
	if d := cmp.Diff(want, got); err == nil && d != "" {
		t.Fatalf("outline (-rules +check):\n%s\n%q", d, value)
	}
	return wantErr == nil, quick
}

// TestCheckAgreesWithRules draws events, good and nearly good ones, in every way of
// writing them.
func TestCheckAgreesWithRules(t *testing.T) {
	for _, domain := range []bool{false, true} {
		var all, good, quick int
		rapid.Check(t, func(t *rapid.T) {
			for range 20 {
				g, q := checkAgrees(t, domain, drawText(t, domain))
				all++
				if g {
					good++
				}
				if q {
					quick++
				}
			}
		})
		t.Logf("domain %v: %d events, %d good, %d by the quick way", domain, all, good, quick)
		if good < all/8 || good > all*9/10 || quick < good/2 {
			t.Errorf("domain %v: of %d events %d are good and %d of these quick: this proves little", domain, all, good, quick)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range quickEvents() {
		f.Add(s.domain, []byte(s.text))
	}
	for _, s := range slowEvents() {
		f.Add(s.domain, []byte(s.text))
	}
	f.Fuzz(func(t *testing.T, domain bool, value []byte) { checkAgrees(t, domain, value) })
}

type checkCase struct {
	name, text string
	domain     bool
}

const checkHead = `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"a","action":"b"},`
const checkDomainHead = checkHead + `"aggregate":{"type":"order","id":"o-1","version":1},`

// quickEvents are good events as senders write them, which must not take the long way.
func quickEvents() []checkCase {
	return []checkCase{
		{"benchmark", benchJSON, false},
		{"dots", `{"@timestamp":1795428942123,"event.id":"a","event.action":"b","user.name":"u","http.response.status_code":200,"message":"m","what.is":{"this":[1]}}`, false},
		{"white space", "\t" + strings.ReplaceAll(benchJSON, `":`, "\" :\r\n ") + "\n", false},
		{"escapes of python", checkHead + `"user":{"name":"Jos\u00e9 \ud83d\ude00"},"message":"a \"quoted\" \\ line\n"}`, false},
		{"runes", checkHead + `"user":{"name":"José"}}`, false},
		{"nulls", checkHead + `"user":null,"labels":{"a":null},"message":null,"tags":[]}`, false},
		{"labels", checkHead + `"labels":{"env":"prod","n":7,"b":true},"tags":["x","y"],"related":{"ip":["10.0.0.1"]}}`, false},
		{"numbers as texts", checkHead + `"user":{"id":17},"audit":{"object":{"id":5.5},"actor":{"mfa":true}}}`, false},
		{"numbers", checkHead + `"source":{"port":443},"audit":{"data":{"rows":-0}}}`, false},
		{"details", checkHead + `"audit":{"details":"{\"a\":[1,2]}","order":{"b":1}}}`, false},
		{"one category", checkHead + `"x":[{"event":{"id":1}}]}`, false},
		{"original", checkHead + `"user":{"email":"a@b.example"},"client":{"user":{"email":"c@d.example"}}}`, false},
		{"payload", checkDomainHead + `"payload":{"total":"12.50","lines":[{"sku":"x"}]}}`, true},
		{"payload as text", checkDomainHead + `"payload":"{\"total\":12}"}`, true},
		{"ciphertext", checkDomainHead + `"payload":"enc:v1:k7:AAECAwQ="}`, true},
		{"other content", checkDomainHead + `"payload":"<xml/>","content_type":"application/xml"}`, true},
		{"metadata", checkDomainHead + `"metadata":{"a":"b"},"correlation":{"id":"c"},"causation":{"id":"d"}}`, true},
	}
}

// slowEvents are what the quick check must leave alone: bad, or too odd to be certain.
func slowEvents() []checkCase {
	long := func(n int) string { return strings.Repeat("x", n) }
	with := func(s string) checkCase { return checkCase{s[:min(len(s), 40)], checkHead + s + "}", false} }
	domain := func(s string) checkCase { return checkCase{s[:min(len(s), 40)], checkDomainHead + s + "}", true} }
	return []checkCase{
		{"no JSON", "hello", false}, {"empty", "", false}, {"a list", "[]", false}, {"frame", "\x00\x00\x00\x00\x07", false},
		{"cut", benchJSON[:len(benchJSON)-1], false}, {"behind", benchJSON + "x", false}, {"nothing in it", "{}", false},
		{"no id", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"action":"b"}}`, false},
		{"no action", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"b"}}`, false},
		{"no time", `{"event":{"id":"b","action":"c"}}`, false},
		{"early", `{"@timestamp":"1999-12-31T23:59:59.999Z","event":{"id":"a","action":"b"}}`, false},
		{"late", `{"@timestamp":"2026-11-25T00:00:00.001Z","event":{"id":"a","action":"b"}}`, false},
		{"no aggregate", checkHead + `"message":"m"}`, true},
		{"odd id", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"a b","action":"b"}}`, false},
		{"empty id", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"","action":"b"}}`, false},
		{"long id", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"` + long(MaxEventID+1) + `","action":"b"}}`, false},
		{"long action", `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"a","action":"` + long(MaxActions+1) + `"}}`, false},
		with(`"event.id":"b"`), with(`"event":{}`), with(`"message":"a","message":"b"`), with(`"user":[]`), with(`"user":"x"`),
		with(`"event.kind":"evnt"`), with(`"event.outcome":"ok"`), with(`"event.category":"iam","event.type":"start"`),
		with(`"event.category":["iam","api"],"event.type":"group"`), with(`"event.type":"user"`), with(`"event.category":"x"`),
		with(`"event.dataset":""`), with(`"event.created":"1999-01-01T00:00:00Z"`), with(`"event.severity":1.5`),
		with(`"event.severity":12345678901234567890`), with(`"event.risk_score":1e999`), with(`"message":"a\u0000b"`),
		with(`"user.id":"` + long(MaxKeyword+1) + `"`), with(`"message":"` + long(MaxProse+1) + `"`), with("\"message\":\"\xff\""),
		with(`"labels":{"a":[]}`), with(`"labels":{"a":1,"a":2}`), with(`"labels.a":1`), with(`"\u0065vent":{}`),
		with(`"tags":[` + strings.Repeat(`"t",`, MaxLabels) + `"t"]`), with(`"event.category":[` + strings.Repeat(`"iam",`, MaxList) + `"iam"]`),
		with(`"audit.details":"{"`), with(`"audit.retention.until":253402300800000`), with(`"tags":[["a"]]`), with(`"tags":[null]`), with(`"message":["a"]`), with(`"audit.actor.mfa":1`),
		with(`"x":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)),
		domain(`"aggregate.version":1`), domain(`"payload":"<xml/>"`), domain(`"payload":"<xml/>","content_type":null`),
	}
}

func TestQuickEvents(t *testing.T) {
	for _, c := range quickEvents() {
		t.Run(c.name, func(t *testing.T) {
			if good, quick := checkAgrees(t, c.domain, []byte(c.text)); !good || !quick {
				t.Errorf("good %v, quick %v\n%s", good, quick, c.text)
			}
		})
	}
}

func TestSlowEvents(t *testing.T) {
	for _, c := range slowEvents() {
		t.Run(c.name, func(t *testing.T) {
			if _, quick := checkAgrees(t, c.domain, []byte(c.text)); quick {
				t.Errorf("the quick check is certain of %s", c.text)
			}
		})
	}
}

// TestOutline is what a check tells, in its own words.
func TestOutline(t *testing.T) {
	c := NewCodec(nil)
	at := time.Date(2026, 11, 23, 10, 15, 42, 0, time.UTC)
	for _, test := range []struct {
		text   string
		domain bool
		want   Outline
	}{
		{checkHead + `"user":{"email":"e","name":"n","id":"i"}}`, false, Outline{"a", "b", "i", "", at}},
		{checkHead + `"user":{"email":"e","name":"n","id":""}}`, false, Outline{"a", "b", "n", "", at}},
		{checkHead + `"user":{"email":"e"}}`, false, Outline{"a", "b", "e", "", at}},
		{checkHead + `"user":{}}`, false, Outline{"a", "b", "", "", at}},
		{checkDomainHead + `"user":{"id":"i"}}`, true, Outline{"a", "b", "i", "o-1", at}},
	} {
		check := c.CheckAudit
		if test.domain {
			check = c.CheckDomain
		}
		// The second one goes the long way, the name written with an escape.
		for _, text := range []string{test.text, strings.Replace(test.text, `"event"`, `"\u0065vent"`, 1)} {
			got := Outline{ID: "old", Action: "old", Actor: "old", Aggregate: "old"}
			if err := check(t.Context(), []byte(text), checkNow(), &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got != test.want {
				t.Errorf("%s\ngot  %+v\nwant %+v", text, got, test.want)
			}
		}
	}
}

// textOf draws events as JSON text.
type textOf struct {
	*rapid.T
	plan *quickPlan
}

func drawText(t *rapid.T, domain bool) []byte {
	d := textOf{t, auditCheck()}
	if domain {
		d.plan = domainCheck()
	}
	text := "{" + strings.Join(d.members(&d.plan.root, ""), ",") + "}"
	switch d.oneIn(40) {
	case true:
		return []byte(text[:rapid.IntRange(0, len(text)).Draw(t, "cut")] + rapid.SampledFrom([]string{"", "\xff", "}", " x"}).Draw(t, "rest"))
	}
	return []byte(text)
}

func (d textOf) oneIn(n int) bool { return rapid.IntRange(0, n-1).Draw(d.T, "odd") == n-1 }

// members draws the members of a record, each with prefix before its name.
func (d textOf) members(p *place, prefix string) (out []string) {
	for i := range p.kids {
		k := &p.kids[i]
		needed := d.plan.required&(1<<k.role) != 0 && k.role != roleNone || k.name == "event" || k.name == "aggregate"
		switch {
		case needed && d.oneIn(60) || !needed && !d.oneIn(8):
			continue
		case k.kind == placeRecord && d.oneIn(3):
			out = append(out, d.members(k, prefix+k.name+".")...)
		default:
			out = append(out, d.name(prefix+k.name)+":"+d.value(k))
		}
	}
	switch {
	case d.oneIn(30):
		out = append(out, d.name(rapid.SampledFrom([]string{"x", "", ".", "event.", "message.x", "labels.a", "x.y"}).Draw(d.T, "unknown"))+":"+d.any())
	case d.oneIn(60) && len(out) > 0:
		out = append(out, rapid.SampledFrom(out).Draw(d.T, "twice"))
	}
	if d.oneIn(4) && len(out) > 1 {
		return rapid.Permutation(out).Draw(d.T, "order")
	}
	return out
}

func (d textOf) any() string {
	b, err := json.Marshal(jsonValue(d.T, 2))
	if err != nil {
		d.Fatal(err)
	}
	return string(b)
}

func (d textOf) name(s string) string {
	if d.oneIn(200) {
		return d.quote(s)
	}
	return `"` + s + `"`
}

// quote writes s in quotes, here and there with more escapes than there need be.
func (d textOf) quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		d.Fatal(err)
	}
	if i := strings.IndexByte(s, 'a'); i >= 0 && d.oneIn(8) {
		return strings.ReplaceAll(string(b), "a", `\u0061`)
	}
	return string(b)
}

func (d textOf) value(p *place) string {
	switch {
	case d.oneIn(100):
		return d.any()
	case d.oneIn(40):
		return "null"
	}
	switch p.kind {
	case placeRecord:
		return "{ " + strings.Join(d.members(p, ""), " , ") + "}"
	case placeMap:
		return d.mapping()
	case placeList:
		return d.list(p)
	case placeText:
		return d.text(p.role)
	case placeJSON:
		return d.embedded()
	case placeBool:
		return d.of("true", "false", "true", "false", `"true"`, `"yes"`)
	case placeDouble:
		return d.of("7.5", "0", "-1e3", "1e308", "1e400", `"8"`)
	case placeTime:
		return d.time(p.role)
	}
	if p.role == roleVersion && !d.oneIn(20) {
		return d.of("1", "7", "2147483648")
	}
	return d.of("1", "7", "-3", "999999999999999999", "1", "2", "-0", "0", "3.0", "9223372036854775807", "9223372036854775808", "1.5", `"5"`, `"x"`)
}

func (d textOf) of(values ...string) string { return rapid.SampledFrom(values).Draw(d.T, "value") }

func (d textOf) mapping() string {
	n := rapid.IntRange(0, 3).Draw(d.T, "entries")
	if d.oneIn(20) {
		n = rapid.SampledFrom([]int{maxEntries, maxEntries + 1, MaxLabels, MaxLabels + 1}).Draw(d.T, "many")
	}
	out := make([]string, n)
	for i := range out {
		name := d.name("k" + strconv.Itoa(i))
		if d.oneIn(40) {
			name = d.name("k0")
		}
		out[i] = name + ":" + d.text(roleNone)
	}
	return "{" + strings.Join(out, ",") + "}"
}

func (d textOf) list(p *place) string {
	n := rapid.IntRange(0, 2).Draw(d.T, "elements")
	switch {
	case d.oneIn(10):
		return d.text(p.role)
	case d.oneIn(20):
		n = rapid.SampledFrom([]int{MaxList, MaxList + 1, MaxLabels, MaxLabels + 1}).Draw(d.T, "many")
	}
	one := d.text(p.role)
	out := slices.Repeat([]string{one}, n)
	if n == 2 {
		out[1] = d.text(p.role)
	}
	return "[" + strings.Join(out, ",") + "]"
}

// text draws a text for a role. Categories and types are mostly such as go together.
func (d textOf) text(r role) string {
	switch {
	case r == roleKind:
		return d.of(`"event"`, `"alert"`, `"state"`, `"event"`, `"even"`)
	case r == roleOutcome:
		return d.of(`"success"`, `"failure"`, `"unknown"`, `"success"`, `"ok"`)
	case r == roleCategory:
		return d.of(`"iam"`, `"iam"`, `"api"`, `"database"`, `"configuration"`, `"x"`)
	case r == roleType:
		return d.of(`"change"`, `"change"`, `"info"`, `"info"`, `"user"`, `"start"`, `"x"`)
	case r != roleNone && !d.oneIn(20):
		return d.quote(rapid.StringMatching(`[!-~]{1,12}`).Draw(d.T, "word"))
	case d.oneIn(10):
		return d.of("5", "-7.5e3", "true", "false", `""`)
	case d.oneIn(30):
		unit := rapid.SampledFrom([]string{"a", "é"}).Draw(d.T, "unit")
		limit := rapid.SampledFrom([]int{MaxEventID, MaxActions, MaxKeyword, MaxProse}).Draw(d.T, "limit")
		return d.quote(strings.Repeat(unit, (limit+rapid.IntRange(-1, 2).Draw(d.T, "about"))/len(unit)))
	}
	return d.quote(text().Draw(d.T, "text"))
}

func (d textOf) embedded() string {
	switch {
	case d.oneIn(3):
		return d.quote(jsonDoc(2).Draw(d.T, "json"))
	case d.oneIn(8):
		return d.of(`"enc:v1:k:AA=="`, `"<xml/>"`, `" 5 "`, `"5 5"`, `""`)
	}
	return d.any()
}

func (d textOf) time(r role) string {
	if r != roleNone && d.oneIn(12) {
		return d.of(`"1999-12-31T23:59:59.999Z"`, `"2000-01-01T00:00:00Z"`, `"2000-01-01T00:59:00+01:00"`, `"2026-11-25T00:00:00Z"`,
			`"2026-11-25T00:00:00.001Z"`, "946684799999", "946684800000", "-62135596800000", "253402300800000", "1", "17954289421230000000")
	}
	return d.of(`"2026-11-23T10:15:42.123Z"`, `"2026-11-23t10:15:42z"`, `"2026-11-23 10:15:42+05:30"`, "1795428942123", "1795428942123",
		`"2026-11-23T10:15:42.123456789Z"`, `"1795428942123"`, `"2026-11-23"`)
}

// BenchmarkCheckAudit is what the API and ingest do with each event.
func BenchmarkCheckAudit(b *testing.B) {
	c, value, now := NewCodec(nil), []byte(benchJSON), checkNow()
	var o Outline
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if err := c.CheckAudit(b.Context(), value, now, &o); err != nil {
			b.Fatal(err)
		}
	}
}
