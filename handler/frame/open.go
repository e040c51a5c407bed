package frame

import (
	"context"
	"errors"

	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// maxAttempts bounds how often a call is sent. Each instance of a cluster gets
// one at least.
const maxAttempts = 5

// open sends the call to the next instance: at once if there is a connection,
// else from a goroutine that waits for one. It returns the connection to flush,
// nil for none yet. It needs mu.
func (c *call) open() *h2.Conn {
	address := c.nextInstance()
	conn := c.relay.backends.TryAcquire(c.target.Cluster.Name, address)
	if conn != nil && c.openOn(conn, address) == nil {
		return c.backend.s.Conn()
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.waiting = cancel
	go c.openWaiting(ctx, address) // ends with ctx, or when the call has a connection
	return nil
}

// openOn opens the call's stream on conn and sends what has come of the
// request, or gives conn back. It needs mu.
func (c *call) openOn(conn *upstream.Conn, address string) error {
	a := &c.first
	if c.attempts > 1 || a.c != nil {
		a = new(attempt)
	}
	a.c, a.conn, a.address = c, conn, address
	hc := h2grpc.ConnOf(conn)
	whole := c.request.ended && len(c.request.kept) == 0 && c.request.trailers == nil
	s, err := hc.Open(c.request.fields(), whole, a)
	if err != nil {
		if !hc.Usable() {
			conn.Retire()
		}
		conn.Release()
		return h2grpc.NotOpened(err)
	}
	a.s, c.backend = s, a
	if !whole {
		c.sendKept(s, a)
	}
	return nil
}

func (c *call) sendKept(s *h2.Stream, a *attempt) {
	end := c.request.ended && c.request.trailers == nil
	if len(c.request.kept) > 0 || end {
		c.sent(a, s.WriteData(c.request.kept, end))
	}
	if c.request.trailers != nil {
		_ = s.WriteTrailers(c.request.trailers) // if that fails, the backend has ended
	}
	if len(c.request.kept) > replayLimit {
		c.request.drop()
	}
}

// openWaiting opens the call on a connection that it waits for.
func (c *call) openWaiting(ctx context.Context, address string) {
	cluster := c.target.Cluster.Name
	for {
		err := c.relay.backends.Pool.Open(ctx, cluster, address, func(conn *upstream.Conn) error {
			return c.openUnlessOver(conn, address)
		})
		c.mu.Lock()
		if err == nil || c.over {
			backend := c.backend
			c.mu.Unlock()
			if backend != nil && backend.s != nil {
				backend.s.Conn().Flush()
			}
			return
		}
		f := stream.AsFailure(err)
		if !c.mayTryNext(f) {
			c.fail(f)
			c.mu.Unlock()
			c.client.Conn().Flush()
			return
		}
		address = c.nextInstance()
		c.mu.Unlock()
	}
}

var errOver = errors.New("the call is over")

func (c *call) openUnlessOver(conn *upstream.Conn, address string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errOver
	}
	return c.openOn(conn, address)
}

// nextInstance picks the instance to ask: the next in turn that is not known to
// be down, or just the next if all are. It needs mu.
func (c *call) nextInstance() string {
	cluster := c.target.Cluster
	turn := c.attempts + c.passed
	c.attempts++
	if n := cluster.Instances(); n > 1 {
		for i := range n {
			address := cluster.Pick(c.start, turn+i)
			if !c.relay.backends.Down(cluster.Name, address) {
				c.passed += i
				return address
			}
		}
	}
	return cluster.Pick(c.start, turn)
}

// mayTryNext reports whether another instance may do better than the one that
// f tells of. One that does not answer is not asked twice. It needs mu.
func (c *call) mayTryNext(f *stream.Failure) bool {
	instances := c.target.Cluster.Instances()
	if !f.Unprocessed || c.request.dropped || c.over || c.attempts >= max(maxAttempts, instances) {
		return false
	}
	return f.Reason != stream.BackendUnreachable || c.attempts < instances
}

// reset ends the backend's stream, if it has not ended, and gives the connection
// back. It needs the call's mu.
func (a *attempt) reset(code http2.ErrCode) {
	a.s.Reset(code)
	a.release()
}

// release gives the connection back, once. It needs the call's mu.
func (a *attempt) release() {
	if !a.released {
		a.released = true
		a.conn.Release()
	}
}
