package cluster

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// lookup is one search for an instance.
type lookup struct {
	set   *set
	now   time.Time
	tries *Tries
	down  func(address string) bool
}

// open reports whether the call may go to an instance.
func (l *lookup) open(c *candidate) bool {
	return l.tries.tried(c.Endpoint) == untried && !l.down(c.address)
}

// takes is open for policies that know full weights only. In a slow start it lets
// as many calls through, by chance, as the instance's share allows.
func (l *lookup) takes(c *candidate) bool {
	share := l.set.share(c, l.now)
	return (share >= 1 || rand.Float64() < share) && l.open(c)
}

// weight is what counts of an instance's weight at present.
func (l *lookup) weight(c *candidate) float64 { return float64(c.weight) * l.set.share(c, l.now) }

// inTurn is smooth weighted round robin. Turns go round; the heaviest instances
// take each of theirs, and others as many as their weight says, at even distances.
// Unlike the usual algorithm, which changes a weight of every instance for each
// call, this needs no lock. (gRPC's own weighted round robin has the idea too:
// https://github.com/grpc/proposal/blob/master/A58-client-side-weighted-round-robin-lb-policy.md.)
func (l *lookup) inTurn(turns *atomic.Uint64) *candidate {
	n := uint64(len(l.set.usable))
	for range 2 * n { // other calls take turns meanwhile, so that once round might miss one
		turn := turns.Add(1) - 1
		i := turn % n
		if c := &l.set.usable[i]; l.set.takesTurn(c, i, turn/n) && l.takes(c) {
			return c
		}
	}
	return nil
}

// takesTurn reports whether an instance takes its turn of a round: it does so in
// weight of heaviest rounds. Those of different instances begin at different
// rounds, spread by the golden ratio.
func (s *set) takesTurn(c *candidate, i, round uint64) bool {
	if c.weight == s.heaviest {
		return true
	}
	const golden = 2654435769 // 2^32 divided by the golden ratio
	offset := uint64(uint32(i)*golden) * s.heaviest >> 32
	return (c.weight*round+offset)%s.heaviest >= s.heaviest-c.weight
}

// maxDraws is how often chance is asked for an instance that takes the call.
const maxDraws = 8

// random draws by weight.
func (l *lookup) random() *candidate {
	for range maxDraws {
		if c := l.set.draw(); l.takes(c) {
			return c
		}
	}
	return nil
}

// draw returns any usable instance, by weight; there is one.
func (s *set) draw() *candidate {
	if s.equal {
		return &s.usable[rand.IntN(len(s.usable))]
	}
	i, _ := slices.BinarySearchFunc(s.usable, 1+rand.Uint64N(s.total), func(c candidate, ticket uint64) int {
		return cmp.Compare(c.upTo, ticket)
	})
	return &s.usable[i]
}

// few is how many instances are all looked at for the least active one.
const few = 4

// leastActive returns the instance with the fewest calls for its weight: of all, if
// those are few, and else of two that are drawn, which is nearly as good and does
// not have all proxies run to the same one (Mitzenmacher, "The Power of Two Choices
// in Randomized Load Balancing", 2001).
func (l *lookup) leastActive() *candidate {
	if len(l.set.usable) > few {
		if c := l.lessActiveOfTwo(); c != nil {
			return c
		}
	}
	var best lottery
	for i := range l.set.usable {
		if c := &l.set.usable[i]; l.open(c) {
			best.enter(c, l.load(c), l.weight(c))
		}
	}
	return best.winner
}

func (l *lookup) lessActiveOfTwo() *candidate {
	one := l.random()
	if one == nil {
		return nil
	}
	other := l.random()
	if other == one {
		other = l.random()
	}
	if other != nil && l.load(other) < l.load(one) {
		return other
	}
	return one
}

func (l *lookup) load(c *candidate) float64 { return float64(c.Active()) / l.weight(c) }

// hashed returns the instance of a key by weighted rendezvous hashing: the one with
// the highest score for it. So keys move only from an instance that goes, or to one
// that comes, and by as much as its share.
// (https://datatracker.ietf.org/doc/html/draft-ietf-bess-weighted-hrw)
func (l *lookup) hashed(key uint64) *candidate {
	bound := math.Inf(1)
	for range 3 { // asking about an instance costs more than its score
		c, score := l.highest(key, bound, notDown)
		if c == nil || !l.down(c.address) {
			return c
		}
		bound = score
	}
	c, _ := l.highest(key, bound, l.down)
	return c
}

func notDown(string) bool { return false }

// highest returns the instance with the highest score below bound for key, of those
// that have not been tried and that down does not report.
func (l *lookup) highest(key uint64, bound float64, down func(string) bool) (*candidate, float64) {
	var best *candidate
	highest := math.Inf(-1)
	for i := range l.set.usable {
		c := &l.set.usable[i]
		score := l.score(c, key)
		if score > highest && score < bound && l.tries.tried(c.Endpoint) == untried && !down(c.address) {
			best, highest = c, score
		}
	}
	return best, highest
}

// score is log(x)/weight for an x between 0 and 1 that is random by key and
// instance. Where all weights are equal, 2^bits*x is in the same order and costs less.
func (l *lookup) score(c *candidate, key uint64) float64 {
	const bits = 53                                      // of a float64
	x := float64(int64(mix(key^c.key)>>(64-bits))) + 0.5 // a signed number is converted sooner
	if l.set.equal && !l.set.warming {
		return x
	}
	return math.Log(x/(1<<bits)) / l.weight(c)
}

// mix spreads every bit over all of them: the finalizer of SplitMix64
// (https://prng.di.unimi.it/splitmix64.c).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// leastBad returns any instance, by weight, of those that there is least to be said
// against: that it is down, that it may not be used, that it has been tried.
func (l *lookup) leastBad() *candidate {
	var best lottery
	l.enter(&best, l.set.usable, 0)
	l.enter(&best, l.set.rest, 1)
	return best.winner
}

func (l *lookup) enter(best *lottery, all []candidate, unusable int) {
	for i := range all {
		c := &all[i]
		fault := unusable
		if l.down(c.address) {
			fault = 2
		}
		best.enter(c, float64(fault*(triedLast+1)+l.tries.tried(c.Endpoint)), l.weight(c))
	}
}

// lottery draws one, by weight, of the instances that are the least bad.
type lottery struct {
	winner  *candidate
	badness float64
	weights float64
}

func (t *lottery) enter(c *candidate, badness, weight float64) {
	switch {
	case t.winner == nil || badness < t.badness:
		*t = lottery{c, badness, weight}
	case badness == t.badness:
		t.weights += weight
		if rand.Float64()*t.weights < weight {
			t.winner = c
		}
	}
}
