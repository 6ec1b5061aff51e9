package sinktest

import (
	"testing"

	"github.com/sealstream/sealstream/sinks"
)

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) Fixture {
		m := NewMemory(t)
		opened := false
		return Fixture{Rows: m.Rows, Refuse: m.Refuse, Open: func() sinks.Sink {
			if opened {
				return m.Handle()
			}
			opened = true
			return m
		}}
	})
}
