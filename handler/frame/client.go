package frame

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

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
	c.received += len(b)
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
	if n, _ := c.requests.Scan(b, c.maxMessage); n > 0 {
		c.fail(messageTooLarge("the request", n, c.maxMessage))
	} else if last && c.requests.Inside() {
		c.fail(&stream.Failure{
			Reason: stream.RequestMalformed, Code: stream.Internal, Message: "the request ends inside a message",
		})
	}
	if c.refusal != nil {
		c.fail(c.refusal)
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
	if c.over || !c.checkRequest(nil, true) {
		return
	}
	c.request.ended = true
	c.request.trailers = append([]hpack.HeaderField{}, fields...)
	if c.backend != nil {
		c.sendTrailers(c.backend)
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
		backend.s.CreditWithin(n, c.share(), false)
		backend.s.Conn().Flush()
	}
}

// Closed implements h2.Events.
func (f *fromClient) Closed(err error) {
	c := (*call)(f)
	c.mu.Lock()
	backend := c.backend
	code, given := c.givenUp(err)
	if given {
		c.end(code)
	}
	c.mu.Unlock()
	if given && backend != nil {
		backend.s.Conn().Flush()
	}
}

// givenUp says with which code the end of the client's stream resets the
// backend's, and reports false if it does not. It needs mu.
func (c *call) givenUp(err error) (http2.ErrCode, bool) {
	if err == nil {
		// The backend has answered. One that does not take the rest of the
		// request might do so for ever.
		return http2.ErrCodeNo, c.backend != nil && c.backend.sent < c.received
	}
	var reset *h2.ResetError
	if errors.As(err, &reset) && reset.Reason == "" {
		return reset.Code, true
	}
	return http2.ErrCodeCancel, true
}

func messageTooLarge(name string, length, limit uint32) *stream.Failure {
	return &stream.Failure{
		Reason: stream.MessageTooLarge, Code: stream.ResourceExhausted,
		Message: fmt.Sprintf("%s: a message of %d bytes exceeds the proxy's limit of %d bytes (limits.message, or message_limit of the route)", name, length, limit),
	}
}
