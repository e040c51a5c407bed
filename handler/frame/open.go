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
// else from a goroutine that waits for one. The caller flushes. It needs mu.
func (c *call) open() {
	address := c.nextInstance()
	if conn := c.relay.Backends.TryAcquire(c.target.Cluster.Name, address); conn != nil {
		if c.openOn(conn, address) == nil {
			return
		}
		if !conn.Transport().Usable() {
			conn.Retire()
		}
		conn.Release()
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.waiting = cancel
	go c.openWaiting(ctx, address) // ends with ctx, or when the call has a connection
}

// openOn opens the call's stream on conn, which stays the caller's after an
// error, and sends what has come of the request. It needs mu.
func (c *call) openOn(conn *upstream.Conn, address string) error {
	a := &c.first
	if a.c != nil {
		a = new(attempt)
	}
	a.c, a.conn, a.address = c, conn, address
	whole := c.request.ended && len(c.request.body) == 0 && c.request.trailers == nil
	s, err := h2grpc.ConnOf(conn).Open(c.request.fields(), whole, a)
	if err != nil {
		return h2grpc.NotOpened(err)
	}
	a.s, c.backend = s, a
	if !whole {
		c.sendBody(a)
	}
	return nil
}

// sendBody sends what has come of the request behind its head. It needs mu.
func (c *call) sendBody(a *attempt) {
	body := c.request.body
	end := c.request.ended && c.request.trailers == nil
	c.sent(a, a.s.WriteData(body, end))
	if len(body) > replayLimit {
		c.request.drop()
	}
	if c.request.trailers != nil {
		c.sendTrailers(a)
	}
}

// sendTrailers ends the request with trailers. It needs mu.
func (c *call) sendTrailers(a *attempt) {
	err := a.s.WriteTrailers(c.request.trailers)
	if errors.Is(err, h2.ErrHeaderList) { // else the backend has ended
		c.fail(stream.AsFailure(h2grpc.NotOpened(err)))
	}
}

// openWaiting opens the call on a connection that it waits for.
func (c *call) openWaiting(ctx context.Context, address string) {
	cluster := c.target.Cluster.Name
	for {
		err := c.relay.Backends.Pool.Open(ctx, cluster, address, func(conn *upstream.Conn) error {
			return c.openUnlessOver(conn, address)
		})
		if err == nil {
			break
		}
		if address = c.notOpened(stream.AsFailure(err)); address == "" {
			break
		}
	}
	c.flush()
}

// notOpened returns the address of the instance that may do better than the one
// that f tells of. If there is none it ends the call, and returns "".
func (c *call) notOpened(f *stream.Failure) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mayTryNext(f) {
		return c.nextInstance()
	}
	c.fail(f)
	return ""
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
			if !c.relay.Backends.Down(cluster.Name, address) {
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
	if !f.Unprocessed || c.request.replay == nil || c.attempts >= max(maxAttempts, instances) {
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
