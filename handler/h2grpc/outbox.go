package h2grpc

import (
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/h2"
)

// maxWaiting is how many bytes of a stream may wait for its receiver before the
// next write does.
const maxWaiting = 64 << 10

// outbox turns the queueing of DATA into writes that block while too much waits.
type outbox struct {
	s *h2.Stream

	mu      sync.Mutex
	left    sync.Cond
	waiting int
	err     error // why nothing can be sent any more, nil while it can
}

func (b *outbox) init(s *h2.Stream) {
	b.s = s
	b.left.L = &b.mu
}

// write queues p, for a flush to send. last ends this side of the stream.
func (b *outbox) write(p []byte, last bool) error {
	b.mu.Lock()
	for b.err == nil && b.waiting >= maxWaiting {
		b.mu.Unlock()
		b.s.Conn().Flush() // nothing leaves otherwise
		b.mu.Lock()
		if b.err == nil && b.waiting >= maxWaiting {
			b.left.Wait()
		}
	}
	if b.err != nil {
		b.mu.Unlock()
		return b.err
	}
	b.waiting += len(p)
	b.mu.Unlock()
	b.sent(b.s.WriteData(p, last))
	return nil
}

// sent says that n bytes wait no longer.
func (b *outbox) sent(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting -= n
	b.left.Signal()
}

// fail ends writing at once.
func (b *outbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		b.left.Broadcast()
	}
}
