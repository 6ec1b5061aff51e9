package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A gate stops the sink's transaction at a chosen place inside the database: a trigger
// waits for a lock that the gate holds. So a fault can strike exactly there, and the
// product needs no hook for it.
type gate struct {
	conn *pgx.Conn
	at   gatePlace
}

type gatePlace string

const (
	// The rows are in the table and the transaction is not committed.
	gateInside gatePlace = "inside the transaction"
	// The sink has said COMMIT and has no answer; when the gate opens, it is committed.
	gateCommit gatePlace = "at the commit"
)

// gateKey is the advisory lock.
const gateKey = 8242466

func (g gatePlace) create() string {
	if g == gateCommit {
		return `CREATE CONSTRAINT TRIGGER faults_gate AFTER UPDATE ON public.sink_offsets DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.faults_gate()`
	}
	return `CREATE TRIGGER faults_gate AFTER INSERT ON public.events FOR EACH STATEMENT EXECUTE FUNCTION public.faults_gate()`
}

func (g gatePlace) drop() string {
	if g == gateCommit {
		return `DROP TRIGGER faults_gate ON public.sink_offsets`
	}
	return `DROP TRIGGER faults_gate ON public.events`
}

// closeGate sets the gate up and waits until the sink stands before it.
func (s *scene) closeGate(ctx context.Context, at gatePlace) (*gate, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.place.postgres)
	if err != nil {
		return nil, fmt.Errorf("gate %s: %w", at, err)
	}
	g := &gate{conn: conn, at: at}
	for _, q := range []string{
		fmt.Sprintf(`CREATE OR REPLACE FUNCTION public.faults_gate() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(%d); RETURN NULL; END $$`, gateKey),
		fmt.Sprintf("SELECT pg_advisory_lock(%d)", gateKey),
		at.create(),
	} {
		if _, err := conn.Exec(ctx, q); err != nil {
			conn.Close(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("gate %s: %w", at, err)
		}
	}
	err = until(ctx, func() (bool, error) {
		var waiting bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted)", gateKey).Scan(&waiting)
		return waiting, err
	})
	if err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("gate %s: no transaction came to it: %w", at, err)
	}
	return g, nil
}

// open lets the transaction go on and takes the gate away. The trigger goes last: its
// table is locked by the transactions that have just been let go.
func (g *gate) open(ctx context.Context) error {
	defer g.conn.Close(context.WithoutCancel(ctx))
	if _, err := g.conn.Exec(ctx, fmt.Sprintf("SELECT pg_advisory_unlock(%d)", gateKey)); err != nil {
		return fmt.Errorf("open the gate %s: %w", g.at, err)
	}
	return nil
}

// dropGate removes the trigger; it waits for transactions that went through it.
func (s *scene) dropGate(ctx context.Context, at gatePlace) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return s.sql(ctx, at.drop())
}
