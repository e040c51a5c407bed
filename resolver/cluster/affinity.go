package cluster

import "github.com/kitexproxy/kitexproxy/conf"

// HashOn says what calls have in common that are to go to the same instance, nil if
// they need not.
func (c *Cluster) HashOn() *conf.HashOn { return c.hashOn }

// Hash returns the same number for the same text, in every proxy that there is: what
// Tries.Hash is to be. It is FNV-1a with the finish of MurmurHash3, as the bits of
// short texts that differ little would be alike without.
func Hash(text string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
