package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// way is a TCP proxy before a server, or one before each of several, that can be made
// bad. Everything that is set applies to connections that stand, too.
type way struct {
	proxies []*toxiproxy.Proxy
}

// openWay starts proxies; each pair is where to listen and where that leads.
func (s *scene) openWay(pairs ...[2]string) (*way, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log to the global logger
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &way{}
	for i, p := range pairs {
		proxy := toxiproxy.NewProxy(server, fmt.Sprint("way-", i), p[0], p[1])
		if err := proxy.Start(); err != nil {
			return nil, fmt.Errorf("open a way from %s to %s: %w", p[0], p[1], err)
		}
		w.proxies = append(w.proxies, proxy)
	}
	s.bed.AtClose(func() error {
		for _, p := range w.proxies {
			p.Stop()
		}
		return nil
	})
	return w, nil
}

// toxic is one way in which a way is bad. Up is from client to server.
type toxic struct {
	name   string
	kind   string // toxiproxy's
	up     bool
	values map[string]int
}

// The bad ways.
func lateBy2s() []toxic {
	return []toxic{{name: "late", kind: "latency", values: map[string]int{"latency": 2000}}}
}

func narrow() []toxic {
	return []toxic{{name: "narrow-down", kind: "bandwidth", values: map[string]int{"rate": 64}},
		{name: "narrow-up", kind: "bandwidth", up: true, values: map[string]int{"rate": 64}}}
}

// reset ends each connection some milliseconds after the next request has begun.
func reset(after int) []toxic {
	return []toxic{{name: "reset", kind: "reset_peer", up: true, values: map[string]int{"timeout": after}}}
}

// cutOff lets so many bytes of answers through on each connection, then ends it.
func cutOff(bytes int) []toxic {
	return []toxic{{name: "cut", kind: "limit_data", values: map[string]int{"bytes": bytes}}}
}

// blackHole swallows everything in both directions and ends no connection.
func blackHole() []toxic {
	return []toxic{{name: "hole-down", kind: "timeout", values: map[string]int{"timeout": 0}},
		{name: "hole-up", kind: "timeout", up: true, values: map[string]int{"timeout": 0}}}
}

// spoil makes the way bad.
func (w *way) spoil(toxics []toxic) error {
	for _, p := range w.proxies {
		for _, t := range toxics {
			stream := "downstream"
			if t.up {
				stream = "upstream"
			}
			raw, err := json.Marshal(map[string]any{"name": t.name, "type": t.kind, "stream": stream, "attributes": t.values})
			if err != nil {
				return err
			}
			if _, err := p.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
				return fmt.Errorf("make a way bad by %s: %w", t.name, err)
			}
		}
	}
	return nil
}

// mend makes the way good again. Connections from which data was taken end.
func (w *way) mend(ctx context.Context) {
	for _, p := range w.proxies {
		p.Toxics.ResetToxics(ctx)
	}
}

// shut refuses and ends all connections; reopen ends that.
func (w *way) shut() {
	for _, p := range w.proxies {
		p.Stop()
	}
}

func (w *way) reopen() error {
	var errs []error
	for _, p := range w.proxies {
		errs = append(errs, p.Start())
	}
	return errors.Join(errs...)
}
