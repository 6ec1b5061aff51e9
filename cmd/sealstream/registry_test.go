package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sealstream/sealstream/schemas"
)

// What a registry answers decides whether a batch waits for it or is stored with the
// reason that no schema explains it, and that is for good.
func TestRegistryAnswers(t *testing.T) {
	const user = `{\"type\":\"record\",\"name\":\"User\",\"namespace\":\"a\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}]}`
	answers := map[string]struct {
		status int
		body   string
	}{
		"/schemas/ids/1": {200, `{"schema":"\"string\"","schemaType":"AVRO","references":[],"extra":{"a":1}}`},
		"/schemas/ids/2": {404, `{"error_code":40403,"message":"Schema not found"}`},
		"/schemas/ids/3": {404, `<html>no such page</html>`},
		"/schemas/ids/4": {404, `{"error_code":404,"message":"HTTP 404 Not Found"}`},
		"/schemas/ids/5": {401, `{"error_code":40101,"message":"who are you"}`},
		"/schemas/ids/6": {200, `{"schema":"message A {}","schemaType":"PROTOBUF"}`},
		"/schemas/ids/7": {200, `{"schema":"{\"type\":\"record\",\"name\":\"E\",\"fields\":[{\"name\":\"u\",\"type\":\"a.User\"},{\"name\":\"v\",\"type\":\"a.User\"}]}",
			"references":[{"name":"a.User","subject":"u/s","version":3},{"name":"again","subject":"u/s","version":3}]}`},
		"/subjects/u/s/versions/3":    {200, `{"subject":"u/s","version":3,"id":1,"schema":"` + user + `"}`},
		"/schemas/ids/8":              {200, `{"schema":"\"x.Gone\"","references":[{"name":"x.Gone","subject":"gone","version":1}]}`},
		"/subjects/gone/versions/1":   {404, `{"error_code":40402,"message":"Version 1 not found."}`},
		"/schemas/ids/9":              {200, `{"schema":"\"x.Away\"","references":[{"name":"x.Away","subject":"away","version":1}]}`},
		"/subjects/away/versions/1":   {503, ``},
		"/schemas/ids/10":             {200, `{"schema":"{\"type\":\"record\",\"name\":\"E\",\"fields\":[{\"name\":\"u\",\"type\":\"circle.B\"}]}","references":[{"name":"c","subject":"circle","version":1}]}`},
		"/subjects/circle/versions/1": {200, `{"schema":"{\"type\":\"record\",\"name\":\"B\",\"namespace\":\"circle\",\"fields\":[]}","references":[{"name":"c","subject":"circle","version":1}]}`},
	}
	asked := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		a, ok := answers[r.URL.Path]
		if !ok {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	}))
	defer srv.Close()
	cfg := &Config{Registry: RegistryConfig{URL: srv.URL}}
	r, err := cfg.resolver()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id      uint32
		want    string // part of the schema
		unknown bool   // final
		later   string // part of an error after which it is asked again
	}{
		{id: 1, want: `"string"`},
		{id: 2, unknown: true},
		{id: 3, later: "is registry.url right?"},
		{id: 4, later: "is registry.url right?"},
		{id: 5, later: "who are you"},
		{id: 6, unknown: true},
		{id: 7, want: `"type":"string"`},
		{id: 8, unknown: true},
		{id: 9, later: "a subject it refers to"},
		{id: 10, want: `"name":"B"`},
		{id: 1 << 31, unknown: true},
		{id: 1<<32 - 1, unknown: true},
	} {
		text, err := r.Schema(t.Context(), c.id)
		switch {
		case errors.Is(err, schemas.ErrUnknownSchema) != c.unknown:
			t.Errorf("id %d: %v; final: want %v", c.id, err, c.unknown)
		case c.later != "" && (err == nil || !strings.Contains(err.Error(), c.later)):
			t.Errorf("id %d: %v, want %q", c.id, err, c.later)
		case c.want != "" && (err != nil || !strings.Contains(text, c.want)):
			t.Errorf("id %d: %s, %v; want %q", c.id, text, err, c.want)
		}
	}
	if n := asked["/subjects/u/s/versions/3"]; n != 1 {
		t.Errorf("one version was asked for %d times", n)
	}
	if _, err := r.Schema(t.Context(), 7); err != nil || asked["/schemas/ids/7"] != 1 {
		t.Errorf("what was found was asked for %d times (%v)", asked["/schemas/ids/7"], err)
	}
}
