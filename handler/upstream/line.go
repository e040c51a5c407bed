package upstream

import "slices"

// place is that of a call in the line of those that wait for a stream on an
// instance. The first of the line looks for one; the others wait for their turn,
// so that they are served in the order in which they came.
type place struct {
	turn chan struct{} // closed when the place is the first
	// failures and wasted are how many attempts had failed when the place was
	// taken, and how many connections had gone unused when its turn came.
	failures, wasted int64
}

// join takes a place at the end of the line, and opens a connection for it if
// those that are on their way are not enough for so many.
func (in *instance) join() (*place, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.removed {
		return nil, errForgotten
	}
	if !in.cluster.mayWait() {
		return nil, errOverloaded
	}
	in.waiting.Add(1)
	p := &place{turn: make(chan struct{}), failures: in.failures}
	if in.line = append(in.line, p); len(in.line) == 1 {
		in.callFirst()
	} else {
		_ = in.expand() // the first will see
	}
	return p, nil
}

// callFirst tells the first in the line that it is. It needs mu.
func (in *instance) callFirst() {
	first := in.line[0]
	first.wasted = in.wasted
	close(first.turn)
}

// quit gives up a place, wherever it is.
func (in *instance) quit(p *place) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cluster.waiting.Add(-1)
	in.waiting.Add(-1)
	if in.line[0] != p {
		i := slices.Index(in.line, p)
		in.line = slices.Delete(in.line, i, i+1)
		return
	}
	in.line[0] = nil
	if in.line = in.line[1:]; len(in.line) > 0 {
		in.callFirst()
	}
}
