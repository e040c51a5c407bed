package frame

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// call is one call on its way.
type call struct {
	relay  *Relay
	client *h2.Stream
	target *resolver.Target
	// maxMessage is the longest message in bytes that is let through; 0: any.
	maxMessage uint32

	// mu is held while an event is handled. Streams are used with it held,
	// never flushed.
	mu       sync.Mutex
	request  request
	requests stream.Scanner
	answers  stream.Scanner
	backend  *attempt // nil while there is none
	tries    tries.Tries
	received int                // bytes of the request that have come
	credited int                // and those that the client has been credited
	returned int                // bytes of the response that have been passed on
	waiting  context.CancelFunc // ends the wait for a connection; nil for none
	answered bool               // the head of the response has been passed on
	complete bool               // and its end
	entered  bool               // it is counted in at its cluster
	over     bool
	byRoute  bool // the timer is the route's, not the client's
	timer    *time.Timer

	around  *intercept.Call // nil if nothing is around the call
	refusal *stream.Failure // of a message, by a link; the first

	first attempt // to have no other allocation for the usual case
}

func newCall(r *Relay, s *h2.Stream, target *resolver.Target) *call {
	c := &call{relay: r, client: s, target: target, maxMessage: r.MaxMessage}
	if target.MaxMessage > 0 {
		c.maxMessage = target.MaxMessage
	}
	return c
}

// enter counts the call in. It reports false if the call has been ended, because
// there are too many. It needs mu.
func (c *call) enter() bool {
	if f := tries.Enter(c.target.Cluster); f != nil {
		c.fail(f)
		return false
	}
	c.entered = true
	return true
}

// setDeadline starts the clock of a call that has a deadline. It reports false
// if the call has been ended, for a deadline that is none. It needs mu.
func (c *call) setDeadline() bool {
	left := c.target.Timeout
	c.byRoute = left > 0
	if i := c.request.timeout; i >= 0 {
		v := c.request.head[i].Value
		d, ok := h2grpc.ParseTimeout(v)
		if !ok {
			c.fail(h2grpc.MalformedTimeout(v))
			return false
		}
		if !c.byRoute || d <= left {
			left, c.byRoute = d, false
		}
	} else if !c.byRoute {
		return true
	}
	c.request.endBy(left, c.byRoute)
	c.timer = time.AfterFunc(left, c.expire)
	return true
}

// expire is what the timer does.
func (c *call) expire() {
	cluster := c.target.Cluster.Name()
	f := &stream.Failure{
		Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded,
		Message: fmt.Sprintf("deadline exceeded before cluster %q had finished", cluster),
	}
	if c.byRoute {
		f.Reason = stream.RouteTimeout
		f.Message = fmt.Sprintf("the call took longer than its route to cluster %q allows (%v)", cluster, c.target.Timeout)
	}
	c.abort(f)
}

// abort ends the call with f, from any goroutine.
func (c *call) abort(f *stream.Failure) {
	c.mu.Lock()
	c.fail(f)
	c.mu.Unlock()
	c.flush()
}

// flush has what both ends get written. It is for those who are in nobody's
// reader, and called without mu.
func (c *call) flush() {
	c.mu.Lock()
	backend := c.backend
	c.mu.Unlock()
	c.client.Conn().Flush()
	if backend != nil {
		backend.s.Conn().Flush()
	}
}

// fail ends the call with f, unless it is over. It needs mu.
func (c *call) fail(f *stream.Failure) {
	if c.over {
		return
	}
	if c.backend != nil {
		c.backend.result = tries.ResultOfFailure(f, c.request.ended && !c.answered)
	}
	var err error
	t := f.Trailer()
	switch {
	case c.complete:
	case f.Reset != nil:
		c.client.Reset(http2.ErrCode(*f.Reset))
	case c.answered:
		err = c.client.WriteTrailers(h2grpc.TrailerFields(t))
	default:
		err = c.client.WriteHeaders(c.withAdded(h2grpc.TrailersOnlyFields(t, c.request.contentType)), true)
	}
	c.tellEnd(t)
	if errors.Is(err, h2.ErrHeaderList) {
		c.client.Reset(http2.ErrCodeInternal)
	}
	c.client.Stop()
	c.end(http2.ErrCodeCancel)
}

// end lets go of everything but the client's stream. code goes to the backend,
// if its stream is still open. It needs mu.
func (c *call) end(code http2.ErrCode) {
	if c.over {
		return
	}
	c.over = true
	c.tellEnd(givenUp)
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.waiting != nil {
		c.waiting()
	}
	if c.backend != nil {
		c.backend.reset(code)
	}
	if c.entered {
		c.target.Cluster.Leave()
	}
	c.request.drop()
	// The client may have to get rid of its request before it reads the answer.
	c.creditUpTo(c.received)
	c.relay.calls.end(c)
}

// sent credits the client n bytes that a backend's stream has taken: once, even
// if they have to be sent again. It needs mu.
func (c *call) sent(a *attempt, n int) {
	a.sent += n
	c.creditUpTo(a.sent)
}

// share is how large a window of the call may be: what a client's calls hold is
// bounded for all of them, however many they are.
func (c *call) share() int64 {
	return c.relay.MaxHeld / int64(max(1, c.client.Conn().Streams()))
}

// creditUpTo credits the client the first n bytes of its request, as far as they
// have not been. It needs mu.
func (c *call) creditUpTo(n int) {
	if n > c.credited {
		c.client.CreditWithin(n-c.credited, c.share(), n == c.received)
		c.credited = n
	}
}
