package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
)

// BootConfig is the broker setting under which any Kafka client finds the
// boot id of the broker it talks to. A member that sees another boot than the
// one it began with makes a new client: the broker it knew has died, and with
// it all transactions that were open.
const BootConfig = "sealstream.boot"

// brokerListeners is how many listeners ("brokers") the one process has.
// Three, because a Kafka client compresses and fetches once per broker: one
// listener would leave a core idle.
const brokerListeners = 3

// defaultFsyncEvery is how often changed files are brought to disk.
const defaultFsyncEvery = 100 * time.Millisecond

// BrokerOptions says where and how the embedded broker runs.
type BrokerOptions struct {
	// Dir keeps everything the broker knows. It is created with mode 0700
	// and belongs to one process at a time.
	Dir string
	// Ports are the ports of the three listeners, on 127.0.0.1; nil means
	// three zeros. 0 picks a free port below the ephemeral range once and
	// keeps it for all later starts, because clients find the broker by it.
	Ports []int
	// FsyncEvery is the time between two group fsyncs; 0 means 100 ms.
	FsyncEvery time.Duration
	// Log gets state changes and alarms, never the content of a record.
	Log *slog.Logger
	// Registerer gets the broker's metrics; nil keeps them out of sight.
	Registerer prometheus.Registerer
}

func (o *BrokerOptions) check() error {
	if o.Dir == "" {
		return errors.New("broker: Dir is empty: give the directory that keeps the broker's data")
	}
	if o.Log == nil {
		return errors.New("broker: Log is nil")
	}
	if o.Ports == nil {
		o.Ports = make([]int, brokerListeners)
	}
	if len(o.Ports) != brokerListeners {
		return fmt.Errorf("broker: %d ports given, want %d", len(o.Ports), brokerListeners)
	}
	if o.FsyncEvery < 0 {
		return fmt.Errorf("broker: FsyncEvery is %v, want 0 (the default) or more", o.FsyncEvery)
	}
	if o.FsyncEvery == 0 {
		o.FsyncEvery = defaultFsyncEvery
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("broker: data directory %s: %w", o.Dir, err)
	}
	o.Dir = dir
	return nil
}

// Broker is a running embedded broker.
type Broker struct {
	log     *slog.Logger
	dir     string
	boot    string
	id      identity
	lock    *dirLock
	cluster *kfake.Cluster
	sync    *syncer
	guard   *guard
	floors  *floors
	stop    context.CancelFunc
	wg      sync.WaitGroup
	once    sync.Once
	closed  error
}

// StartBroker opens the data directory, repairs what a crash left in it and
// answers Kafka clients when it returns. ctx bounds the start only.
func StartBroker(ctx context.Context, o BrokerOptions) (*Broker, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &Broker{log: o.Log.With("part", "broker"), dir: o.Dir, boot: ulid.Make().String()}
	var err error
	if b.lock, err = lockDir(o.Dir); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := b.start(ctx, &o); err != nil {
		b.lock.release()
		return nil, fmt.Errorf("broker in %s: %w", o.Dir, err)
	}
	return b, nil
}

// start does everything that needs the lock.
func (b *Broker) start(ctx context.Context, o *BrokerOptions) error {
	var err error
	if b.id, err = loadIdentity(b.dir); err != nil {
		return err
	}
	wasClean, err := b.takeCleanMark()
	if err != nil {
		return err
	}
	if err := b.repair(ctx, wasClean); err != nil {
		return err
	}
	m := newBrokerMetrics(o.Registerer)
	b.guard = newGuard(b.logDir(), b.log, m)
	lns, err := listen(o.Ports, b.id.Ports, b.guard.failed)
	if err != nil {
		return err
	}
	defer lns.closeUnused()
	b.id.Ports = lns.ports()
	if err := b.id.save(b.dir); err != nil {
		return err
	}
	b.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(brokerListeners),
		kfake.Ports(lns.ports()...),
		kfake.ListenFn(lns.take),
		kfake.ClusterID(b.id.Cluster),
		kfake.DataDir(b.logDir()),
		kfake.BrokerConfigs(brokerSettings(b.boot)),
		kfake.WithLogger(&kfakeLog{log: b.log, broken: b.guard.fail}),
	)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := b.guard.fatal(); err != nil { // kfake threw away a part of what it read
		b.cluster.Close()
		return err
	}
	b.guard.install(b.cluster, b.floors)
	// Reading the log back at start leaves garbage of the size of what was
	// read; it goes back to the machine now rather than minutes later.
	debug.FreeOSMemory()
	b.sync = newSyncer(b.logDir(), o.FsyncEvery, m)
	// The first pass covers everything: what a killed process had written
	// but not synced, and what the repair changed. Nobody has been
	// answered yet, so a failure here is a failed start.
	if err := b.sync.pass(); err != nil {
		b.cluster.Close()
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.wg.Go(func() { b.sync.run(run, b.guard.fail) })
	b.wg.Go(func() { b.guard.watchSpace(run) })
	lns.open() // only now: every request is to meet the hooks
	b.log.InfoContext(ctx, "embedded broker started", "boot", b.boot, "cluster_id", b.id.Cluster, "ports", b.id.Ports)
	return nil
}

// logDir is the directory that belongs to kfake alone.
func (b *Broker) logDir() string { return filepath.Join(b.dir, "log") }

// Addrs are the host:port of the three listeners.
func (b *Broker) Addrs() []string {
	addrs := make([]string, 0, len(b.id.Ports))
	for _, p := range b.id.Ports {
		addrs = append(addrs, loopback(p))
	}
	return addrs
}

// Boot is the ULID of this start; see BootConfig.
func (b *Broker) Boot() string { return b.boot }

// ClusterID is random and stays the same for the life of the data directory.
func (b *Broker) ClusterID() string { return b.id.Cluster }

// Synced returns nil once a group fsync that began after the call has ended:
// everything the broker acknowledged before the call is then on disk. After
// one failed fsync it returns that failure for ever, since the kernel may have
// dropped the pages it could not write and a later success proves nothing.
func (b *Broker) Synced(ctx context.Context) error {
	if err := b.sync.wait(ctx); err != nil {
		return err
	}
	// A write that failed before the caller was answered shows here.
	return b.guard.fatal()
}

// Failed is closed when the broker can no longer keep what it is given: a
// failed fsync, or a write that kfake could not do. It answers nobody from
// then on. The process must stop; the next start repairs.
func (b *Broker) Failed() <-chan struct{} { return b.guard.failed }

// Err is the reason why Failed is closed, ErrDiskFull while the disk has too
// little room for more records, else nil.
func (b *Broker) Err() error { return b.guard.err() }

// Close ends the broker, brings everything to disk and gives the directory
// back. Clients should be gone by then. It may be called more than once.
func (b *Broker) Close() error {
	b.once.Do(func() { b.closed = b.close() })
	return b.closed
}

func (b *Broker) close() error {
	defer b.lock.release()
	b.cluster.Close()
	b.stop()
	b.wg.Wait()
	err := b.guard.fatal()
	if err == nil {
		err = b.sync.pass()
	}
	b.sync.end(errors.New("the broker is closed"))
	if err != nil {
		// Without the mark the next start repairs the directory as
		// after a crash, which is the right thing after a failed write.
		return fmt.Errorf("broker in %s: close: %w", b.dir, err)
	}
	if err := writeFileSync(b.cleanMark(), []byte(b.boot+"\n")); err != nil {
		return fmt.Errorf("broker in %s: close: %w", b.dir, err)
	}
	b.log.InfoContext(context.Background(), "embedded broker stopped", "boot", b.boot)
	return nil
}

func (b *Broker) cleanMark() string { return filepath.Join(b.dir, "clean") }

// takeCleanMark tells whether the last stop was clean, and removes the mark
// before anything can change, so that a crash from here on is seen as one.
func (b *Broker) takeCleanMark() (bool, error) {
	err := os.Remove(b.cleanMark())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove the clean-stop mark: %w", explain(err))
	}
	return true, syncDir(b.dir)
}
