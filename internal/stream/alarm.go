package stream

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Alarm is something that only a person can mend, or that should have mended
// itself by now. Alarms stand until the cause is gone.
type Alarm struct {
	Stage  string            `json:"stage"`
	Key    string            `json:"key"`  // what it is about, such as audit.events/3
	Kind   string            `json:"kind"` // bounded label
	Detail string            `json:"detail"`
	Since  time.Time         `json:"since"`
	Facts  map[string]string `json:"facts,omitempty"` // what a command needs to answer it

	// Warning says that nothing stands still for it.
	Warning bool `json:"warning,omitempty"`
}

// Alarms holds what is wrong right now; it is safe for concurrent use. They show in
// the log, in /readyz and as the metric sealstream_alarm_active.
type Alarms struct {
	log    *slog.Logger
	active *prometheus.GaugeVec
	now    func() time.Time

	mu sync.Mutex
	m  map[alarmID]Alarm
}

type alarmID struct{ stage, key, kind string }

// NewAlarms registers the metric with reg, which may be nil.
func NewAlarms(log *slog.Logger, reg prometheus.Registerer) *Alarms {
	a := &Alarms{log: log, now: time.Now, m: map[alarmID]Alarm{}, active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sealstream_alarm_active", Help: "Alarms standing now, by stage and kind.",
	}, []string{"stage", "kind"})}
	if reg != nil {
		reg.MustRegister(a.active)
	}
	return a
}

// Raise makes al stand; raising it again only renews its detail.
func (a *Alarms) Raise(al Alarm) {
	a.mu.Lock()
	id := alarmID{al.Stage, al.Key, al.Kind}
	old, standing := a.m[id]
	al.Since = a.now()
	if standing {
		al.Since = old.Since
	}
	a.m[id] = al
	if !standing {
		a.active.WithLabelValues(al.Stage, al.Kind).Inc()
	}
	a.mu.Unlock()
	if !standing || old.Detail != al.Detail {
		level := slog.LevelError
		if al.Warning {
			level = slog.LevelWarn
		}
		a.log.LogAttrs(context.Background(), level, "alarm raised",
			slog.String("stage", al.Stage), slog.String("key", al.Key), slog.String("kind", al.Kind), slog.String("detail", al.Detail))
	}
}

// Clear ends all alarms of a stage about key; kind "" means every kind.
func (a *Alarms) Clear(stage, key, kind string) {
	a.mu.Lock()
	var gone []Alarm
	for id, al := range a.m {
		if id.stage == stage && id.key == key && (kind == "" || id.kind == kind) {
			delete(a.m, id)
			a.active.WithLabelValues(id.stage, id.kind).Dec()
			gone = append(gone, al)
		}
	}
	a.mu.Unlock()
	for _, al := range gone {
		a.log.LogAttrs(context.Background(), slog.LevelInfo, "alarm cleared",
			slog.String("stage", al.Stage), slog.String("key", al.Key), slog.String("kind", al.Kind))
	}
}

// List returns the standing alarms, oldest first.
func (a *Alarms) List() []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Alarm, 0, len(a.m))
	for _, al := range a.m {
		out = append(out, al)
	}
	slices.SortFunc(out, func(x, y Alarm) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Stage, y.Stage), cmp.Compare(x.Key, y.Key), cmp.Compare(x.Kind, y.Kind))
	})
	return out
}
