package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// cache keeps figures by what they are labeled with, so that a call need not put labels
// together. It is for labels of which there are few. Its methods may be called
// concurrently.
type cache[K comparable, V any] struct {
	add func(K) V // makes what there is not yet; twice for a key, it returns the same

	mu  sync.Mutex // for adding
	all atomic.Pointer[map[K]V]
}

func newCache[K comparable, V any](add func(K) V) *cache[K, V] {
	c := &cache[K, V]{add: add}
	c.all.Store(&map[K]V{})
	return c
}

func (c *cache[K, V]) get(k K) V {
	if v, ok := (*c.all.Load())[k]; ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, more := c.add(k), maps.Clone(*c.all.Load())
	more[k] = v
	c.all.Store(&more)
	return v
}
