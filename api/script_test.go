package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealstream/sealstream/api/auth"
)

// A script is a text of requests and the answers they must get, against the real
// handler. Each file has a fresh server. Lines:
//
//	# comment                     == name of a case: undoes "fake" and "from"
//	limits NAME=N ...             at the top only
//	without verifications         at the top only: there is no store for them
//	as ROLE TENANT | as nobody    whose token the next requests carry
//	from ADDRESS                  the peer
//	fake PART MODE                makes a part misbehave, see fakes_test.go
//	clock +DURATION               lets time pass
//	async               the next request runs while those behind it are made; it
//	    waits in the ingester, which must be faked to "block"
//	await               lets it end; the next "<" is about it
//	body gzip | cut | slow | repeat N   what happens to the next request's body
//	> METHOD TARGET, > Name: value, >, > body ...
//	< STATUS CONTENT-TYPE, < Name: value, <, < body ...    "*" matches any text,
//	    "$name" in a JSON text is bound to what is there, or must equal it;
//	    $name in a request is replaced
//	saw ingest JSON | saw access JSON | saw nothing    what the parts have got since
//	    the last such line, in the order of the requests
type script struct {
	*testing.T
	rig   *rig
	paths map[string]map[string]map[int]bool // method, path template, status: seen
	spec  *spec
	who   string
	from  string
	body  string
	vars  map[string]string
	last  *httptest.ResponseRecorder

	async, running chan *httptest.ResponseRecorder
	seen           struct{ ingest, access int }
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	sp := loadSpec(t)
	seen := map[string]map[string]map[int]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{T: t, spec: sp, paths: seen, from: "192.0.2.7:40000", vars: map[string]string{}}
			s.run(strings.Split(string(text), "\n"))
		})
	}
	if !t.Failed() {
		sp.checkStatuses(t, seen)
	}
}

func (s *script) run(lines []string) {
	limits := Limits{}
	var change []func(*Options)
	var request []string
	title := "start"
	for n := 0; n < len(lines); n++ {
		verb, rest, _ := strings.Cut(lines[n], " ")
		if s.rig == nil && verb != "limits" && verb != "without" && verb != "#" && verb != "" {
			s.rig = newRig(s.T, limits, change...)
		}
		switch verb {
		case "", "#":
		case "limits":
			limits = s.limits(rest)
		case "without":
			change = append(change, func(o *Options) { o.Verifications = nil })
		case "==":
			title = rest
			s.from, s.body = "192.0.2.7:40000", ""
			s.rig.store.mode, s.rig.ingest.mode, s.rig.access.mode, s.rig.health.mode, s.rig.keys.mode, s.rig.jobs.mode = "", "", "", "", "", ""
		case "as":
			s.who = rest
		case "from":
			s.from = rest
		case "body":
			s.body = rest
		case "fake":
			s.fake(rest)
		case "clock":
			d, err := time.ParseDuration(strings.TrimPrefix(rest, "+"))
			if err != nil {
				s.Fatalf("line %d: %v", n+1, err)
			}
			s.rig.advance(d)
		case "async":
			s.async = make(chan *httptest.ResponseRecorder, 1)
			s.rig.ingest.wait, s.rig.ingest.busy = make(chan struct{}), make(chan struct{})
		case "await":
			close(s.rig.ingest.wait)
			s.last = <-s.running
		case ">":
			request = append(request, rest)
			if n+1 >= len(lines) || !strings.HasPrefix(lines[n+1], ">") {
				s.send(request)
				request = nil
			}
		case "<":
			var answer []string
			start := n
			for ; n < len(lines) && strings.HasPrefix(lines[n], "<"); n++ {
				answer = append(answer, strings.TrimPrefix(strings.TrimPrefix(lines[n], "<"), " "))
			}
			n--
			if d := s.compare(answer); d != "" {
				s.Errorf("line %d, %s: answer\n%s", start+1, title, d)
			}
		case "saw":
			if d := s.saw(rest); d != "" {
				s.Errorf("line %d, %s: the parts saw (-want +got)\n%s", n+1, title, d)
			}
		default:
			s.Fatalf("line %d: what is %q?", n+1, lines[n])
		}
	}
}

func (s *script) limits(text string) Limits {
	var l Limits
	for _, f := range strings.Fields(text) {
		name, v, _ := strings.Cut(f, "=")
		n, err := strconv.Atoi(v)
		if err != nil {
			s.Fatalf("limit %s: %v", f, err)
		}
		switch name {
		case "body":
			l.BodyBytes = int64(n)
		case "item":
			l.ItemBytes = n
		case "items":
			l.Items = n
		case "depth":
			l.Depth = n
		case "rate":
			l.Rate = float64(n)
		case "burst":
			l.Burst = n
		case "strangers":
			l.StrangerBurst = n
		default:
			s.Fatalf("limit %s is not known", name)
		}
	}
	return l
}

func (s *script) fake(text string) {
	part, mode, _ := strings.Cut(text, " ")
	switch part {
	case "store":
		s.rig.store.mode = mode
	case "ingest":
		s.rig.ingest.mode = mode
	case "access":
		s.rig.access.mode = mode
	case "health":
		s.rig.health.mode = mode
	case "keys":
		s.rig.keys.mode = mode
	case "jobs":
		s.rig.jobs.mode = mode
	default:
		s.Fatalf("no part %q to fake", part)
	}
}

// slowReader is a peer that stops sending.
type slowReader struct{}

func (slowReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func (s *script) send(lines []string) {
	s.Helper()
	for name, v := range s.vars {
		for n := range lines {
			lines[n] = strings.ReplaceAll(lines[n], "$"+name, v)
		}
	}
	method, target, _ := strings.Cut(lines[0], " ")
	head := slices.Index(lines, "")
	var text string
	if head < 0 {
		head = len(lines)
	} else {
		text = strings.Join(lines[head+1:], "\n")
	}
	var body io.Reader = strings.NewReader(text)
	length := int64(len(text))
	switch how, arg, _ := strings.Cut(s.body, " "); how {
	case "gzip":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		if err := z.Close(); err != nil {
			s.Fatal(err)
		}
		packed := b.Bytes()
		if arg == "cut" {
			packed = packed[:len(packed)-9]
		}
		body, length = bytes.NewReader(packed), int64(len(packed))
	case "cut":
		body, length = io.MultiReader(strings.NewReader(text), errReader{io.ErrUnexpectedEOF}), length+10
	case "slow":
		body, length = io.MultiReader(strings.NewReader(text), slowReader{}), length+10
	case "repeat":
		n, err := strconv.Atoi(arg)
		if err != nil {
			s.Fatal(err)
		}
		text = strings.Repeat(text, n)
		body, length = strings.NewReader(text), int64(len(text))
	}
	s.body = ""
	r := httptest.NewRequestWithContext(s.Context(), method, target, body)
	r.ContentLength, r.RemoteAddr = length, s.from
	if who := strings.Fields(s.who); len(who) == 2 {
		r.Header.Set("Authorization", "Bearer "+s.rig.token(auth.Role(who[0]), who[1]))
	}
	for _, h := range lines[1:head] {
		name, v, _ := strings.Cut(h, ": ")
		if name == "Authorization" {
			r.Header.Del(name)
		}
		r.Header.Add(name, v)
	}
	if s.async != nil {
		s.running, s.async = s.async, nil
		go func(done chan *httptest.ResponseRecorder) { done <- do(s.rig, r) }(s.running)
		<-s.rig.ingest.busy
		return
	}
	s.last = httptest.NewRecorder()
	s.rig.handler.ServeHTTP(s.last, r)
	s.spec.checkAnswer(s.T, method, r.URL.Path, s.last, s.paths)
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func (s *script) compare(want []string) string {
	status, contentType, _ := strings.Cut(want[0], " ")
	if got := strconv.Itoa(s.last.Code); got != status {
		return fmt.Sprintf("status %s, want %s: %s", got, status, s.last.Body)
	}
	if got := s.last.Header().Get("Content-Type"); contentType != "" && got != contentType {
		return fmt.Sprintf("content type %q, want %q", got, contentType)
	}
	head := slices.Index(want, "")
	if head < 0 {
		head = len(want)
	}
	for _, h := range want[1:head] {
		name, v, _ := strings.Cut(h, ": ")
		for bound, is := range s.vars {
			v = strings.ReplaceAll(v, "$"+bound, is)
		}
		if got := s.last.Header().Get(name); got != v {
			return fmt.Sprintf("header %s: %q, want %q", name, got, v)
		}
	}
	if head == len(want) {
		return ""
	}
	return s.compareBody(strings.Join(want[head+1:], "\n"), s.last.Body.String())
}

func (s *script) compareBody(want, got string) string {
	var w, g any
	if json.Unmarshal([]byte(want), &w) != nil {
		pattern := "(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(want), `\*`, ".*") + "$"
		if regexp.MustCompile(pattern).MatchString(strings.TrimSuffix(got, "\n")) {
			return ""
		}
		return cmp.Diff(want, got)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return fmt.Sprintf("not JSON: %v: %s", err, got)
	}
	return cmp.Diff(s.bind(w, g), g)
}

// bind fills the wildcards and variables of want with what got has there.
func (s *script) bind(want, got any) any {
	switch w := want.(type) {
	case string:
		g, isText := got.(string)
		if w == "*" && isText {
			return g
		}
		if name, ok := strings.CutPrefix(w, "$"); ok && isText {
			if v, bound := s.vars[name]; bound {
				return v
			}
			s.vars[name] = g
			return g
		}
	case []any:
		g, _ := got.([]any)
		for n := range min(len(w), len(g)) {
			w[n] = s.bind(w[n], g[n])
		}
	case map[string]any:
		g, _ := got.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(w)) {
			w[k] = s.bind(w[k], g[k])
		}
	}
	return want
}

func (s *script) saw(text string) string {
	part, want, _ := strings.Cut(text, " ")
	ingest, access := s.rig.ingest.got[s.seen.ingest:], s.rig.access.got[s.seen.access:]
	s.seen.ingest, s.seen.access = len(s.rig.ingest.got), len(s.rig.access.got)
	switch part {
	case "nothing":
		return cmp.Diff(0, len(ingest)+len(access))
	case "ingest":
		got := []map[string]any{}
		for _, r := range ingest {
			items := []string{}
			for _, b := range r.Items {
				items = append(items, string(b))
			}
			got = append(got, map[string]any{"stream": r.Stream, "tenant": r.Tenant, "principal": r.Principal, "received": r.ReceivedMs, "items": items})
		}
		return s.compareJSON(want, got)
	case "access":
		return s.compareJSON(want, access)
	}
	s.Fatalf("saw %q?", part)
	return ""
}

func (s *script) compareJSON(want string, got any) string {
	b, err := json.Marshal(got)
	if err != nil {
		s.Fatal(err)
	}
	if !json.Valid([]byte(want)) {
		s.Fatalf("not JSON in the script: %s", want)
	}
	return s.compareBody(want, string(b))
}

func do(r *rig, req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}
