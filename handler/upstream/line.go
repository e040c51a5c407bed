package upstream

import "slices"

// place is that of a call in the line of those that wait for a stream on an
// instance. The first of the line looks for one; the others wait for their turn,
// so that they are served in the order in which they came.
type place struct {
	turn chan struct{} // closed when the place is the first
}

// join takes a place at the end of the line.
func (in *instance) join() *place {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.waiting.Add(1)
	p := &place{turn: make(chan struct{})}
	if in.line = append(in.line, p); len(in.line) == 1 {
		close(p.turn)
	}
	return p
}

// quit gives up a place, wherever it is.
func (in *instance) quit(p *place) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.waiting.Add(-1)
	if in.line[0] != p {
		i := slices.Index(in.line, p)
		in.line = slices.Delete(in.line, i, i+1)
		return
	}
	in.line[0] = nil
	if in.line = in.line[1:]; len(in.line) > 0 {
		close(in.line[0].turn)
	}
}
