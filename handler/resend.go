package handler

import (
	"fmt"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// resend is the backend's side of a call, with the power to send the call
// again, elsewhere, as long as no backend has begun it and everything the
// client has sent is still at hand. To the relay it is one outbound stream.
//
// The request's writer and the response's reader may be different goroutines;
// the reader finds out that a stream was refused, and sends again.
type resend struct {
	call     *call
	backends Backends
	start    uint32 // where in the cluster the call began

	mu       sync.Mutex
	cur      stream.Outbound
	address  string // of cur
	attempts int    // how often the call has been sent
	passed   int    // how many instances were passed over, because they are down
	// committed is true once the call cannot be sent again: the backend has
	// begun, or the request has outgrown replayLimit.
	committed bool
	sent      [][]byte // the request so far, until committed
	sentBytes int
	complete  bool // sent is the whole request
}

// replayLimit is how many bytes of a request are kept for sending it again. It
// is less than a transport queues without blocking, so that mu is never held
// by a writer that waits for a backend.
const replayLimit = 48 << 10

// maxAttempts bounds how often a call is sent. Each instance of a cluster gets
// one at least.
const maxAttempts = 5

func newResend(c *call, backends Backends) *resend {
	return &resend{call: c, backends: backends}
}

var _ stream.Outbound = (*resend)(nil)

// open opens the first stream.
func (r *resend) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start = r.call.target.Cluster.Start()
	return r.openLocked()
}

// openLocked opens a stream to the next instance that takes one. It needs mu.
func (r *resend) openLocked() error {
	cluster := r.call.target.Cluster
	allowed := max(maxAttempts, cluster.Instances())
	for {
		address := r.nextInstance(cluster)
		r.attempts++
		out, err := r.backends.Open(r.call.ctx, cluster.Name, address, r.call.request)
		if err == nil {
			r.cur, r.address = out, address
			return nil
		}
		if !r.mayTryNext(err, allowed) {
			return err
		}
	}
}

// nextInstance picks the instance to ask: the next in turn that is not known to
// be down, or just the next if all are. So an instance that swallows connection
// attempts costs the calls that found out about it a timeout, and no others.
func (r *resend) nextInstance(cluster *resolver.Cluster) string {
	turn := r.attempts + r.passed
	if n := cluster.Instances(); n > 1 {
		for i := range n {
			address := cluster.Pick(r.start, turn+i)
			if !r.backends.Down(cluster.Name, address) {
				r.passed += i
				return address
			}
		}
	}
	return cluster.Pick(r.start, turn)
}

// mayTryNext reports whether another instance may do better. An instance that
// does not answer is not asked twice: it will not have come up in between.
func (r *resend) mayTryNext(err error, allowed int) bool {
	f := stream.AsFailure(err)
	if !f.Unprocessed || r.attempts >= allowed || r.call.ctx.Err() != nil {
		return false
	}
	return f.Reason != stream.BackendUnreachable || r.attempts < r.call.target.Cluster.Instances()
}

// again sends the call to another instance, with everything sent so far. It
// reports false if that is not possible.
func (r *resend) again(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	allowed := max(maxAttempts, r.call.target.Cluster.Instances())
	if r.committed || !r.mayTryNext(err, allowed) {
		return false
	}
	refused := r.cur
	defer refused.Abort()
	if r.openLocked() != nil {
		return false
	}
	// Errors here are the new stream's, and show when it is read.
	for i, b := range r.sent {
		_ = r.cur.Write(b, r.complete && i == len(r.sent)-1)
	}
	r.cur.Flush()
	return true
}

// Header returns the response headers of the stream that got through.
func (r *resend) Header() (*stream.Header, error) {
	for {
		h, err := r.current().Header()
		if err == nil || !r.again(err) {
			r.commit()
			return h, err
		}
	}
}

func (r *resend) Read(p []byte) error      { return r.current().Read(p) }
func (r *resend) Ready(n int) bool         { return r.current().Ready(n) }
func (r *resend) Trailer() *stream.Trailer { return r.current().Trailer() }

func (r *resend) Write(b []byte, last bool) error {
	r.mu.Lock()
	if !r.committed && r.sentBytes+len(b) <= replayLimit {
		defer r.mu.Unlock()
		r.sent = append(r.sent, b)
		r.sentBytes += len(b)
		r.complete = last
		// If this fails the stream has ended. The reader sees it too, and
		// either sends b again or ends the call.
		_ = r.cur.Write(b, last)
		return nil
	}
	r.commitLocked()
	cur := r.cur
	r.mu.Unlock()
	return cur.Write(b, last)
}

// Flush sends what has been written to the present stream, if there is one.
func (r *resend) Flush() {
	if cur := r.current(); cur != nil {
		cur.Flush()
	}
}

// Abort resets the present stream; see stream.Outbound.
func (r *resend) Abort() { r.current().Abort() }

func (r *resend) current() stream.Outbound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur
}

// String names the response for messages.
func (r *resend) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("cluster %q: instance %s: the response", r.call.target.Cluster.Name, r.address)
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
