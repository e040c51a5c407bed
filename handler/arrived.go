package handler

import (
	"io"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// pieces are parts of a request that have been read and not sent yet.
type pieces [][]byte

// takeLimit is how much of a request is taken in before the backend's side is
// open. It is less than a transport queues without blocking, so that a backend
// that answers at length before it has read the request cannot be deadlocked.
const takeLimit = 32 << 10

// takeWhatIsThere reads a request that has arrived whole, as most unary ones
// have when their call begins. Such a call needs no goroutine for its request,
// its END_STREAM can go with the last message, and one that breaks off or is
// too long never gets to a backend.
//
// whole reports whether that was the entire request. Nothing is read from one
// that has not all arrived, since that might block.
func (p *pump) takeWhatIsThere(in stream.Inbound) (there pieces, whole bool, err error) {
	if !in.Complete() {
		return nil, false, nil
	}
	for taken := 0; taken < takeLimit; {
		b, err := p.next()
		switch {
		case err == io.EOF:
			return there, true, nil
		case err != nil:
			return nil, false, err
		}
		there = append(there, b)
		taken += len(b)
	}
	return there, false, nil
}

// send writes the pieces. An error would be the response's to tell.
func (ps pieces) send(out stream.Outbound, whole bool) {
	for i, b := range ps {
		_ = out.Write(b, whole && i == len(ps)-1)
	}
	if whole && len(ps) == 0 {
		_ = out.Write(nil, true)
	}
}
