package auth

import (
	"crypto/sha256"
	"sync"
)

const (
	maxTokens = 4096 // of a key set
	shards    = 16   // calls with different tokens rarely meet at one
)

// tokenCache keeps tokens that have been verified, by their hashes, so that one that
// comes again costs no signature. The tokens themselves are not kept. When it is full,
// it forgets one that has not been asked for in a while. It may be used concurrently.
type tokenCache struct{ shards [shards]tokenShard }

type tokenShard struct {
	mu     sync.RWMutex
	byHash map[[sha256.Size]byte]*token
	ring   []*token // all of them
	hand   int      // in ring: who is looked at next
	size   int
}

// newTokenCache returns one for so many tokens, which are shards at least.
func newTokenCache(tokens int) *tokenCache {
	c := &tokenCache{}
	for i := range c.shards {
		c.shards[i].byHash, c.shards[i].size = map[[sha256.Size]byte]*token{}, tokens/shards
	}
	return c
}

// get returns the token with a hash, nil if it is not there.
func (c *tokenCache) get(hash [sha256.Size]byte) *token {
	s := &c.shards[hash[0]%shards]
	s.mu.RLock()
	k := s.byHash[hash]
	s.mu.RUnlock()
	if k != nil && !k.used.Load() { // a hot one is not written to by all
		k.used.Store(true)
	}
	return k
}

// put keeps a token.
func (c *tokenCache) put(k *token) {
	s := &c.shards[k.hash[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.byHash[k.hash] != nil: // another call was as soon
		return
	case len(s.ring) < s.size:
		s.ring = append(s.ring, k)
	default:
		i := s.unused()
		delete(s.byHash, s.ring[i].hash)
		s.ring[i] = k
	}
	s.byHash[k.hash] = k
}

// unused returns where in the ring a token is that nobody has asked for since the hand
// was there last; after one round, any.
func (s *tokenShard) unused() int {
	for range s.ring {
		i := s.hand
		s.hand = (s.hand + 1) % len(s.ring)
		if !s.ring[i].used.Swap(false) {
			return i
		}
	}
	return s.hand
}
