package frame

import (
	"context"
	"errors"

	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// open sends the call to the next instance: at once if there is a connection,
// else from a goroutine that waits for one. The caller flushes. It needs mu.
func (c *call) open() {
	next, ok := c.nextTry()
	if !ok {
		return
	}
	if conn := c.relay.Backends.TryAcquire(c.target.Cluster.Name(), next.instance.Address()); conn != nil {
		if c.openOn(conn, next) == nil {
			return
		}
		if !conn.Transport().Usable() {
			conn.Retire()
		}
		conn.Release()
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.waiting = cancel
	go c.openWaiting(ctx, next) // ends with ctx, or when the call has a connection
}

// nextTry counts the call in at the next instance. If there is none it ends the call,
// and reports false. It needs mu.
func (c *call) nextTry() (try, bool) {
	name := c.target.Cluster.Name()
	instance, f := c.tries.Next(func(address string) bool { return c.relay.Backends.Down(name, address) })
	if f != nil {
		c.fail(f)
		return try{}, false
	}
	return c.newTry(instance), true
}

// openOn opens the call's stream on conn, which stays the caller's after an
// error, and sends what has come of the request. It needs mu.
func (c *call) openOn(conn *upstream.Conn, to try) error {
	a := &c.first
	if a.c != nil {
		a = new(attempt)
	}
	a.c, a.conn, a.try = c, conn, to
	whole := c.request.ended && len(c.request.body) == 0 && c.request.trailers == nil
	s, err := h2grpc.ConnOf(conn).Open(c.request.fieldsFor(&to), whole, a)
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
func (c *call) openWaiting(ctx context.Context, to try) {
	for more := true; more; {
		err := c.relay.Backends.Pool.Open(ctx, c.target.Cluster.Name(), to.instance.Address(), func(conn *upstream.Conn) error {
			return c.openUnlessOver(conn, to)
		})
		if err == nil {
			break
		}
		f := stream.AsFailure(err)
		result := tries.ResultOfFailure(f, false)
		if ctx.Err() != nil { // which says nothing of the instance
			result = cluster.Unknown
		}
		to.end(result)
		to, more = c.notOpened(f)
	}
	c.flush()
}

// notOpened returns the instance that may do better than the one that f tells of.
// If there is none it ends the call, and reports false.
func (c *call) notOpened(f *stream.Failure) (to try, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return try{}, false
	}
	if c.mayTryNext(f) {
		return c.nextTry()
	}
	c.fail(f)
	return try{}, false
}

var errOver = errors.New("the call is over")

func (c *call) openUnlessOver(conn *upstream.Conn, to try) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errOver
	}
	return c.openOn(conn, to)
}

// mayTryNext reports whether another instance may do better than the one that
// f tells of. It needs mu.
func (c *call) mayTryNext(f *stream.Failure) bool {
	return c.request.replay != nil && c.tries.MayGoOn(f)
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
		a.try.end(a.result)
	}
}
