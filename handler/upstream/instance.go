package upstream

import (
	"context"
	"crypto/tls"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// instance keeps the connections to one address.
type instance struct {
	cluster *cluster
	address string
	pool    *Pool

	// ready is replaced, never changed, so that picking needs no lock.
	ready   atomic.Pointer[[]*Conn]
	waiting atomic.Int64 // the length of line
	// usualLimit is how many streams the backend has allowed last.
	usualLimit atomic.Int64

	mu       sync.Mutex
	all      map[*Conn]struct{} // ready, and retired ones that have not ended
	line     []*place           // the calls that wait, the first of them for changed
	changed  chan struct{}      // closed and replaced when that one may find a connection
	attempts []*attempt         // to connect, those under way
	failed   error              // why the last attempt failed, nil if it did not
	retryAt  time.Time
	dials    int64 // attempts so far
	failures int64 // those that failed
	wasted   int64 // connections that went before they carried a stream
	closed   bool
	tls      *tls.Config // of new connections; nil: plaintext
	gone     bool        // the cluster has it no longer
	removed  bool        // and nor has the pool
}

// newInstance needs the pool's mu.
func newInstance(c *cluster, address string, pool *Pool) *instance {
	in := &instance{
		cluster: c, address: address, pool: pool, gone: !c.keeps(address), tls: c.encryption(address),
		all: make(map[*Conn]struct{}), changed: make(chan struct{}),
	}
	in.usualLimit.Store(math.MaxInt64)
	return in
}

// busyStreams is how many open streams make a connection busy, so that another
// one is opened if the limit allows. It spreads the load over the goroutines
// that serve connections.
const busyStreams = 50

// acquire returns a connection with one stream reserved on it. It blocks while
// there is no connection, or none that another stream is allowed on.
func (in *instance) acquire(ctx context.Context) (*Conn, error) {
	if c := in.tryAcquire(); c != nil {
		return c, nil
	}
	p, err := in.join()
	if err != nil {
		return nil, err
	}
	defer in.quit(p)
	select {
	case <-p.turn:
		return in.await(ctx, p)
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
func (in *instance) await(ctx context.Context, p *place) (*Conn, error) {
	for {
		changed := in.nextChange() // before looking, so that no change is missed
		if c := in.pick(); c != nil {
			return c, nil
		}
		if err := in.seek(p); err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// seek opens what the line needs, or says why the first in it waits in vain: an
// attempt has failed since it came and no other is under way, say.
func (in *instance) seek(p *place) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	alone := in.connections() == 0 && len(in.attempts) == 0
	switch {
	case in.closed:
		return errPoolClosed
	case in.wasted-p.wasted >= openAttempts:
		return errRetired
	case alone && in.failed != nil && in.failures > p.failures:
		return in.failed
	}
	if err := in.expand(); alone {
		return err
	}
	return nil
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
	o := in.cluster.options.Load()
	limit := o.streams()
	for {
		ready := in.readyConns()
		best, load := leastBusy(ready, limit)
		if best == nil {
			return nil
		}
		if !best.reserve(limit) {
			continue // others were faster
		}
		if load >= busyStreams && len(ready) < o.connections() {
			in.widen()
		}
		return best
	}
}

// leastBusy returns the connection with the fewest streams that takes one more,
// and how many it has; nil if none does.
func leastBusy(conns []*Conn, limit int64) (best *Conn, load int64) {
	for _, c := range conns {
		if n := c.streams.Load(); n < c.most(limit) && (best == nil || n < load) {
			best, load = c, n
		}
	}
	return best, load
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
		in.widen()
	}
	return down
}

// readyConns returns the connections that take new streams. The slice is
// read-only.
func (in *instance) readyConns() []*Conn {
	if ready := in.ready.Load(); ready != nil {
		return *ready
	}
	return nil
}

// connections is how many there are that take new streams.
func (in *instance) connections() int { return len(in.readyConns()) }

// reconsider takes in that the cluster's options, or its instances, may have
// changed: connections that are no longer as they are to be are retired. New ones are
// encrypted with config.
func (in *instance) reconsider(keep bool, config *tls.Config) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gone, in.tls = !keep, config
	in.retryAt = time.Time{} // it may go well now
	for _, c := range in.list() {
		if in.gone || c.tls != config {
			in.leaveReady(c)
		}
	}
	in.noteChange()
}

// remove takes the instance out of use for good, if the cluster has it no longer
// and nothing is left of it.
func (in *instance) remove() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.gone || len(in.all)+len(in.attempts)+len(in.line) > 0 {
		return false
	}
	in.removed = true
	return true
}

// lose takes a connection out of use whose transport is to take no new streams.
// It needs mu.
func (in *instance) lose(c *Conn) {
	if !c.retired.Load() && c.opened.Load() == 0 && c.listed(in) {
		in.wasted++
	}
	in.leaveReady(c)
}

// forget lets go of a connection that is over.
func (in *instance) forget(c *Conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c.over = true
	in.lose(c)
	delete(in.all, c)
}

// leaveReady retires a connection. It needs mu.
func (in *instance) leaveReady(c *Conn) {
	c.retired.Store(true)
	in.setReady(slices.DeleteFunc(in.list(), func(other *Conn) bool { return other == c }))
	in.noteChange()
}

// list returns a copy of the ready connections that append may grow.
func (in *instance) list() []*Conn {
	ready := in.readyConns()
	return append(make([]*Conn, 0, len(ready)+1), ready...)
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
