package h2grpc

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of a client's call. It is a context like those of
// package context, and cheaper where there is one of it for each call: nothing is
// allocated for the usual call, which nobody waits for the end of but the
// backend's side.
type callContext struct {
	deadline time.Time // zero for none

	mu      sync.Mutex
	err     error // once it has ended
	done    chan struct{}
	timer   *time.Timer
	watcher watcher            // the usual one
	others  map[*func()]func() // further ones
}

// watcher is told, from any goroutine, that a context has ended.
type watcher interface{ contextEnded() }

var _ context.Context = (*callContext)(nil)

// endAt has the context end at a deadline, and late called then. It is for before
// anybody else has the context.
func (c *callContext) endAt(deadline time.Time, late func()) {
	c.deadline = deadline
	c.mu.Lock() // which the function waits for
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(time.Until(deadline), func() {
		c.end(context.DeadlineExceeded)
		late()
	})
}

// end ends the context with err. Only the first call has an effect.
func (c *callContext) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	w, others := c.watcher, c.others
	c.watcher, c.others = nil, nil
	c.mu.Unlock()
	if w != nil {
		w.contextEnded()
	}
	for _, f := range others {
		go f() // as context.AfterFunc does; ends with f
	}
}

// watch has w told of the end, until unwatch. There is one watcher at a time; it
// reports false if there is one already, or the context has ended.
func (c *callContext) watch(w watcher) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.watcher != nil {
		return false
	}
	c.watcher = w
	return true
}

func (c *callContext) unwatch(w watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watcher == w {
		c.watcher = nil
	}
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value implements context.Context. There are none.
func (c *callContext) Value(any) any { return nil }

// AfterFunc has f called in a goroutine of its own when the context ends. Package
// context uses it for contexts made of this one, instead of a goroutine for each.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.others == nil {
		c.others = make(map[*func()]func())
	}
	key := &f
	c.others[key] = f
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.others[key]
		delete(c.others, key)
		return there
	}
}
