package kitexgrpc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// instance keeps the connections to one address.
type instance struct {
	address string
	max     int
	owner   *Backends

	// ready is replaced, never changed, so that picking needs no lock.
	ready atomic.Pointer[[]*conn]

	mu      sync.Mutex
	dial    *dial // the attempt under way, nil for none
	failed  error // why the last attempt failed, nil if it did not
	retryAt time.Time
	closed  bool
}

// dial is one attempt to connect that any number of calls wait for.
type dial struct {
	done chan struct{} // closed when the attempt is over
	err  error         // set before done is closed
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

// acquire returns a connection with one stream counted on it; release gives
// the stream back. It blocks while there is no connection at all.
func (in *instance) acquire(ctx context.Context) (*conn, error) {
	for range 3 {
		if c := in.pick(); c != nil {
			c.streams.Add(1)
			return c, nil
		}
		if err := in.waitForDial(ctx); err != nil {
			return nil, err
		}
	}
	return nil, errRetired
}

// pick returns the least busy connection, nil if there is none. Where even
// that one is busy it has another opened in the background.
func (in *instance) pick() *conn {
	ready := in.ready.Load()
	if ready == nil || len(*ready) == 0 {
		return nil
	}
	best, load := (*ready)[0], (*ready)[0].streams.Load()
	for _, c := range (*ready)[1:] {
		if n := c.streams.Load(); n < load {
			best, load = c, n
		}
	}
	if len(*ready) < in.max && (load >= busyStreams || best.full()) {
		in.startDial()
	}
	return best
}

// waitForDial starts an attempt to connect, or joins the one under way, and
// waits for its end.
func (in *instance) waitForDial(ctx context.Context) error {
	d, err := in.startDial()
	if err != nil {
		return err
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (in *instance) startDial() (*dial, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return nil, errPoolClosed
	case in.dial != nil:
		return in.dial, nil
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
	c, err := connect(ctx, in.address, &in.owner.opts, events{onRetired: in.retire})
	in.mu.Lock()
	switch {
	case err != nil:
		in.failed, in.retryAt = err, time.Now().Add(redialPause)
	case in.closed:
		err = errPoolClosed
	default:
		in.failed = nil
		in.setReady(append(in.list(), c))
	}
	in.dial = nil
	in.mu.Unlock()
	if c != nil && err == nil && !active(c.tr) {
		// It went away between connect and here, and retire found nothing.
		in.retire(c)
	}
	if c != nil && err != nil {
		_ = c.tr.Close(err)
	}
	d.err = err
	close(d.done)
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
	in.remove(c)
}

// remove needs in.mu.
func (in *instance) remove(c *conn) {
	old := in.list()
	kept := make([]*conn, 0, len(old))
	for _, other := range old {
		if other != c {
			kept = append(kept, other)
		}
	}
	in.setReady(kept)
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

// sweep ends the connections that nobody reads any more, and those without a
// call for longer than idle (0: never). It is called at regular intervals.
func (in *instance) sweep(idle time.Duration) {
	for _, c := range in.list() {
		switch {
		case c.watched.readerGone():
			_ = c.tr.Close(errReaderGone)
		case idle > 0 && c.streams.Load() == 0 && time.Since(c.idleSince()) > idle:
			in.retire(c)
			c.tr.GracefulClose()
		}
	}
}

var errReaderGone = errors.New("the backend's answer could not be read")

// close ends all connections and refuses new ones.
func (in *instance) close() {
	in.mu.Lock()
	in.closed = true
	conns := in.list()
	in.mu.Unlock()
	for _, c := range conns {
		_ = c.tr.Close(errPoolClosed)
	}
}
