package intercept

import (
	"context"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Watch returns a call's inbound stream that tells c of what happens to the call, for
// those who carry it by streams. FromContext finds c by the context of that.
func Watch(in stream.Inbound, c *Call) stream.Inbound {
	w := &watched{Inbound: in, call: c, ctx: &callContext{in.Context(), c}}
	w.received.Each = w.each(filter.Request, &w.refused) // links may yet ask to be told
	w.sent.Each = w.each(filter.Response, &w.unsent)
	return w
}

// watched is an inbound stream that something is around.
type watched struct {
	stream.Inbound
	call *Call
	ctx  context.Context

	received stream.Scanner // the reader's
	refused  error          // of a message that has come; the reader's
	sent     stream.Scanner // the writer's
	unsent   error          // of a message for the client; the writer's

	mu       sync.Mutex
	headed   bool // the head of the response has been written
	finished bool
}

// each returns what a scanner tells of messages. The first error goes to err.
func (w *watched) each(d filter.Direction, err *error) func(byte, uint32) {
	return func(flag byte, length uint32) {
		if *err == nil {
			*err = w.call.Message(Message{Direction: d, Compressed: flag != 0, Length: int(length)})
		}
	}
}

// Context implements stream.Inbound.
func (w *watched) Context() context.Context { return w.ctx }

// Read implements stream.Inbound.
func (w *watched) Read(p []byte) error {
	if err := w.Inbound.Read(p); err != nil {
		return err
	}
	w.call.scan(filter.Request, &w.received, p)
	if w.refused != nil {
		return FailureOf(w.refused)
	}
	return nil
}

// Write implements stream.Inbound.
func (w *watched) Write(b []byte) error {
	w.call.scan(filter.Response, &w.sent, b)
	if w.unsent != nil {
		return FailureOf(w.unsent)
	}
	return w.Inbound.Write(b)
}

// scan counts what crosses.
func (c *Call) scan(d filter.Direction, s *stream.Scanner, b []byte) {
	before := s.Messages()
	_, _ = s.Scan(b, 0)
	c.Crossed(d, int64(s.Messages()-before), int64(len(b)))
}

// FailureOf returns what ends a call as an error of a link says.
func FailureOf(err error) *stream.Failure {
	t := TrailerOf(err)
	return &stream.Failure{
		Reason: stream.Reason(t.Metadata.Get(stream.ReasonKey)), Code: t.Status.Code, Message: t.Status.Message, Details: t.Status.Details,
	}
}

// WriteHeader implements stream.Inbound.
func (w *watched) WriteHeader(h *stream.Header) error {
	w.mu.Lock()
	w.headed = true
	w.mu.Unlock()
	if more := w.call.ResponseHeader(); len(more) > 0 {
		added := *h
		added.Metadata = append(append(stream.Metadata{}, h.Metadata...), more...)
		h = &added
	}
	w.call.WroteHeader(h.Metadata)
	return w.Inbound.WriteHeader(h)
}

// Finish implements stream.Inbound. The client is told of the same end as observers.
func (w *watched) Finish(t *stream.Trailer) {
	w.mu.Lock()
	headed, again := w.headed, w.finished
	w.finished = true
	w.mu.Unlock()
	if again {
		return
	}
	if more := w.call.ResponseHeader(); !headed && len(more) > 0 { // the head and the end are one
		added := *t
		added.Metadata = append(append(stream.Metadata{}, more...), t.Metadata...)
		t = &added
	}
	w.call.End(t)
	w.Inbound.Finish(t)
}

// callKey is the key of a *Call in contexts.
type callKey struct{}

// FromContext returns the call that ctx is of, nil if it is of none that anything is
// around: for interceptors, directors and filters.
func FromContext(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// callContext ends with a call, and has the values that observers have made.
type callContext struct {
	context.Context // of the call
	call            *Call
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return c.call
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.call.Context().Value(key)
}

// afterFuncer is a context that needs no goroutine for others to end with it.
type afterFuncer interface {
	AfterFunc(f func()) (stop func() bool)
}

// AfterFunc has f called in a goroutine of its own when the call ends; package context
// asks for it.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	if a, ok := c.Context.(afterFuncer); ok {
		return a.AfterFunc(f)
	}
	return context.AfterFunc(c.Context, f)
}
