package upstream

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options says how connections to backends are made and kept.
type Options struct {
	// ConnectTimeout bounds opening a connection, handshake included.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a call; 0: for ever.
	IdleTimeout time.Duration
	// Logger is told when an instance goes down and when it is back. Default
	// slog.Default().
	Logger *slog.Logger
}

// Pool keeps the connections to all instances. Its methods may be called
// concurrently.
type Pool struct {
	opts   Options
	dial   Dial
	ctx    context.Context // ends with Close; bounds dials
	cancel context.CancelFunc
	// running are the goroutines of dials and of the sweeper.
	running sync.WaitGroup

	// instances is replaced, never changed, so that calls of all connections
	// can look into it without a lock.
	instances atomic.Pointer[map[instanceKey]*instance]

	mu       sync.Mutex // held to replace instances, and taken before an instance's
	clusters map[string]*cluster
	sweeping bool
	closed   bool
}

type instanceKey struct{ cluster, address string }

// New starts with no connection and nothing running. Close must be called once
// Acquire or Open has been.
func New(opts Options, dial Dial) *Pool {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{opts: opts, dial: dial, ctx: ctx, cancel: cancel, clusters: make(map[string]*cluster)}
	p.instances.Store(new(map[instanceKey]*instance))
	return p
}

// Open calls open with a connection to address that has a stream reserved on
// it, for open to make. If open returns ErrNotTaken it is called again with
// another connection, a few times at most. Other errors of open are returned as
// they are; an error of the pool's own is a *stream.Failure, see Acquire.
//
// After success the caller releases the connection when the stream has ended;
// after an error there is nothing to release.
func (p *Pool) Open(ctx context.Context, cluster, address string, open func(*Conn) error) error {
	for range openAttempts {
		c, err := p.Acquire(ctx, cluster, address)
		if err != nil {
			return err
		}
		if err = open(c); err == nil {
			return nil
		}
		if !c.transport.Usable() {
			c.Retire()
		}
		c.Release()
		if !errors.Is(err, ErrNotTaken) {
			return err
		}
	}
	return Unreachable(cluster, address, errRetired)
}

// openAttempts is how many connections Open tries, the first included, when
// each was drained just as it got it, and how many Acquire waits for that go
// before they have carried a stream.
const openAttempts = 4

// Acquire returns a connection to address with one stream reserved on it, for
// Conn.Release to give back. It blocks, until ctx ends, while there is no
// connection or none that another stream is allowed on. The error is a
// *stream.Failure made by Unreachable, or of reason overloaded if too many calls
// wait already.
func (p *Pool) Acquire(ctx context.Context, cluster, address string) (*Conn, error) {
	for {
		in, err := p.instance(cluster, address)
		if err != nil {
			return nil, failureOf(cluster, address, err)
		}
		c, err := in.acquire(ctx)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, errForgotten): // just now; there will be another
		default:
			return nil, failureOf(cluster, address, err)
		}
	}
}

// TryAcquire is Acquire for those who cannot wait. It returns nil where Acquire
// would have to, or would fail. Its caller looks after the connection as Open
// does: one that turns out to take no streams is retired before it is released.
func (p *Pool) TryAcquire(cluster, address string) *Conn {
	in := p.find(cluster, address)
	if in == nil {
		return nil
	}
	return in.tryAcquire()
}

// Down reports whether the last attempt to connect to an instance has failed,
// and it has no connection either. It does not block; asking starts the next
// attempt once it is due.
func (p *Pool) Down(cluster, address string) bool {
	in := p.find(cluster, address)
	return in != nil && in.isDown()
}

// find returns nil if no call has asked for the instance yet.
func (p *Pool) find(cluster, address string) *instance {
	return (*p.instances.Load())[instanceKey{cluster, address}]
}

func (p *Pool) instance(cluster, address string) (*instance, error) {
	in := p.find(cluster, address)
	if in != nil {
		return in, nil
	}
	key := instanceKey{cluster, address}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errPoolClosed
	}
	present := *p.instances.Load()
	if in = present[key]; in != nil {
		return in, nil
	}
	if !p.sweeping {
		p.sweeping = true
		p.running.Go(p.sweepUntilClosed) // ends with p.ctx
	}
	c := p.cluster(cluster)
	in = newInstance(c, address, p)
	next := make(map[instanceKey]*instance, len(present)+1)
	maps.Copy(next, present)
	next[key] = in
	p.instances.Store(&next)
	return in, nil
}

func (p *Pool) all() []*instance {
	return slices.Collect(maps.Values(*p.instances.Load()))
}

// Close ends all connections, and with them all streams, refuses new ones, and
// waits until nothing of the pool is left running.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	for _, in := range p.all() {
		in.close()
	}
	p.running.Wait()
}
