package frame

import (
	"context"
	"sync"
	"sync/atomic"
)

// calls are the calls under way. They are kept in several places, so that
// connections seldom meet at one lock.
type calls struct {
	shards [16]shard
	active atomic.Int64
	idle   atomic.Pointer[chan struct{}] // closed when active comes to 0; nil while nobody waits
}

type shard struct {
	mu     sync.Mutex
	calls  map[*call]struct{}
	closed bool
}

func (cs *calls) shardOf(c *call) *shard {
	return &cs.shards[c.client.ID()/2%uint32(len(cs.shards))]
}

// begin counts a call in. It reports false when no more calls are taken.
func (cs *calls) begin(c *call) bool {
	s := cs.shardOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.calls == nil {
		s.calls = make(map[*call]struct{})
	}
	s.calls[c] = struct{}{}
	cs.active.Add(1)
	return true
}

// end counts a call out, if it has been counted in.
func (cs *calls) end(c *call) {
	s := cs.shardOf(c)
	s.mu.Lock()
	_, in := s.calls[c]
	delete(s.calls, c)
	s.mu.Unlock()
	if !in || cs.active.Add(-1) > 0 {
		return
	}
	if idle := cs.idle.Swap(nil); idle != nil {
		close(*idle)
	}
}

func (cs *calls) count() int { return int(cs.active.Load()) }

// awaitNone returns when no call is under way, or ctx has ended.
func (cs *calls) awaitNone(ctx context.Context) {
	for {
		idle := cs.nextIdle() // before looking, so that nothing is missed
		if cs.count() == 0 {
			return
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return
		}
	}
}

func (cs *calls) nextIdle() <-chan struct{} {
	for {
		if idle := cs.idle.Load(); idle != nil {
			return *idle
		}
		idle := make(chan struct{})
		cs.idle.CompareAndSwap(nil, &idle)
	}
}

// close takes no more calls, and returns those under way.
func (cs *calls) close() []*call {
	var left []*call
	for i := range cs.shards {
		s := &cs.shards[i]
		s.mu.Lock()
		s.closed = true
		for c := range s.calls {
			left = append(left, c)
		}
		s.mu.Unlock()
	}
	return left
}
