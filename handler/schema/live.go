package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// LiveOptions says how a Live keeps its schema up to date. The zero value fetches
// one and leaves it at that.
type LiveOptions struct {
	// Refresh is how long a schema is taken for up to date; 0: for ever.
	Refresh time.Duration
	// Retry is the pause after a fetch that fails. It doubles with each further
	// one, up to 30 s, and is made shorter by up to a half at random, so that
	// proxies do not all ask at once. Default 1 s.
	Retry time.Duration
	// Timeout bounds a fetch. Default 30 s.
	Timeout time.Duration
	// Changed, if set, is called with each schema that is not like the one
	// before, and before Current returns it. An error refuses the schema, and is
	// like one of the fetch; it is not asked again about the same one. It must not call Close.
	Changed func(*Schema) error
	// Logger is told when fetching begins to fail, when it fails for another
	// reason and when it is well again. Default slog.Default().
	Logger *slog.Logger
}

// maxRetry is the longest pause after a fetch that fails.
const maxRetry = 30 * time.Second

// Live is a schema that is fetched, and fetched again. Its methods may be called
// concurrently.
type Live struct {
	fetch  func(ctx context.Context) (*Schema, error)
	opts   LiveOptions
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is fetched any more

	current atomic.Pointer[Schema]
	first   chan struct{} // closed when current is set

	mu      sync.Mutex
	problem error // of the last fetch

	refused *Schema // by Changed, last; for the goroutine that fetches
	refusal error
}

// NewLive starts to fetch a schema. fetch has to return soon after its context
// ends. Close must be called in the end.
func NewLive(fetch func(ctx context.Context) (*Schema, error), opts LiveOptions) *Live {
	opts.Retry = cmp.Or(opts.Retry, time.Second)
	opts.Timeout = cmp.Or(opts.Timeout, 30*time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Live{fetch: fetch, opts: opts, cancel: cancel, done: make(chan struct{}), first: make(chan struct{})}
	go l.run(ctx) // ends with Close
	return l
}

// Close ends fetching, and waits for it to end. The schema stays.
func (l *Live) Close() {
	l.cancel()
	<-l.done
}

// Current returns the schema, nil while there was none yet.
func (l *Live) Current() *Schema { return l.current.Load() }

// Await waits for the first schema. The error says why there is none: what went
// wrong with the last fetch, if ctx or Close did not come before the first.
func (l *Live) Await(ctx context.Context) (*Schema, error) {
	var why error
	select {
	case <-l.first:
		return l.Current(), nil
	case <-l.done:
		why = errClosed
	case <-ctx.Done():
		why = context.Cause(ctx)
	}
	if s := l.Current(); s != nil { // the select takes any that is ready
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem != nil {
		return nil, fmt.Errorf("no schema yet (%w): %w", why, l.problem)
	}
	return nil, fmt.Errorf("no schema yet: %w", why)
}

var errClosed = errors.New("the proxy is shutting down")

func (l *Live) run(ctx context.Context) {
	defer close(l.done)
	retry := l.opts.Retry
	for {
		pause := l.opts.Refresh
		err := l.update(ctx)
		if ctx.Err() != nil {
			return
		}
		l.report(err)
		switch {
		case err != nil:
			pause = retry/2 + rand.N(retry/2+1)
			retry = max(l.opts.Retry, min(2*retry, maxRetry))
		case pause == 0:
			return
		default:
			retry = l.opts.Retry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// update fetches the schema, and makes it the current one if it has changed.
func (l *Live) update(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.opts.Timeout, fmt.Errorf("not done within %v", l.opts.Timeout))
	defer cancel()
	s, err := l.fetch(ctx)
	if err != nil {
		return err
	}
	before := l.Current()
	if s.same(before) {
		return nil
	}
	if s.same(l.refused) {
		return l.refusal
	}
	if l.opts.Changed != nil {
		if err := l.opts.Changed(s); err != nil {
			l.refused, l.refusal = s, fmt.Errorf("the schema has changed, and the new one is refused: %w", err)
			return l.refusal
		}
	}
	l.refused, l.refusal = nil, nil
	l.current.Store(s)
	if before == nil {
		close(l.first)
	}
	for _, m := range s.Missing() {
		l.opts.Logger.Warn("a service is not in the schema", "service", m.Service, "error", m.Err)
	}
	return nil
}

// report notes what has become of a fetch, and logs what is new about it.
func (l *Live) report(err error) {
	l.mu.Lock()
	before := l.problem
	l.problem = err
	l.mu.Unlock()
	switch {
	case err == nil && before != nil:
		l.opts.Logger.Info("the schema is up to date again")
	case err != nil && (before == nil || before.Error() != err.Error()):
		if l.Current() == nil {
			l.opts.Logger.Warn("there is no schema yet", "error", err)
		} else {
			l.opts.Logger.Warn("the schema cannot be refreshed; the old one stays in use", "error", err)
		}
	}
}
