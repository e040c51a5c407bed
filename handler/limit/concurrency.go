package limit

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Concurrency says how many calls may be under way at once.
type Concurrency struct {
	// Calls is how many, at least 1.
	Calls int
	// Key says which calls share a limit; see Rate.Key.
	Key string
	// Keys is how many keys may have calls under way at once, with one limit more for
	// those that find no room; 0 for 10000.
	Keys int
}

// NewConcurrency returns the guard that keeps calls to so many at once. One more ends
// with RESOURCE_EXHAUSTED, without a time to try again after: nobody knows when a call
// that is under way ends. An error names the option that cannot be used.
func NewConcurrency(o Concurrency) (intercept.Guard, error) {
	if o.Calls < 1 || o.Keys < 0 {
		return nil, errors.New("calls: at least 1 must be allowed")
	}
	keyOf, description, err := parseKey(o.Key)
	if err != nil {
		return nil, err
	}
	l := &concurrency{
		calls: int64(o.Calls), keyOf: keyOf, seed: maphash.MakeSeed(),
		text: fmt.Sprintf("the limit of %d calls at once %s is reached; try again later", o.Calls, description),
	}
	l.room.Store(int64(cmp.Or(o.Keys, defaultKeys)))
	for i := range l.shards {
		l.shards[i].calls = map[key]int64{}
	}
	return l.guard, nil
}

// concurrency counts the calls that are under way.
type concurrency struct {
	calls int64
	text  string
	keyOf keyFunc // nil if all share one

	shared atomic.Int64 // the calls of all, or of keys without room
	room   atomic.Int64 // how many more keys there may be
	seed   maphash.Seed // nobody can choose keys that meet
	shards [shards]callShard
}

type callShard struct {
	mu    sync.Mutex
	calls map[key]int64 // of keys that have some
}

func (l *concurrency) guard(c *intercept.Call) error {
	if l.keyOf == nil {
		return l.guardShared(c)
	}
	k := l.keyOf(c)
	s := &l.shards[maphash.Comparable(l.seed, k)%shards]
	switch l.begin(s, k) {
	case reached:
		return l.refuse()
	case noRoom:
		return l.guardShared(c)
	default:
		c.OnEnd(func() { l.end(s, k) })
		return nil
	}
}

func (l *concurrency) guardShared(c *intercept.Call) error {
	for {
		calls := l.shared.Load()
		if calls >= l.calls {
			return l.refuse()
		}
		if l.shared.CompareAndSwap(calls, calls+1) {
			c.OnEnd(func() { l.shared.Add(-1) })
			return nil
		}
	}
}

func (l *concurrency) refuse() error {
	return intercept.Refuse(stream.RateLimited, stream.ResourceExhausted, l.text)
}

// outcome is what has come of one more call of a key.
type outcome int

const (
	counted outcome = iota
	reached         // the key has as many as it may
	noRoom          // there are too many other keys
)

func (l *concurrency) begin(s *callShard, k key) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch calls := s.calls[k]; {
	case calls >= l.calls:
		return reached
	case calls > 0:
		s.calls[k] = calls + 1
	case l.room.Add(-1) < 0:
		l.room.Add(1)
		return noRoom
	default:
		s.calls[k.clone()] = 1
	}
	return counted
}

func (l *concurrency) end(s *callShard, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[k]--; s.calls[k] == 0 {
		delete(s.calls, k)
		l.room.Add(1)
	}
}
