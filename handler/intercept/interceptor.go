package intercept

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Interceptor is around a call. It is called once for each call, concurrently, in a
// goroutine that waits for it, and may block: it should come back when ctx ends. A
// panic of its own ends its call with INTERNAL, and nothing else: to the interceptors
// outside of it, it has returned that.
//
// It lets the call go on by calling next, once, before it returns, with ctx or a
// context made from it. next returns when the call is to end: with nil for status OK,
// or an error with the status (google.golang.org/grpc/status.FromError knows it). All
// messages have crossed by then, and nothing of the end has. An interceptor that
// returns what next has returned leaves the end as it is; another error is another
// status, as status.FromError sees it, and nil is OK. One that returns without having
// called next ends the call with what it returns, and so does one that does not wait for
// a next that it has called in another goroutine.
type Interceptor func(ctx context.Context, c *Call, next Next) error

// Next has a call go on; see Interceptor. A second call, one at the same time, and one
// after the interceptor has returned do nothing but return an error that says so.
type Next func(ctx context.Context) error

// Guard decides about a call that begins: nil lets it go on, and an error ends it with
// the status that the error has; see Refuse. It is called once for each call,
// concurrently, by goroutines that have other things to do: it must not block. A panic
// ends its call with INTERNAL.
type Guard func(c *Call) error

// Link is one element of what is around calls. Exactly one of Guard and Interceptor is
// set.
type Link struct {
	// Name is what the configuration and messages call it.
	Name        string
	Guard       Guard
	Interceptor Interceptor
}

// Chain returns interceptors as one: each has the next one called by its next, the
// first is outermost. Of one it returns that one; of none, one that calls next.
func Chain(interceptors ...Interceptor) Interceptor {
	switch len(interceptors) {
	case 0:
		return func(ctx context.Context, _ *Call, next Next) error { return next(ctx) }
	case 1:
		return interceptors[0]
	}
	links := make([]Link, len(interceptors))
	for i, f := range interceptors {
		links[i] = Link{Name: fmt.Sprintf("interceptor %d of a chain", i), Interceptor: f}
	}
	return func(ctx context.Context, c *Call, next Next) error {
		return (&walk{call: c, last: next}).through(ctx, links)
	}
}

// AsInterceptor returns a guard as an interceptor, for chains.
func (g Guard) AsInterceptor() Interceptor {
	return func(ctx context.Context, c *Call, next Next) error {
		if err := g(c); err != nil {
			return err
		}
		return next(ctx)
	}
}

// walk is the way of a call through links.
type walk struct {
	call *Call
	last Next   // behind all of them
	left func() // is told that an interceptor has returned before its next has; nil for nobody
}

// through has the call go through links, and then by last.
func (w *walk) through(ctx context.Context, links []Link) error {
	for i := range links {
		if links[i].Interceptor != nil {
			return w.intercept(ctx, &links[i], links[i+1:])
		}
		if err := Ask(w.call, links[i:i+1]); err != nil {
			return err
		}
	}
	return w.last(ctx)
}

// How far an interceptor has come.
const (
	notCalled int32 = iota // its next
	called                 // and has not returned
	returned               // next, or the interceptor
)

// intercept calls the interceptor of a link, and keeps it to the rules of next.
func (w *walk) intercept(ctx context.Context, l *Link, behind []Link) (err error) {
	var next atomic.Int32
	panicked := w.call.safely("interceptor "+l.Name, func() {
		err = l.Interceptor(ctx, w.call, func(ctx context.Context) error {
			switch {
			case !next.CompareAndSwap(notCalled, called):
				return mistake(l, "it has called next twice, or too late")
			case ctx == nil:
				return mistake(l, "it has called next without a context")
			case FromContext(ctx) != w.call:
				return mistake(l, "the context for next does not descend from the one it got")
			}
			err := w.through(ctx, behind)
			next.Store(returned)
			return err
		})
	})
	if next.Swap(returned) == called && w.left != nil {
		w.left()
	}
	if panicked != nil {
		return panicked
	}
	return err
}

func mistake(l *Link, what string) error {
	return &stream.Failure{
		Reason: stream.ProxyInternal, Code: stream.Internal,
		Message: fmt.Sprintf("interceptor %s: %s", l.Name, what),
	}
}

// Guards reports whether all links are guards, so that a call needs no goroutine for
// them.
func Guards(links []Link) bool {
	for i := range links {
		if links[i].Guard == nil {
			return false
		}
	}
	return true
}

// Ask has the guards of links, which are nothing else, decide about c. The error is
// the first that one returns, or a *stream.Failure for one that panics, which is
// logged.
func Ask(c *Call, links []Link) (err error) {
	if c.broken != nil {
		return c.broken
	}
	panicked := c.safely("a guard", func() {
		for i := range links {
			if err = links[i].Guard(c); err != nil {
				return
			}
		}
	})
	if panicked != nil {
		return panicked
	}
	return err
}
