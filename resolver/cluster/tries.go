package cluster

// Tries is where a call looks for instances. The zero value is a call that has
// tried none and has nothing in common with others. It is for one goroutine at a
// time.
type Tries struct {
	// Hash is what the call has in common with others that are to go to the same
	// instance, for conf.BalanceHash; it counts if Hashed.
	Hash   uint64
	Hashed bool

	n    int
	few  [4]*Endpoint // the first ones, so that most calls allocate nothing
	more []*Endpoint
}

// note adds an instance to those that have been tried.
func (t *Tries) note(e *Endpoint) {
	if t.n < len(t.few) {
		t.few[t.n] = e
	} else {
		t.more = append(t.more, e)
	}
	t.n++
}

// The values of Tries.tried.
const (
	untried = iota
	triedBefore
	triedLast
)

// tried says when an instance has been tried.
func (t *Tries) tried(e *Endpoint) int {
	switch {
	case t.n == 0:
		return untried
	case t.last() == e:
		return triedLast
	}
	for _, other := range t.few[:min(t.n, len(t.few))] {
		if other == e {
			return triedBefore
		}
	}
	for _, other := range t.more {
		if other == e {
			return triedBefore
		}
	}
	return untried
}

// last returns the instance that has been tried last; there is one.
func (t *Tries) last() *Endpoint {
	if len(t.more) > 0 {
		return t.more[len(t.more)-1]
	}
	return t.few[t.n-1]
}
