package handler

import (
	"io"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// taken is the part of a request that has been read and not sent yet.
type taken [][]byte

// takeLimit is how much of a request is taken in before the backend's side is
// open. It is less than a transport queues without blocking, so that a backend
// that answers at length before it has read the request cannot be deadlocked.
const takeLimit = 32 << 10

// takeWhatIsThere reads a request that has arrived whole, as most unary ones
// have when their call begins. Such a call needs no goroutine for its request,
// its END_STREAM can go with the last message, and one that breaks off or is
// too long never gets to a backend.
//
// whole reports whether that was the entire request. Of one that has not all
// arrived nothing is read, since that might block, unless first asks to wait for
// its first piece.
func takeWhatIsThere(in stream.Inbound, from pieces, first bool) (there taken, whole bool, err error) {
	for n := 0; n < takeLimit && (first || in.Complete()); first = false {
		b, err := from.next()
		switch {
		case err == io.EOF:
			return there, true, nil
		case err != nil:
			return nil, false, err
		}
		there = append(there, b)
		n += len(b)
	}
	return there, false, nil
}

// send writes it. An error would be the response's to tell.
func (ps taken) send(out stream.Outbound, whole bool) {
	for i, b := range ps {
		_ = out.Write(b, whole && i == len(ps)-1)
	}
	if whole && len(ps) == 0 {
		_ = out.Write(nil, true)
	}
}
