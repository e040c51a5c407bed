package handler

import (
	"sync"
	"sync/atomic"
	"time"
)

// idle ends a call that has had no message for a while. A nil one watches nothing.
type idle struct {
	limit time.Duration
	began time.Time
	last  atomic.Int64 // when there was one, in nanoseconds since began

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// watchIdle starts to watch a call; stop ends that. onIdle is called once at most,
// from a goroutine of its own.
func watchIdle(limit time.Duration, onIdle func()) *idle {
	w := &idle{limit: limit, began: time.Now()}
	w.mu.Lock() // which the function waits for
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, func() {
		if w.isIdle() {
			onIdle()
		}
	})
	return w
}

// isIdle reports whether the limit has been reached, and sets the timer for when it
// may be if it has not.
func (w *idle) isIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	rest := time.Duration(w.last.Load()) + w.limit - time.Since(w.began)
	if rest > 0 {
		w.timer.Reset(rest)
	}
	return rest <= 0
}

// touch notes that something has moved.
func (w *idle) touch() {
	if w != nil {
		w.last.Store(int64(time.Since(w.began)))
	}
}

func (w *idle) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
