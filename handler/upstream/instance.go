package upstream

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// instance keeps the connections to one address.
type instance struct {
	cluster string
	address string
	max     int
	pool    *Pool

	// ready is replaced, never changed, so that picking needs no lock.
	ready   atomic.Pointer[[]*Conn]
	waiting atomic.Int64 // the length of line

	mu      sync.Mutex
	all     map[*Conn]struct{} // ready, and retired ones that have not ended
	line    []*place           // the calls that wait, the first of them for changed
	changed chan struct{}      // closed and replaced when that one may find a connection
	attempt *attempt           // to connect, the one under way, nil for none
	failed  error              // why the last attempt failed, nil if it did not
	retryAt time.Time
	closed  bool
}

func newInstance(key instanceKey, maxConns int, pool *Pool) *instance {
	return &instance{
		cluster: key.cluster, address: key.address, max: maxConns, pool: pool,
		all: make(map[*Conn]struct{}), changed: make(chan struct{}),
	}
}

// busyStreams is how many open streams make a connection busy, so that another
// one is opened if the limit allows. It spreads the load over the goroutines
// that serve connections.
const busyStreams = 50

// acquire returns a connection with one stream reserved on it. It blocks while
// there is no connection, or none that the backend allows another stream on.
func (in *instance) acquire(ctx context.Context) (*Conn, error) {
	if c := in.tryAcquire(); c != nil {
		return c, nil
	}
	p := in.join()
	defer in.quit(p)
	select {
	case <-p.turn:
		return in.await(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// tryAcquire returns nil where acquire would have to wait. It does not push in
// front of those who do.
func (in *instance) tryAcquire() *Conn {
	if in.waiting.Load() > 0 {
		return nil
	}
	return in.pick()
}

// await is acquire for the first in the line.
func (in *instance) await(ctx context.Context) (*Conn, error) {
	var a *attempt // the one that was waited for last
	for wasted := 0; ; {
		changed := in.nextChange() // before looking, so that no change is missed
		if c := in.pick(); c != nil {
			return c, nil
		}
		if a.wasted() {
			wasted++
		}
		if wasted == openAttempts {
			return nil, errRetired
		}
		var err error
		if a, err = in.connect(); err != nil && in.connections() == 0 {
			return nil, err
		}
		select {
		case <-a.ended():
			if a.err != nil && in.connections() == 0 {
				return nil, a.err
			}
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (in *instance) nextChange() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.changed
}

// noteChange needs mu.
func (in *instance) noteChange() {
	close(in.changed)
	in.changed = make(chan struct{})
}

// wake has the calls that wait look again. What they are to find must be there
// before.
func (in *instance) wake() {
	if in.waiting.Load() > 0 {
		in.mu.Lock()
		in.noteChange()
		in.mu.Unlock()
	}
}

// pick reserves a stream on the least busy connection that takes one, and
// returns nil if none does. Where even that one is busy it has another opened
// in the background.
func (in *instance) pick() *Conn {
	ready := in.ready.Load()
	if ready == nil {
		return nil
	}
	var best *Conn
	var load int64
	for _, c := range *ready {
		if n := c.streams.Load(); n < c.limit.Load() && (best == nil || n < load) {
			best, load = c, n
		}
	}
	if best == nil || !best.reserve() {
		return nil
	}
	if load >= busyStreams && len(*ready) < in.max {
		_, _ = in.connect() // if that fails there is still this one
	}
	return best
}

// isDown reports whether there is no connection because the last attempt has
// failed, and starts another one when it is time.
func (in *instance) isDown() bool {
	if in.connections() > 0 {
		return false
	}
	in.mu.Lock()
	down := in.failed != nil
	in.mu.Unlock()
	if down {
		_, _ = in.connect() // if that fails, it is down
	}
	return down
}

// connections is how many there are that take new streams.
func (in *instance) connections() int {
	if ready := in.ready.Load(); ready != nil {
		return len(*ready)
	}
	return 0
}

// add lists a new connection. Its transport may have told of its end already:
// one that is over is not listed at all, one that is retired is only watched.
// It needs mu.
func (in *instance) add(c *Conn) {
	if c.over {
		return
	}
	in.all[c] = struct{}{}
	if !c.retired.Load() {
		in.setReady(append(in.list(), c))
	}
}

// forget lets go of a connection that is over.
func (in *instance) forget(c *Conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c.over = true
	in.leaveReady(c)
	delete(in.all, c)
}

// leaveReady needs mu.
func (in *instance) leaveReady(c *Conn) {
	c.retired.Store(true)
	in.setReady(slices.DeleteFunc(in.list(), func(other *Conn) bool { return other == c }))
	in.noteChange()
}

// list returns a copy of the ready connections that append may grow.
func (in *instance) list() []*Conn {
	ready := in.ready.Load()
	if ready == nil {
		return nil
	}
	return append(make([]*Conn, 0, len(*ready)+1), *ready...)
}

func (in *instance) setReady(conns []*Conn) { in.ready.Store(&conns) }

// everyConn returns the connections that have not ended, retired ones too.
func (in *instance) everyConn() []*Conn {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Collect(maps.Keys(in.all))
}

// close ends all connections and refuses new ones.
func (in *instance) close() {
	in.mu.Lock()
	in.closed = true
	in.noteChange()
	in.mu.Unlock()
	for _, c := range in.everyConn() {
		c.transport.Close(errPoolClosed)
	}
}
