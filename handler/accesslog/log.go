package accesslog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// gatherTime is how long a line may wait for others to be written with.
const gatherTime = 20 * time.Millisecond

// Log is an access log. Its methods may be called concurrently.
type Log struct {
	samplePercent float64
	errors        bool
	keys          []key
	buffer        int
	output        *output

	some    chan struct{} // has a token once there are lines in the queue
	many    chan struct{} // and once they should not wait any longer
	closing chan struct{}
	done    chan struct{} // closed when the writer has ended

	mu     sync.Mutex
	queue  []record // what its memory has behind its end is empty
	closed bool

	dropped atomic.Int64
}

var _ intercept.Observer = (*Log)(nil)

// New starts an access log. Close must be called in the end. The error says which option
// is of no use, or why the output cannot be opened.
func New(opts Options) (*Log, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	out, err := openOutput(opts.Output, opts.Logger)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return start(opts, out), nil
}

func start(opts Options, out *output) *Log {
	l := &Log{
		samplePercent: opts.SamplePercent, errors: opts.Errors, keys: opts.keys(), buffer: opts.Buffer, output: out,
		some: make(chan struct{}, 1), many: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	go l.write(newWriter(opts.Format, l.keys, out, &l.dropped)) // ends with Close
	return l
}

// Begin implements intercept.Observer.
func (l *Log) Begin(*intercept.Call) {}

// End implements intercept.Observer: it queues the call's line, or drops it.
func (l *Log) End(c *intercept.Call) {
	outcome := c.Outcome()
	if !l.wants(&outcome) {
		return
	}
	n, ok := l.enqueue(c, &outcome)
	if !ok {
		l.dropped.Add(1)
		return
	}
	if n == 0 {
		signal(l.some)
	}
	if n == l.buffer/2 {
		signal(l.many)
	}
}

// wants reports whether a call gets a line that has ended so.
func (l *Log) wants(o *intercept.Outcome) bool {
	switch {
	case l.errors && o.Status.Code != stream.OK, l.samplePercent >= 100:
		return true
	default:
		return rand.Float64()*100 < l.samplePercent
	}
}

// enqueue adds a call's line to the queue, where n are before it. It reports false if there
// was no room.
func (l *Log) enqueue(c *intercept.Call, o *intercept.Outcome) (n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = len(l.queue)
	if n >= l.buffer || l.closed {
		return n, false
	}
	l.queue = slices.Grow(l.queue, 1)[:n+1]
	l.queue[n].fill(c, o, l.keys)
	return n, true
}

// signal leaves a token, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the goroutine that makes lines and writes them.
func (l *Log) write(w *writer) {
	defer close(l.done)
	wait := time.NewTimer(gatherTime)
	defer wait.Stop()
	var spare []record
	for closing := false; !closing; {
		select {
		case <-l.some:
			closing = l.gather(wait)
		case <-l.closing:
			closing = true
		}
		batch := l.take(spare)
		w.write(batch)
		spare = batch[:0]
	}
	w.tell()
	l.output.close()
}

// gather gives calls the time to queue more lines. It returns true at once if the log is
// being closed.
func (l *Log) gather(wait *time.Timer) (closing bool) {
	wait.Reset(gatherTime)
	select {
	case <-wait.C:
		return false
	case <-l.many:
		return false
	case <-l.closing:
		return true
	}
}

// take returns what is queued, and has the queue go on in the memory of spare.
func (l *Log) take(spare []record) []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.queue
	l.queue = spare
	return batch
}

// Dropped returns how many lines have been lost so far: the queue was full, or they
// could not be written.
func (l *Log) Dropped() int64 { return l.dropped.Load() }

// Reopen opens the output's file anew, so that what is written from then on goes to a
// new one if the old one has been moved. It does nothing for standard output and standard
// error. When the error is not nil, the log goes on with the file before.
func (l *Log) Reopen() error {
	if err := l.output.reopen(); err != nil {
		return fmt.Errorf("access log: reopen: %w", err)
	}
	signal(l.some) // so that the old file is let go of
	return nil
}

// Close writes what is queued and ends the log; lines of calls that end later are
// dropped. If ctx ends first, because the output takes nothing, its error is returned and
// the rest goes on in the background. It may be called again.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("access log: %s takes no more lines: %w", l.output.name, context.Cause(ctx))
	}
}
