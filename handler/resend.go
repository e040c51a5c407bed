package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// resend is the backend's side of a call, with the power to send the call
// again, elsewhere, as long as nothing of a response has gone to the client and
// everything the client has sent is still at hand: where no backend has begun it,
// and where the route's policy has it so (retry.go). To the relay it is one outbound
// stream.
//
// The request's writer and the response's reader may be different goroutines;
// the reader finds out that an attempt has failed, and sends again.
type resend struct {
	call     *call
	backends Backends
	keeps    int // how many bytes of the request are kept for sending it again

	// What follows is the reader's.
	ctx    context.Context    // of the attempts
	giveUp context.CancelFunc // ends ctx; nil where it is the call's own
	sends  int                // attempts that have been made, without those that no backend has begun
	waits  int                // pauses since a backend has said how long to wait

	mu    sync.Mutex
	tries tries.Tries
	cur   *attempt // the last that has been opened
	// committed is true once the call cannot be sent again: the response has
	// begun, the request has outgrown keeps, or the call is given up.
	committed bool
	sent      [][]byte // the request so far, until committed
	sentBytes int
	complete  bool // the whole request has come
}

// attempt is one stream to a backend for a call. It is closed by the reader.
type attempt struct {
	stream.Outbound
	told     told
	replayed chan struct{} // closed when it has got what was sent before it; nil if that was done at once
	goesWith
}

// told are those who are told of an attempt.
type told struct {
	instance *cluster.Endpoint  // nil if none has taken it
	seen     *intercept.Attempt // nil if nobody wants to know more
}

// begin tells that the call is sent to an instance.
func (r *resend) begin(name string, instance *cluster.Endpoint) told {
	instance.Begin()
	return told{instance, r.call.around.BeginAttempt(name, instance.Address())}
}

// request returns what the instance is sent.
func (t told) request(req *stream.Request) *stream.Request {
	if t.seen == nil || len(t.seen.Header) == 0 {
		return req
	}
	more := *req
	more.Metadata = t.seen.SetHeader(req.Metadata)
	return &more
}

// end tells how it has gone.
func (t told) end(result cluster.Result) {
	if t.instance != nil {
		t.instance.End(result)
	}
	t.seen.End(result)
}

// goesWith is what goes with a stream and ends with it. The zero value is nothing.
type goesWith struct {
	timer  *time.Timer        // until there is a response header; nil for none
	cancel context.CancelFunc // of the stream's context; nil for none
	leave  func()             // counts the attempt out; nil for nothing
}

// headed is called when there is a response header. It reports false if that has
// come too late.
func (g goesWith) headed() bool { return g.timer == nil || g.timer.Stop() }

func (g goesWith) over() {
	if g.timer != nil {
		g.timer.Stop()
	}
	if g.cancel != nil {
		g.cancel()
	}
	if g.leave != nil {
		g.leave()
	}
}

// replayLimit is how many bytes of a request are kept unless the route says
// otherwise. It is less than a transport queues without blocking.
const replayLimit = 48 << 10

func newResend(c *call, backends Backends) *resend {
	r := &resend{call: c, backends: backends, keeps: replayLimit, ctx: c.ctx}
	if c.target.Retry != nil {
		r.keeps = max(replayLimit, int(c.target.Retry.Buffer))
	}
	return r
}

var _ stream.Outbound = (*resend)(nil)

// open opens the first stream. After an error there is nothing to close.
func (r *resend) open() error {
	r.tries.Begin(r.call.target.Cluster, r.call.affinity())
	policy := r.call.target.Retry
	if policy != nil {
		r.ctx, r.giveUp = context.WithCancel(r.call.ctx)
	}
	r.sends = 1
	a, err := r.openNext(r.newTry())
	if err != nil && policy != nil && retryable(policy, r.call.failure(err).Code) && !isTooMuch(err) {
		a, err = unopened(err), nil // Header tries again
	}
	if err != nil {
		r.cancel()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cur = a // which the patience of a filtered request may be looking at
	return nil
}

// cancel ends what is under way for the policy's attempts.
func (r *resend) cancel() {
	if r.giveUp != nil {
		r.giveUp()
	}
}

// try is what an attempt is opened with.
type try struct {
	ctx     context.Context
	request *stream.Request
	goesWith
}

// newTry is for the attempt that is the last of sends.
func (r *resend) newTry() try {
	ctx, with := r.attemptContext()
	return try{ctx, r.request(), with}
}

// openNext opens a stream to the next instance that takes one. What goes with it is
// over if there is none. It is also for others than the reader.
func (r *resend) openNext(t try) (*attempt, error) {
	name := r.call.target.Cluster.Name()
	for {
		instance, none := r.next(name)
		if none != nil {
			t.over()
			return nil, none
		}
		told := r.begin(name, instance)
		out, err := r.backends.Open(t.ctx, name, instance.Address(), told.request(t.request))
		if err == nil {
			return &attempt{Outbound: out, told: told, goesWith: t.goesWith}, nil
		}
		told.end(r.blame(err))
		if !r.mayTryNext(err) {
			t.over()
			return nil, err
		}
	}
}

func (r *resend) next(name string) (*cluster.Endpoint, *stream.Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries.Next(func(address string) bool { return r.backends.Down(name, address) })
}

// request returns what the present attempt is sent. It says how many there have been
// before (gRPC proposal A6).
func (r *resend) request() *stream.Request {
	if r.sends == 1 {
		return r.call.request
	}
	req := *r.call.request
	req.Metadata = changed(req.Metadata, &resolver.Changes{
		Set: []resolver.Field{{Key: previousAttemptsKey, Value: strconv.Itoa(r.sends - 1)}},
	})
	return &req
}

const previousAttemptsKey = "grpc-previous-rpc-attempts"

// blame says what an error of a stream, or of opening one, tells of its instance.
// That the call has been given up tells nothing.
func (r *resend) blame(err error) cluster.Result {
	var byFilter *filter.Ended
	if errors.As(err, &byFilter) {
		return cluster.Unknown
	}
	return tries.ResultOfFailure(r.call.failure(err), r.isComplete() && !r.call.headed)
}

func (r *resend) isComplete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// mayTryNext reports whether another instance may do better.
func (r *resend) mayTryNext(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.committed && r.ctx.Err() == nil && r.tries.MayGoOn(stream.AsFailure(err))
}

// again sends the call to another instance, with everything sent so far, if no
// backend has begun it. It reports false if that is not possible.
func (r *resend) again(err error) bool {
	if !r.mayTryNext(err) {
		return false
	}
	next, openErr := r.openNext(r.newTry())
	if openErr != nil {
		return false
	}
	return r.replace(next, r.blame(err))
}

// replace goes on with another attempt, and sends it the request so far. result is
// how the one before has gone. It reports false, and closes next, if the call cannot
// be sent again any more.
func (r *resend) replace(next *attempt, result cluster.Result) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed {
		next.close(cluster.Unknown)
		return false
	}
	r.cur.close(result)
	r.cur = next
	next.replay(slices.Clip(r.sent), r.sentBytes, r.complete)
	return true
}

// replay writes what has been sent of a request before, n bytes.
func (a *attempt) replay(sent [][]byte, n int, complete bool) {
	write := func() {
		for i, b := range sent {
			_ = a.Outbound.Write(b, complete && i == len(sent)-1) // an error shows when the stream is read
		}
		a.Flush()
	}
	if n <= replayLimit {
		write()
		return
	}
	// This may have to wait for the backend, which may wait for its response to be
	// read.
	a.replayed = make(chan struct{})
	go func() { // ends with the stream; close waits for it
		defer close(a.replayed)
		write()
	}()
}

// Header is that of the stream. It returns nil without an error once the stream has a
// trailer, which is a little later for some.
func (a *attempt) Header() (*stream.Header, error) {
	h, err := a.Outbound.Header()
	if h != nil || err != nil {
		return h, err
	}
	if err = a.Read(make([]byte, 1)); err == io.EOF {
		return nil, nil
	}
	return nil, err
}

// Write writes behind what is replayed.
func (a *attempt) Write(b []byte, last bool) error {
	if a.replayed != nil {
		<-a.replayed
	}
	return a.Outbound.Write(b, last)
}

// close gives up the attempt, or what is left of it, and tells its instance how it
// has gone.
func (a *attempt) close(result cluster.Result) {
	a.Abort()
	a.over()
	if a.replayed != nil {
		<-a.replayed
	}
	a.told.end(result)
}

// Header returns the response headers of the stream that got through.
func (r *resend) Header() (*stream.Header, error) {
	for {
		h, err := r.header()
		if h != nil && !r.current().headed() {
			h, err = nil, failAttemptTimeout(r.call.target)
		}
		if err != nil && r.again(err) || h == nil && r.retry(err) {
			continue
		}
		if h == nil && err == nil && r.call.target.Retry != nil {
			err = r.ctx.Err() // the call has ended while it waited for another attempt
		}
		r.commit()
		return h, err
	}
}

func (r *resend) Read(p []byte) error      { return r.current().Read(p) }
func (r *resend) Ready(n int) bool         { return r.current().Ready(n) }
func (r *resend) Trailer() *stream.Trailer { return r.current().Trailer() }

func (r *resend) Write(b []byte, last bool) error {
	r.mu.Lock()
	r.complete = last
	kept := !r.committed && r.sentBytes+len(b) <= r.keeps
	if kept {
		r.sent = append(r.sent, b)
		r.sentBytes += len(b)
	} else {
		r.commitLocked()
	}
	cur := r.cur
	r.mu.Unlock()
	err := cur.Write(b, last)
	if kept {
		// If that has failed the stream has ended. The reader sees it too, and
		// either sends b again or ends the call.
		return nil
	}
	return err
}

// Flush sends what has been written to the present stream, if there is one.
func (r *resend) Flush() {
	if cur := r.current(); cur != nil {
		cur.Flush()
	}
}

// Abort resets the present stream, and has no other made; see stream.Outbound.
func (r *resend) Abort() {
	r.commit()
	r.cancel()
	r.current().Abort()
}

// close aborts the present stream, and tells its instance how the call went: how the
// backend ended it or, with err, why something else did. Both are nil if the relay
// panicked.
func (r *resend) close(t *stream.Trailer, err error) {
	cur, result := r.current(), cluster.Unknown
	switch {
	case err != nil:
		result = r.blame(err)
	case t != nil:
		result = tries.ResultOf(t.Status.Code)
	}
	r.cancel()
	cur.close(result)
}

func (r *resend) current() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur
}

// String names the response for messages.
func (r *resend) String() string {
	return fmt.Sprintf("cluster %q: instance %s: the response", r.call.target.Cluster.Name(), r.current().told.instance.Address())
}

func (r *resend) commit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commitLocked()
}

func (r *resend) commitLocked() {
	r.committed = true
	r.sent = nil
}

// pause waits for d, and reports false if the call ends before.
func (r *resend) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// unopened is a stream that could not be opened, because of err.
func unopened(err error) *attempt { return &attempt{Outbound: noStream{err}} }

// noStream is one that has failed from the beginning.
type noStream struct{ err error }

func (n noStream) Header() (*stream.Header, error) { return nil, n.err }
func (n noStream) Read([]byte) error               { return n.err }
func (n noStream) Ready(int) bool                  { return true }
func (n noStream) Write([]byte, bool) error        { return n.err }
func (n noStream) Flush()                          {}
func (n noStream) Trailer() *stream.Trailer        { return nil }
func (n noStream) Abort()                          {}
