package frame

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// attempt is one stream to a backend for a call. A call that is sent again has
// several, and listens to the last. All is guarded by the call's mu.
type attempt struct {
	c    *call
	conn *upstream.Conn
	s    *h2.Stream
	try
	result   cluster.Result // what has come of it so far
	sent     int            // bytes of the request that have left
	released bool
}

var _ h2.Events = (*attempt)(nil)

func (a *attempt) address() string { return a.instance.Address() }

// current reports whether the call still listens. It needs the call's mu.
func (a *attempt) current() bool { return a.c.backend == a && !a.c.over }

// flush has what the client gets written, after an event of the backend's
// reader. It needs the call's mu, so that s is set.
func (a *attempt) flush() { a.s.Conn().FlushAfterRead(a.c.client.Conn()) }

// Headers implements h2.Events.
func (a *attempt) Headers(fields []hpack.HeaderField, last bool) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.current() {
		return
	}
	defer a.flush()
	if f := h2grpc.CheckResponse(fields, last, c.target.Cluster.Name(), a.address()); f != nil {
		c.fail(f)
		return
	}
	c.request.drop() // the backend has begun
	fields = c.withAdded(fields)
	if err := c.client.WriteHeaders(fields, last); errors.Is(err, h2.ErrHeaderList) {
		c.fail(a.tooLarge())
		return
	}
	c.answered, c.complete = true, last
	if last {
		a.result = tries.ResultOf(h2grpc.CodeOf(fields))
		c.tellAnswered(fields)
	} else {
		c.tellHeader(fields)
	}
}

// Data implements h2.Events.
func (a *attempt) Data(b []byte, last bool) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.current() {
		a.s.Credit(len(b))
		return
	}
	defer a.flush()
	tooLong, before := c.answers.Scan(b, c.maxMessage)
	if c.refusal != nil {
		c.fail(c.refusal)
		return
	}
	c.returned += before
	sent := c.client.WriteData(b[:before], false)
	a.s.CreditWithin(sent, c.share(), sent == before)
	switch {
	case tooLong > 0:
		response := fmt.Sprintf("cluster %q: instance %s: the response", c.target.Cluster.Name(), a.address())
		c.fail(messageTooLarge(response, tooLong, c.maxMessage))
	case last:
		c.fail(a.protocol("the response ends without trailers"))
	}
}

// Trailers implements h2.Events.
func (a *attempt) Trailers(fields []hpack.HeaderField) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.current() {
		return
	}
	defer a.flush()
	if f := h2grpc.CheckTrailers(fields, c.target.Cluster.Name(), a.address()); f != nil {
		c.fail(f)
		return
	}
	if c.answers.Inside() && h2grpc.IsOK(fields) {
		c.fail(a.protocol("the response ends inside a message"))
		return
	}
	if err := c.client.WriteTrailers(fields); errors.Is(err, h2.ErrHeaderList) {
		c.fail(a.tooLarge())
		return
	}
	c.complete = true
	a.result = tries.ResultOf(h2grpc.CodeOf(fields))
	c.tellAnswered(fields)
}

// Sent implements h2.Events: part of the request has left.
func (a *attempt) Sent(n int) {
	c := a.c
	c.mu.Lock()
	if a.current() {
		c.sent(a, n)
	}
	c.mu.Unlock()
	c.client.Conn().Flush()
}

// Closed implements h2.Events.
func (a *attempt) Closed(err error) {
	a.closed(err)
	if err != nil { // else the client has been sent nothing
		a.c.flush()
	}
}

// closed takes in the end of the stream.
func (a *attempt) closed(err error) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer a.release()
	switch {
	case !a.current():
	case err == nil:
		c.end(http2.ErrCodeNo)
	case c.complete:
		c.client.Stop() // behind what the client has not taken yet
		c.end(http2.ErrCodeNo)
	default:
		c.retry(h2grpc.FailureOf(err, c.target.Cluster.Name(), a.address()))
	}
}

// retry sends the call again if no backend has begun it, and ends it with f
// otherwise. It needs mu.
func (c *call) retry(f *stream.Failure) {
	if !c.mayTryNext(f) {
		c.fail(f)
		return
	}
	c.backend.result = tries.ResultOfFailure(f, false)
	c.backend.tellEnd() // before the next one begins
	c.backend = nil
	c.open()
}

func (a *attempt) tooLarge() *stream.Failure {
	return a.protocol("the client does not accept a header list of that size")
}

func (a *attempt) protocol(problem string) *stream.Failure {
	return h2grpc.ProtocolFailure(stream.Internal, problem, a.c.target.Cluster.Name(), a.address())
}
