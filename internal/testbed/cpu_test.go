package testbed

import (
	"testing"
	"time"
)

func TestCPUOfAnEndedProcess(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	idle, busy := start(t, b, "exit 0"), start(t, b, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
	for _, p := range []*Proc{idle, busy} {
		if code, err := p.Wait(ctx); err != nil || code != 0 {
			t.Fatalf("exit code %d, %v", code, err)
		}
	}
	if busy.CPU() < 10*time.Millisecond || idle.CPU() >= busy.CPU() {
		t.Errorf("a busy process took %v, an idle one %v", busy.CPU(), idle.CPU())
	}
}
