package intercept

import (
	"context"
	"slices"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Carry has a call that is served go through links, and then by carry, and has ended
// it when it returns. in and what carry gets are the same call: carry must end it as
// a relay does.
func Carry(in stream.Inbound, c *Call, links []Link, carry func(in stream.Inbound)) {
	l := &layer{Inbound: in, call: c}
	if Guards(links) {
		if err := Ask(c, links); err != nil {
			in.Finish(TrailerOf(err))
			return
		}
		l.goOnAs(in.Context())
		carry(l)
		return
	}
	l.captured = make(chan *stream.Trailer, 1)
	w := walk{call: c, left: l.leave, last: func(ctx context.Context) error { return l.next(ctx, carry) }}
	err := errExited
	defer func() {
		in.Finish(l.endOf(err))
		l.carried.Wait()
		l.letGo()
	}()
	if c.broken != nil {
		err = c.broken
		return
	}
	err = w.through(in.Context(), links)
}

// errExited is for an interceptor that ends its goroutine (runtime.Goexit).
var errExited error = &stream.Failure{
	Reason: stream.ProxyInternal, Code: stream.Internal, Message: "an interceptor has ended its goroutine",
}

// layer is the inbound stream of a call behind its links.
type layer struct {
	stream.Inbound // before them
	call           *Call
	ctx            context.Context
	req            stream.Request
	unwatch        []func() bool      // ends the watch over ctx and what it is made of
	cancel         context.CancelFunc // ends ctx; nil if that is not of the layer's making

	captured chan *stream.Trailer // gets the first end, for the interceptors; nil if there are none
	carried  sync.WaitGroup       // by a goroutine that ends with the call, which its end sees to

	mu   sync.Mutex
	left bool   // the interceptors wait for the end no more
	last *ended // the end that they have been told of; nil for none
}

// Context implements stream.Inbound.
func (l *layer) Context() context.Context { return l.ctx }

// Request implements stream.Inbound.
func (l *layer) Request() *stream.Request { return &l.req }

// Finish implements stream.Inbound. The end goes to the interceptors if there are any:
// what they make of it ends the call for the client.
func (l *layer) Finish(t *stream.Trailer) {
	if l.captured == nil {
		l.Inbound.Finish(t)
		return
	}
	select {
	case l.captured <- t:
	default: // it is not the first
	}
}

// next is the next of the innermost interceptor.
func (l *layer) next(ctx context.Context, carry func(in stream.Inbound)) error {
	if !l.begin(ctx, carry) {
		return errTooLate
	}
	t := <-l.captured
	l.mu.Lock()
	defer l.mu.Unlock()
	end := &ended{t}
	if !l.left {
		l.last = end
		l.call.trailer.Begin(slices.Clone(t.Metadata))
	}
	if t.Status.Code == stream.OK {
		return nil
	}
	return end
}

// errTooLate is for a next that is called when the call has ended.
var errTooLate = &stream.Failure{
	Reason: stream.ProxyInternal, Code: stream.Internal, Message: "an interceptor has called next after the end of the call",
}

// begin has the call carried with ctx. It reports false if it has ended already.
func (l *layer) begin(ctx context.Context, carry func(in stream.Inbound)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return false
	}
	l.goOnAs(ctx)
	l.carried.Go(func() {
		if err := l.call.safely("a relay", func() { carry(l) }); err != nil {
			l.Finish(TrailerOf(err))
		}
	})
	return true
}

// goOnAs has the call go on with ctx and with what links have made of the request.
func (l *layer) goOnAs(ctx context.Context) {
	l.req = *l.Inbound.Request()
	if md, changed := l.call.ChangedHeader(); changed {
		l.req.Metadata = slices.Clone(md)
	}
	if l.ctx = ctx; ctx.Done() != l.Inbound.Context().Done() {
		l.watch(ctx)
	}
}

// watch has the call end with a context that an interceptor has made, and that end with
// the call, of which it need not know (context.WithoutCancel).
func (l *layer) watch(ctx context.Context) {
	call := l.Inbound.Context()
	both, cancel := context.WithCancelCause(ctx)
	l.ctx, l.cancel = both, func() { cancel(nil) }
	l.unwatch = append(l.unwatch,
		context.AfterFunc(call, func() { cancel(endOfContext(call)) }),
		context.AfterFunc(ctx, func() {
			if call.Err() == nil {
				l.Finish(TrailerOf(endOfContext(ctx)))
			}
		}))
}

// endOfContext returns how a call ends because of a context that has ended.
func endOfContext(ctx context.Context) error {
	cause := context.Cause(ctx)
	if cause == context.DeadlineExceeded {
		return &stream.Failure{
			Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded, Message: "deadline exceeded before the call had ended",
		}
	}
	return cause
}

// letGo ends the watch over contexts.
func (l *layer) letGo() {
	for _, stop := range l.unwatch {
		stop()
	}
	if l.cancel != nil {
		l.cancel()
	}
}

// leave notes that interceptors do not wait for the call's end any more.
func (l *layer) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = true
}

// endOf says how the call ends when its interceptors have returned err.
func (l *layer) endOf(err error) *stream.Trailer {
	l.leave()
	c, last := l.call, l.last
	if last == nil {
		return TrailerOf(err)
	}
	defer c.trailer.Seal()
	if err == error(last) || err == nil && last.trailer.Status.Code == stream.OK {
		t := *last.trailer
		t.Metadata = c.trailer.Fields()
		return &t
	}
	t := *TrailerOf(err)
	kept := slices.DeleteFunc(slices.Clone(c.trailer.Fields()), func(f stream.Field) bool { return f.Key == stream.ReasonKey })
	t.Metadata = append(kept, t.Metadata...)
	return &t
}
