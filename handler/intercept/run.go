package intercept

import (
	"cmp"
	"context"
	"net/http"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Run has something that is no gRPC call, but is told of as one, go through links, and
// then by last, whose error is its end. ctx is the call's; last gets one that ends before
// Run returns, and has returned by then. Run returns what the links make of that.
//
// A panic ends nothing but the call. If last panics with http.ErrAbortHandler, which is
// no mistake but how a response is broken off, c is ended and Run panics so, too: for
// what Failed says, or as it is the client's doing.
func Run(ctx context.Context, c *Call, links []Link, last Next) error {
	if c.broken != nil {
		return c.broken
	}
	ctx, cancel := context.WithCancel(&callContext{ctx, c})
	r := runner{call: c, last: last, end: cancel}
	w := walk{call: c, last: r.next}
	err := w.through(ctx, links)
	if r.close() {
		c.End(r.failure.Trailer())
		panic(http.ErrAbortHandler)
	}
	return err
}

// Failed says how what Run calls last has failed, whatever that returns afterwards, and
// if it panics with http.ErrAbortHandler.
func (c *Call) Failed(f *stream.Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.makeExtra().failure = f
}

// brokenOff is the end of a call whose response has been broken off for no other reason.
var brokenOff = &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: "the response has been broken off"}

// runner calls what is behind the links, if they do so in time.
type runner struct {
	call *Call
	last Next
	end  context.CancelFunc

	running sync.WaitGroup // last
	mu      sync.Mutex
	closed  bool
	aborted bool
	failure *stream.Failure // of one that is aborted
}

// next is the next of the innermost interceptor.
func (r *runner) next(ctx context.Context) (err error) {
	if !r.begin() {
		return errTooLate
	}
	defer r.running.Done()
	defer func() {
		said := r.call.failed()
		switch p := recover(); p {
		case nil:
			if said != nil {
				err = said
			}
		case http.ErrAbortHandler:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.aborted, r.failure = true, cmp.Or(said, brokenOff)
			err = r.failure
		default:
			err = r.call.panicked("a handler", p)
		}
	}()
	return r.last(ctx)
}

func (c *Call) failed() *stream.Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extra().failure
}

func (r *runner) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.running.Add(1)
	}
	return !r.closed
}

// close returns when last runs no more, and reports whether it has broken off.
func (r *runner) close() bool {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
	return r.aborted
}
