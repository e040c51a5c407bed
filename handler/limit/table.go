package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	defaultKeys = 10_000
	shards      = 16 // calls with different keys rarely meet at one

	// looks is how many keys a new one may look at for one to give up, so that what one
	// call costs does not depend on how many there are.
	looks = 16
)

// counts are what is counted of a key.
type counts struct {
	key             key
	calls, messages bucket
}

// isIdle reports whether nothing would be lost with them.
func (c *counts) isIdle(now int64) bool { return c.calls.isFull(now) && c.messages.isFull(now) }

// table is the counts of keys. It may be used concurrently.
type table struct {
	room   atomic.Int64 // how many more keys there may be; below 0 for none
	others counts       // of keys without room
	seed   maphash.Seed // nobody can choose keys that meet
	shards [shards]shard
}

type shard struct {
	mu    sync.RWMutex
	byKey map[key]*counts
	ring  []*counts // all of them
	hand  int       // in ring: where the next look begins
}

func newTable(keys int) *table {
	t := &table{seed: maphash.MakeSeed()}
	t.room.Store(int64(keys))
	for i := range t.shards {
		t.shards[i].byKey = map[key]*counts{}
	}
	return t
}

// of returns the counts of a key. They are not to be kept: once they are idle, they may
// be given up, and the key gets others.
func (t *table) of(k key, now int64) *counts {
	s := &t.shards[maphash.Comparable(t.seed, k)%shards]
	s.mu.RLock()
	c := s.byKey[k]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	return t.add(s, k, now)
}

// add gives a key counts of its own, if there is room.
func (t *table) add(s *shard, k key, now int64) *counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.byKey[k]; c != nil { // another call was as soon
		return c
	}
	if t.room.Add(-1) >= 0 {
		c := &counts{key: k.clone()}
		s.byKey[c.key], s.ring = c, append(s.ring, c)
		return c
	}
	at, found := s.idle(now)
	if !found {
		return &t.others
	}
	c := &counts{key: k.clone()}
	delete(s.byKey, s.ring[at].key)
	s.byKey[c.key], s.ring[at] = c, c
	return c
}

// idle looks for counts to give up.
func (s *shard) idle(now int64) (at int, found bool) {
	for range min(looks, len(s.ring)) {
		at = s.hand
		s.hand = (s.hand + 1) % len(s.ring)
		if s.ring[at].isIdle(now) {
			return at, true
		}
	}
	return 0, false
}
