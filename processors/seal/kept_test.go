package seal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/processors/seal"
)

// restored is a fold of 10 records of the source that in describes.
func restored(t testing.TB, k *ledger.Keyring, in processors.Input, recs []ledger.Record) processors.Fold {
	t.Helper()
	f, err := seal.New(seal.Options{Name: name, Keys: k}).Restore(in, outputOf(recs))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Whoever may commit offsets of the group cannot hide a loss by what he writes there.
func TestKeptIsBelievedOnlyFromUs(t *testing.T) {
	k := keys(t, 1)
	p := seal.New(seal.Options{Name: name, Keys: k})
	recs := sealed(t, p, 10)
	genuine := restored(t, k, input(10), recs).Keep(25)
	mac := genuine[strings.LastIndexByte(genuine, ':')+1:]
	otherTopic, otherPartition := input(10), input(10)
	otherTopic.TopicID, otherPartition.Partition = ledger.TopicID{9}, 1
	other := func(in processors.Input) string {
		f, err := p.Restore(in, outputOf(nil))
		if err != nil {
			t.Fatal(err)
		}
		return f.Keep(25)
	}
	in := input(40)
	in.Start, in.Committed = 25, 10
	for _, c := range []struct {
		what, kept string
		keys       *ledger.Keyring
		lost       bool
	}{
		{"genuine", genuine, k, false},
		{"nothing", "", k, true},
		{"without a MAC", "seen 1000000", k, true},
		{"an empty MAC", "seen 25 1:", k, true},
		{"raised", "seen 1000000 1:" + mac, k, true},
		{"lowered", "seen 24 1:" + mac, k, true},
		{"another key id", "seen 25 2:" + mac, keys(t, 1, 2), true},
		{"key id 0", "seen 25 0:" + mac, k, true},
		{"another word", "Seen 25 1:" + mac, k, true},
		{"trailing NUL", genuine + "\x00", k, true},
		{"trailing line", genuine + "\n", k, true},
		{"trailing word", genuine + " 1", k, true},
		{"leading blank", " " + genuine, k, true},
		{"capital digits", strings.ToUpper(genuine), k, true},
		{"sign", strings.Replace(genuine, "25", "+25", 1), k, true},
		{"leading zero", strings.Replace(genuine, "25", "025", 1), k, true},
		{"cut", genuine[:len(genuine)-1], k, true},
		{"of another topic id", other(otherTopic), k, true},
		{"of another partition", other(otherPartition), k, true},
		{"of an older head", restored(t, k, input(10), recs[:len(recs)-1]).Keep(25), k, true},
		{"of another master", restored(t, otherKeys(t), input(10), sealed(t, seal.New(seal.Options{Name: name, Keys: otherKeys(t)}), 10)).Keep(25), k, true},
		{"rotated, the old master is held", genuine, keys(t, 1, 2), false},
	} {
		in.Kept = c.kept
		if lost := restored(t, c.keys, in, recs).Lost(); (lost != nil) != c.lost {
			t.Errorf("%s: lost %v", c.what, lost)
		}
	}
}

// A master that is gone vouches for nothing, and without masters nothing is kept.
func TestKeptNeedsItsMaster(t *testing.T) {
	recs := sealed(t, seal.New(seal.Options{Name: name}), 10) // unsalted, so any keyring may go on
	in := input(40)
	in.Start, in.Committed = 25, 10
	in.Kept = restored(t, keys(t, 1), input(10), recs).Keep(25)
	for _, c := range []struct {
		keys *ledger.Keyring
		lost bool
	}{{keys(t, 1), false}, {keys(t, 1, 2), false}, {keys(t, 2), true}, {nil, true}} {
		if lost := restored(t, c.keys, in, recs).Lost(); (lost != nil) != c.lost {
			t.Errorf("%v: lost %v", c.keys, lost)
		}
	}
	if text := restored(t, nil, input(10), recs).Keep(25); text != "" {
		t.Errorf("kept without masters: %q", text)
	}
	if text := restored(t, keys(t, 1, 2), input(10), recs).Keep(25); !strings.HasPrefix(text, "seen 25 2:") {
		t.Errorf("kept under another master than the active one: %q", text)
	}
}

func FuzzKept(f *testing.F) {
	k := keys(f, 1)
	recs := sealed(f, seal.New(seal.Options{Name: name, Keys: k}), 3)
	genuine := restored(f, k, input(3), recs).Keep(25)
	for _, s := range []string{genuine, "", "seen 1000000", "seen 25 1:", genuine + "\x00", "seen -1 1:00", fmt.Sprint("seen 25 ", uint64(1)<<40, ":")} {
		f.Add(s)
	}
	in := input(40)
	in.Start, in.Committed = 25, 3
	f.Fuzz(func(t *testing.T, text string) {
		in.Kept = text
		if lost := restored(t, k, in, recs).Lost(); lost == nil && text != genuine {
			t.Fatalf("believed %q", text)
		}
	})
}
