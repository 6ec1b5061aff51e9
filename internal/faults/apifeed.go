package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/sinks"
)

// apiFeed sends events through the API and reads some back, as users do. What the API
// has answered is a promise: an accepted event is durable, and a read of event content
// was written down before its answer.
type apiFeed struct {
	load   *load
	client *http.Client

	mu    sync.Mutex
	ready testbed.Ready
}

func newAPIFeed(l *load, r testbed.Ready) *apiFeed {
	return &apiFeed{load: l, ready: r, client: &http.Client{Timeout: 10 * time.Second}}
}

// moved tells where the API is after a restart.
func (a *apiFeed) moved(r testbed.Ready) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = r
}

// ask makes one request with the token of a role.
func (a *apiFeed) ask(ctx context.Context, method, path, role string, body []byte) (*http.Response, []byte, error) {
	a.mu.Lock()
	ready := a.ready
	a.mu.Unlock()
	token, err := ready.Token(role)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, ready.API+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// postItems is how many events one request carries.
const postItems = 20

// post sends events until ctx ends. A request that fails promises nothing.
func (a *apiFeed) post(ctx context.Context) {
	for pass(ctx, 100*time.Millisecond) == nil {
		var body bytes.Buffer
		for range postItems {
			n, id := a.load.nextID()
			body.Write(auditJSON(id, actionLoad, n))
			body.WriteByte('\n')
		}
		// The request may outlive the load: what it promises still counts.
		resp, answer, err := a.ask(context.WithoutCancel(ctx), http.MethodPost, "/v1/events?stream=audit", "ingest", body.Bytes())
		if err != nil || resp.StatusCode != http.StatusAccepted {
			continue
		}
		var got struct {
			Items []struct {
				ID        string `json:"id"`
				Topic     string `json:"topic"`
				Partition *int32 `json:"partition"`
				Offset    *int64 `json:"offset"`
			} `json:"items"`
		}
		if json.Unmarshal(answer, &got) != nil {
			continue
		}
		for _, it := range got.Items {
			if it.Offset != nil && it.Partition != nil {
				a.load.acknowledged(Ack{ID: it.ID, Partition: sinks.Partition{Topic: it.Topic, ID: *it.Partition}, Offset: *it.Offset})
			}
		}
	}
}

// read asks for events until ctx ends.
func (a *apiFeed) read(ctx context.Context) {
	for pass(ctx, 150*time.Millisecond) == nil {
		resp, _, err := a.ask(context.WithoutCancel(ctx), http.MethodGet, "/v1/events?limit=1", "auditor", nil)
		if err == nil && resp.StatusCode == http.StatusOK {
			a.load.mu.Lock()
			a.load.reads++
			a.load.mu.Unlock()
		}
	}
}

// works makes one request of each kind, to fail early with a reason.
func (a *apiFeed) works(ctx context.Context) error {
	n, id := a.load.nextID()
	resp, answer, err := a.ask(ctx, http.MethodPost, "/v1/events?stream=audit", "ingest", auditJSON(id, actionLoad, n))
	if err != nil {
		return fmt.Errorf("post an event: %w", err)
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("post an event: %s: %s", resp.Status, answer)
	}
	resp, answer, err = a.ask(ctx, http.MethodGet, "/v1/events?limit=1", "auditor", nil)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read events: %s: %s", resp.Status, answer)
	}
	return nil
}
