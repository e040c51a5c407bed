package h2grpc

import (
	"io"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/h2"
)

// inbox turns the DATA that the reader of a connection brings into blocking
// reads. It holds no more than the stream's window, because it credits only
// what has been read.
type inbox struct {
	s *h2.Stream

	mu      sync.Mutex
	arrived sync.Cond
	buf     []byte // buf[start:] has not been read
	start   int
	ended   error // what follows buf: io.EOF or why there is no more; nil while there may be
	err     error // why nothing is read any more, nil while it is
}

func (b *inbox) init(s *h2.Stream) {
	b.s = s
	b.arrived.L = &b.mu
}

// put is for the connection's reader. It reports false if nobody will read p.
func (b *inbox) put(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.ended != nil {
		return false
	}
	if b.start > len(b.buf)/2 && len(b.buf)+len(p) > cap(b.buf) {
		// Else a reader that is always a little behind would have it grow by
		// all that has been read.
		b.buf, b.start = b.buf[:copy(b.buf, b.buf[b.start:])], 0
	}
	b.buf = append(b.buf, p...)
	b.arrived.Signal()
	return true
}

// end ends reading behind what has come: with io.EOF, or why there is no more.
// Only the first call has an effect.
func (b *inbox) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = err
		b.arrived.Broadcast()
	}
}

// fail ends reading at once, and credits what has not been read.
func (b *inbox) fail(err error) {
	b.mu.Lock()
	unread := 0
	if b.err == nil {
		b.err = err
		unread = len(b.buf) - b.start
		b.buf, b.start = nil, 0
		b.arrived.Broadcast()
	}
	b.mu.Unlock()
	if unread > 0 {
		b.s.Credit(unread)
	}
}

// read fills p; see stream.Inbound. What it has taken out is credited before it
// waits, so that p may be larger than the window.
func (b *inbox) read(p []byte) error {
	for filled := 0; filled < len(p); {
		if !b.ready(1) {
			b.s.Conn().FlushSoon() // the credit
		}
		n, err := b.take(p[filled:])
		if n > 0 {
			filled += n
			b.s.Credit(n)
		}
		if err == io.EOF && filled > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take waits until there is something, and takes out what fits into p.
func (b *inbox) take(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.err != nil:
			return 0, b.err
		case b.start < len(b.buf):
			n := copy(p, b.buf[b.start:])
			b.start += n
			return n, nil
		case b.ended != nil:
			return 0, b.ended
		}
		b.arrived.Wait()
	}
}

// ready reports whether a read of n bytes would not wait.
func (b *inbox) ready(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.buf)-b.start >= n || b.ended != nil || b.err != nil
}

// complete reports whether all there will ever be has come.
func (b *inbox) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended != nil || b.err != nil
}
