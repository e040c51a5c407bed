package frame

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// call is one call on its way.
type call struct {
	relay  *Relay
	client *h2.Stream
	target *resolver.Target
	start  uint32 // where in the cluster the call began

	// mu is held while an event is handled. Streams are used with it held,
	// never flushed.
	mu       sync.Mutex
	request  request
	requests scanner
	answers  scanner
	backend  *attempt // nil while there is none
	attempts int
	passed   int                // instances passed over, because they are down
	credited int                // bytes of the request that the client has been credited
	waiting  context.CancelFunc // ends the wait for a connection; nil for none
	answered bool               // the head of the response has been passed on
	complete bool               // and its end
	over     bool
	timer    *time.Timer

	first attempt // to have no other allocation for the usual case
}

func newCall(r *Relay, s *h2.Stream, target *resolver.Target) *call {
	return &call{relay: r, client: s, target: target, start: target.Cluster.Start()}
}

// setDeadline starts the clock of a call that has a deadline. It reports false
// if the call has been ended, for a deadline that is none. It needs mu.
func (c *call) setDeadline() bool {
	var late *stream.Failure
	left := c.target.Timeout
	if left > 0 {
		late = &stream.Failure{
			Reason: stream.RouteTimeout, Code: stream.DeadlineExceeded,
			Message: fmt.Sprintf("the call took longer than its route to cluster %q allows (%v)", c.target.Cluster.Name, left),
		}
	}
	if i := c.request.timeout; i >= 0 {
		v := c.request.head[i].Value
		d, ok := h2grpc.ParseTimeout(v)
		if !ok {
			c.fail(h2grpc.MalformedTimeout(v))
			return false
		}
		if late == nil || d <= left {
			left = d
			late = &stream.Failure{
				Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded,
				Message: fmt.Sprintf("deadline exceeded before cluster %q had finished", c.target.Cluster.Name),
			}
		}
	}
	if late == nil {
		return true
	}
	c.request.arrived = time.Now()
	c.request.deadline = c.request.arrived.Add(left)
	if c.request.timeout < 0 {
		c.request.timeout = len(c.request.head)
		c.request.head = append(c.request.head, hpack.HeaderField{Name: "grpc-timeout", Value: h2grpc.FormatTimeout(left)})
	}
	c.timer = time.AfterFunc(left, func() { c.abort(late) })
	return true
}

// abort ends the call with f, from any goroutine.
func (c *call) abort(f *stream.Failure) {
	c.mu.Lock()
	c.fail(f)
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
	var err error
	switch {
	case c.complete:
	case f.Reset != nil:
		c.client.Reset(http2.ErrCode(*f.Reset))
	case c.answered:
		err = c.client.WriteTrailers(h2grpc.TrailerFields(f.Trailer()))
	default:
		err = c.client.WriteHeaders(h2grpc.TrailersOnlyFields(f.Trailer(), c.contentType()), true)
	}
	if errors.Is(err, h2.ErrHeaderList) {
		c.client.Reset(http2.ErrCodeInternal)
	}
	c.client.Stop()
	c.end(http2.ErrCodeCancel)
}

// contentType is the client's, in which a local answer answers. It needs mu.
func (c *call) contentType() string {
	for i := range c.request.head {
		if c.request.head[i].Name == "content-type" {
			return c.request.head[i].Value
		}
	}
	return "application/grpc"
}

// end lets go of everything but the client's stream. code goes to the backend,
// if its stream is still open. It needs mu.
func (c *call) end(code http2.ErrCode) {
	if c.over {
		return
	}
	c.over = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.waiting != nil {
		c.waiting()
	}
	if c.backend != nil {
		c.backend.reset(code)
	}
	c.request.drop()
	c.relay.calls.end(c)
}

// fromClient is a call as the client's stream sees it.
type fromClient call

var _ h2.Events = (*fromClient)(nil)

// Headers implements h2.Events; a client sends no response.
func (f *fromClient) Headers([]hpack.HeaderField, bool) {}

// Data implements h2.Events.
func (f *fromClient) Data(b []byte, last bool) {
	c := (*call)(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		c.client.Credit(len(b))
		return
	}
	if !c.checkRequest(b, last) {
		return
	}
	c.request.ended = last
	c.request.keep(b, c.backend == nil)
	if c.backend != nil {
		c.sent(c.backend, c.backend.s.WriteData(b, last))
		c.client.Conn().FlushAfterRead(c.backend.s.Conn())
	}
}

// checkRequest looks at a part of the request, and ends the call if that breaks
// a rule. It needs mu.
func (c *call) checkRequest(b []byte, last bool) bool {
	if n := c.requests.scan(b, c.relay.maxMessage); n > 0 {
		c.fail(messageTooLarge("the request", n, c.relay.maxMessage))
	} else if last && c.requests.inside() {
		c.fail(&stream.Failure{
			Reason: stream.RequestMalformed, Code: stream.Internal, Message: "the request ends inside a message",
		})
	}
	if !c.over {
		return true
	}
	if c.backend != nil {
		c.client.Conn().FlushAfterRead(c.backend.s.Conn()) // it has been reset
	}
	return false
}

// Trailers implements h2.Events. gRPC knows none of a request; they are passed
// on as they came.
func (f *fromClient) Trailers(fields []hpack.HeaderField) {
	c := (*call)(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.request.ended = true
	c.request.trailers = append([]hpack.HeaderField{}, fields...)
	if c.backend != nil {
		_ = c.backend.s.WriteTrailers(c.request.trailers) // if that fails, the backend has ended
		c.client.Conn().FlushAfterRead(c.backend.s.Conn())
	}
}

// Sent implements h2.Events: part of the response has left.
func (f *fromClient) Sent(n int) {
	c := (*call)(f)
	c.mu.Lock()
	backend := c.backend
	c.mu.Unlock()
	if backend != nil {
		backend.s.Credit(n)
		backend.s.Conn().Flush()
	}
}

// Closed implements h2.Events.
func (f *fromClient) Closed(err error) {
	c := (*call)(f)
	c.mu.Lock()
	backend := c.backend
	if err != nil {
		code := http2.ErrCodeCancel
		var reset *h2.ResetError
		if errors.As(err, &reset) && reset.Reason == "" {
			code = reset.Code
		}
		c.end(code)
	}
	c.mu.Unlock()
	if err != nil && backend != nil {
		backend.s.Conn().Flush()
	}
}

// sent credits the client n bytes that a backend's stream has taken: once, even
// if they have to be sent again. It needs mu.
func (c *call) sent(a *attempt, n int) {
	if a.sent += n; a.sent > c.credited {
		c.client.Credit(a.sent - c.credited)
		c.credited = a.sent
	}
}
