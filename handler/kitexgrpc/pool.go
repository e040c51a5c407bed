package kitexgrpc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// instance keeps the connections to one address.
type instance struct {
	cluster string
	address string
	max     int
	owner   *Backends

	// ready is replaced, never changed, so that picking needs no lock.
	ready   atomic.Pointer[[]*conn]
	waiting atomic.Int64 // calls that wait for changed

	mu      sync.Mutex
	all     map[*conn]struct{} // ready, and retired ones that have not ended
	changed chan struct{}      // closed and replaced when a waiting call may find a connection
	dial    *dial              // the attempt under way, nil for none
	failed  error              // why the last attempt failed, nil if it did not
	retryAt time.Time
	closed  bool
}

func newInstance(key instanceKey, maxConns int, owner *Backends) *instance {
	return &instance{
		cluster: key.cluster, address: key.address, max: maxConns, owner: owner,
		all: make(map[*conn]struct{}), changed: make(chan struct{}),
	}
}

// dial is one attempt to connect that any number of calls wait for.
type dial struct {
	done chan struct{} // closed when the attempt is over
	err  error         // set before done is closed
}

// ended is done, and never for a dial that there is none of.
func (d *dial) ended() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.done
}

// redialPause is how long an instance that refused a connection is answered
// for from memory, so that a burst of calls is not a burst of dials. Short
// enough for a backend that comes back to be found at once.
const redialPause = 100 * time.Millisecond

// busyStreams is how many open streams make a connection busy, so that another
// one is opened if the limit allows. It spreads the load over the connection's
// writer goroutines.
const busyStreams = 50

var (
	errPoolClosed = errors.New("the proxy is shutting down")
	errRetired    = errors.New("the connection went away as it was opened")
)

// acquire returns a connection with one stream reserved on it, for release to
// give back. It blocks while there is no connection, or none that the backend
// allows another stream on.
func (in *instance) acquire(ctx context.Context) (*conn, error) {
	if c := in.pick(); c != nil {
		return c, nil
	}
	in.waiting.Add(1)
	defer in.waiting.Add(-1)
	for {
		changed := in.nextChange() // before looking, so that no change is missed
		if c := in.pick(); c != nil {
			return c, nil
		}
		d, err := in.startDial()
		if err != nil && in.connections() == 0 {
			return nil, err
		}
		select {
		case <-d.ended():
			if d.err != nil && in.connections() == 0 {
				return nil, d.err
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

// release gives back what acquire has reserved.
func (in *instance) release(c *conn) {
	c.lastUse.Store(time.Now().UnixNano())
	c.streams.Add(-1)
	if in.waiting.Load() > 0 {
		in.mu.Lock()
		in.noteChange()
		in.mu.Unlock()
	}
}

// pick reserves a stream on the least busy connection that takes one, and
// returns nil if none does. Where even that one is busy it has another opened
// in the background.
func (in *instance) pick() *conn {
	ready := in.ready.Load()
	if ready == nil {
		return nil
	}
	var best *conn
	var load int64
	for _, c := range *ready {
		if n := c.streams.Load(); n < c.limit && (best == nil || n < load) {
			best, load = c, n
		}
	}
	if best == nil || !best.reserve() {
		return nil
	}
	if load >= busyStreams && len(*ready) < in.max {
		_, _ = in.startDial() // if that fails there is still this one
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
		_, _ = in.startDial() // if that fails, it is down
	}
	return down
}

func (in *instance) connections() int {
	if ready := in.ready.Load(); ready != nil {
		return len(*ready)
	}
	return 0
}

// startDial starts an attempt to connect, or joins the one under way. It returns
// nil if there are as many connections as there may be, and an error if there
// is no point in trying.
func (in *instance) startDial() (*dial, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return nil, errPoolClosed
	case in.dial != nil:
		return in.dial, nil
	case in.connections() >= in.max:
		return nil, nil
	case in.failed != nil && time.Now().Before(in.retryAt):
		return nil, in.failed
	}
	d := &dial{done: make(chan struct{})}
	in.dial = d
	in.owner.running.Go(func() { in.runDial(d) }) // ends within Options.ConnectTimeout
	return d, nil
}

func (in *instance) runDial(d *dial) {
	ctx, cancel := context.WithTimeoutCause(in.owner.ctx, in.owner.opts.ConnectTimeout, errConnectTimeout)
	defer cancel()
	c, err := connect(ctx, in.address, &in.owner.opts, events{retired: in.retire, closed: in.forget})
	in.mu.Lock()
	in.report(err)
	switch {
	case err != nil:
		in.failed, in.retryAt = err, time.Now().Add(redialPause)
	case in.closed:
		err = errPoolClosed
	default:
		in.failed = nil
		in.all[c] = struct{}{}
		in.setReady(append(in.list(), c))
	}
	in.dial = nil
	in.noteChange()
	in.mu.Unlock()
	switch {
	case c != nil && err != nil:
		_ = c.tr.Close(err)
	case c != nil && !active(c.tr):
		// It went away between connect and here, and forget found nothing.
		in.forget(c)
	}
	d.err = err
	close(d.done)
}

// report logs when the instance goes down and when it is back, once each. It
// needs mu.
func (in *instance) report(err error) {
	log := in.owner.opts.Logger
	switch {
	case err != nil && in.failed == nil && in.owner.ctx.Err() == nil:
		log.Warn("a backend instance cannot be reached", "cluster", in.cluster, "instance", in.address, "error", err)
	case err == nil && in.failed != nil:
		log.Info("a backend instance is back", "cluster", in.cluster, "instance", in.address)
	}
}

var errConnectTimeout = errors.New("timed out (timeouts.connect)")

func active(tr grpc.ClientTransport) bool {
	a, ok := tr.(grpc.IsActive)
	return !ok || a.IsActive()
}

// retire takes a connection out of use: no new streams, running ones go on.
func (in *instance) retire(c *conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.leaveReady(c)
}

// forget lets go of a connection that is over.
func (in *instance) forget(c *conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.leaveReady(c)
	delete(in.all, c)
}

// leaveReady needs mu.
func (in *instance) leaveReady(c *conn) {
	c.retired.Store(true)
	in.setReady(slices.DeleteFunc(in.list(), func(other *conn) bool { return other == c }))
	in.noteChange()
}

// list returns a copy of the ready connections that append may grow.
func (in *instance) list() []*conn {
	ready := in.ready.Load()
	if ready == nil {
		return nil
	}
	return append(make([]*conn, 0, len(*ready)+1), *ready...)
}

func (in *instance) setReady(conns []*conn) { in.ready.Store(&conns) }

// sweep ends the connections that nobody reads any more and the retired ones
// whose streams have ended, and retires those without a call for longer than
// idle (0: never). It is called at regular intervals.
func (in *instance) sweep(idle time.Duration) {
	for _, c := range in.everyConn() {
		switch {
		case c.watched.readerGone():
			_ = c.tr.Close(errReaderGone)
		case c.retired.Load() && c.streams.Load() == 0:
			_ = c.tr.Close(errRetired)
		case idle > 0 && c.streams.Load() == 0 && time.Since(c.idleSince()) > idle:
			in.retire(c) // the next sweep ends it, unless a call has come in between
		}
	}
}

// everyConn returns the connections that have not ended, retired ones too.
func (in *instance) everyConn() []*conn {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Collect(maps.Keys(in.all))
}

var errReaderGone = errors.New("the backend's answer could not be read")

// close ends all connections and refuses new ones.
func (in *instance) close() {
	in.mu.Lock()
	in.closed = true
	in.noteChange()
	in.mu.Unlock()
	for _, c := range in.everyConn() {
		_ = c.tr.Close(errPoolClosed)
	}
}
