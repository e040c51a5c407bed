package handler

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// calls are the calls under way, for the end of the process to wait for.
type calls struct {
	mu     sync.Mutex
	active map[*call]struct{}
	closed bool
	idle   chan struct{} // closed once no call is left; nil while nobody waits
}

// begin counts a call in. It reports false when no more calls are taken.
func (cs *calls) begin(c *call) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return false
	}
	if cs.active == nil {
		cs.active = make(map[*call]struct{})
	}
	cs.active[c] = struct{}{}
	return true
}

func (cs *calls) end(c *call) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.active, c)
	if cs.idle != nil && len(cs.active) == 0 {
		close(cs.idle)
		cs.idle = nil
	}
}

func (cs *calls) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.active)
}

// drained returns a channel that is closed once no call is left.
func (cs *calls) drained() <-chan struct{} {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.idle != nil {
		return cs.idle
	}
	ch := make(chan struct{})
	if len(cs.active) == 0 {
		close(ch)
		return ch
	}
	cs.idle = ch
	return ch
}

// close takes no more calls, and ends those under way with f.
func (cs *calls) close(f *stream.Failure) {
	cs.mu.Lock()
	cs.closed = true
	left := slices.Collect(maps.Keys(cs.active))
	cs.mu.Unlock()
	for _, c := range left {
		c.abort(f.Trailer())
	}
}

// ActiveCalls returns how many calls are under way.
func (h *Handler) ActiveCalls() int { return h.calls.count() }

// leaveTime is how long interceptors and filters have to come back from calls that
// Shutdown has ended.
const leaveTime = time.Second

// Shutdown returns when no call is left, and has calls that come after that
// refused. Calls that still run when ctx ends are ended with UNAVAILABLE; what is
// left of copies of calls is given up. An interceptor or a filter that does not come
// back then, though its context has ended, is left behind: the process is to end.
//
// Until then new calls are taken: to keep clients from making them (GOAWAY) is
// the server's part, and one that was on its way by then is not to be lost.
func (h *Handler) Shutdown(ctx context.Context) {
	drained := h.calls.drained()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	h.calls.close(failShutdown())
	select {
	case <-h.calls.drained():
	case <-time.After(leaveTime):
		h.opts.Logger.Error("interceptors or filters do not come back when their contexts end, and are left behind",
			"calls", h.calls.count())
	}
	h.mirrors.end()
	h.mirrors.running.Wait()
}
