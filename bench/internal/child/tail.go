package child

import (
	"strings"
	"sync"
)

// tailSize is about a screenful.
const tailSize = 4 << 10

// tail keeps the last bytes written to it. Its zero value is ready to use.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

// Write never fails: a child must not block on its messages.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String is the kept text, without a first line that is no longer whole.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.buf)
	if t.cut {
		if _, rest, ok := strings.Cut(text, "\n"); ok {
			text = rest
		}
	}
	return strings.TrimSpace(text)
}
