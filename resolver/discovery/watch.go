package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

const (
	// defaultRefresh is what conf.Discovery has.
	defaultRefresh = 5 * time.Second
	// maxRetry is how soon a source is asked again that failed, at the latest.
	maxRetry = 5 * time.Second
	// askTimeout bounds one question.
	askTimeout = 5 * time.Second
	// settle is waited for after a change is told of, since they come in groups.
	settle = 50 * time.Millisecond
	// jitter is the part of a pause that chance adds to it or takes away, so that
	// many proxies do not ask at the same moment.
	jitter = 0.1
)

// Options is what a Watch works with.
type Options struct {
	// Cluster is the name for people.
	Cluster string
	// Source is asked. The Watch owns it, and closes it.
	Source Source
	// Refresh is how often it is asked, give or take 10 percent. Default 5s.
	Refresh time.Duration
	// Update takes the instances whenever they are others than before: at least
	// one, sorted by address, each address once. It is called by one goroutine at
	// a time, not after Close has returned, and may keep the slice.
	Update func([]cluster.Instance)
	// Logger is told of changes and of what is wrong, once for each thing that is.
	// Default slog.Default().
	Logger *slog.Logger
}

// Status is how a Watch does.
type Status struct {
	// Source is the name of what is asked.
	Source string
	// Instances is how many are in use, and Refused how many things of the last
	// answer could not be used.
	Instances, Refused int
	// Changed is when the instances became what they are, and Succeeded when the
	// source last had some; zero if it never did.
	Changed, Succeeded time.Time
	// Err is what was wrong with the last answer, and Failed when that was. Err is
	// nil if nothing was, and then Failed is when something was the last time.
	Err    error
	Failed time.Time
}

// Watch asks a Source again and again. Its methods may be called concurrently.
type Watch struct {
	opts    Options
	logger  *slog.Logger
	end     context.CancelFunc
	running sync.WaitGroup
	close   func()
	changed chan struct{} // holds one notice from the source
	found   chan struct{} // closed when there were instances for the first time
	ended   <-chan struct{}

	// These belong to run.
	instances []cluster.Instance
	trouble   notice // of the answers as a whole
	refusals  notice // of parts of them

	mu     sync.Mutex
	status Status
}

// NewWatch begins to ask a source, until Close.
func NewWatch(opts Options) *Watch {
	ctx, end := context.WithCancel(context.Background())
	w := &Watch{
		opts:    opts,
		end:     end,
		changed: make(chan struct{}, 1),
		found:   make(chan struct{}),
		ended:   ctx.Done(),
		status:  Status{Source: opts.Source.Name},
	}
	if w.opts.Refresh <= 0 {
		w.opts.Refresh = defaultRefresh
	}
	if w.opts.Logger == nil {
		w.opts.Logger = slog.Default()
	}
	w.logger = w.opts.Logger.With("cluster", opts.Cluster, "source", opts.Source.Name)
	w.close = sync.OnceFunc(w.stop)
	w.running.Go(func() { w.run(ctx) })
	if opts.Source.Notify != nil {
		w.running.Go(func() { opts.Source.Notify(ctx, w.notify) })
	}
	return w
}

// Close ends the watch, waits until nothing of it runs, and closes the source.
// Calling it again does nothing.
func (w *Watch) Close() { w.close() }

func (w *Watch) stop() {
	w.end()
	w.running.Wait()
	if err := w.opts.Source.Close(); err != nil {
		w.logger.Warn("source of instances not closed properly", "error", err)
	}
}

// Await returns when instances have been found for the first time. If ctx or the
// watch ends before, the error says what is wrong with the source.
func (w *Watch) Await(ctx context.Context) error {
	select {
	case <-w.found:
		return nil
	default:
	}
	cause := errors.New("the watch has ended")
	select {
	case <-w.found:
		return nil
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-w.ended:
	}
	if last := w.Status().Err; last != nil {
		cause = last
	}
	return fmt.Errorf("cluster %q has no instances from %s yet: %w", w.opts.Cluster, w.opts.Source.Name, cause)
}

// Status returns how the watch does.
func (w *Watch) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// notify has the source asked soon.
func (w *Watch) notify() {
	select {
	case w.changed <- struct{}{}:
	default: // it is going to be
	}
}

// run asks until ctx ends.
func (w *Watch) run(ctx context.Context) {
	for ctx.Err() == nil {
		found, refused, err := w.ask(ctx)
		if ctx.Err() != nil {
			return // an error that Close made
		}
		if err == nil {
			w.take(found, refused)
		} else {
			w.keep(err, refused)
		}
		w.pause(ctx, err != nil)
	}
}

// ask returns the instances that the source has, of which at least one gets calls, and
// what cannot be used of its answer.
func (w *Watch) ask(ctx context.Context) (found []cluster.Instance, refused []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	result, err := resolve(ctx, &w.opts.Source)
	var incomplete *IncompleteError
	if errors.As(err, &incomplete) {
		refused, err = incomplete.Missing, nil
	}
	if err != nil {
		return nil, nil, err
	}
	found, unusable := usable(result.Instances)
	refused = append(slices.Clip(refused), unusable...)
	switch {
	case slices.ContainsFunc(found, func(in cluster.Instance) bool { return in.Weight > 0 }):
		return found, refused, nil
	case len(found) > 0:
		return nil, refused, errors.New("all of its instances have a weight of 0, so that no call could be answered")
	case len(refused) > 0:
		return nil, refused, fmt.Errorf("it has no instance that can be used: %s", summary(refused))
	default:
		return nil, nil, errors.New("it has no instances")
	}
}

// resolve asks a source. Resolvers are code of others: a panic is an error of theirs.
func resolve(ctx context.Context, source *Source) (result discovery.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the resolver panicked: %v", p)
		}
	}()
	target := rpcinfo.NewEndpointInfo(source.Service, "", nil, nil)
	return source.Resolver.Resolve(ctx, source.Resolver.Target(ctx, target))
}

// take puts instances into use, if they are others than before.
func (w *Watch) take(found []cluster.Instance, refused []string) {
	changed := !slices.Equal(found, w.instances)
	before := len(w.instances)
	if changed {
		w.instances = found
		w.opts.Update(slices.Clone(found))
	}
	w.note(func(s *Status, now time.Time) {
		s.Instances, s.Refused, s.Succeeded, s.Err = len(found), len(refused), now, nil
		if changed {
			s.Changed = now
		}
	})
	if before == 0 {
		close(w.found)
	}
	if w.trouble.clear() {
		w.logger.Info("the source of instances answers again", "instances", len(found))
	}
	if changed {
		w.logger.Info("instances found", "instances", len(found), "before", before)
	}
	w.refuse(refused)
}

// keep leaves those in use that were found last.
func (w *Watch) keep(err error, refused []string) {
	w.note(func(s *Status, now time.Time) { s.Refused, s.Err, s.Failed = len(refused), err, now })
	if !w.trouble.isNews(err.Error()) {
		return
	}
	if len(w.instances) == 0 {
		w.logger.Warn("no instances found yet", "error", err)
		return
	}
	w.logger.Warn("no instances found; the last known ones stay in use", "error", err, "instances", len(w.instances))
}

// refuse tells of what cannot be used of an answer.
func (w *Watch) refuse(refused []string) {
	if len(refused) == 0 {
		w.refusals.clear()
		return
	}
	if text := summary(refused); w.refusals.isNews(text) {
		w.logger.Warn("some of the instances found cannot be used", "problem", text)
	}
}

// note changes the status.
func (w *Watch) note(change func(s *Status, now time.Time)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status, time.Now())
}

// pause waits until it is time to ask again.
func (w *Watch) pause(ctx context.Context, failed bool) {
	long := w.opts.Refresh
	if failed {
		long = min(long, maxRetry)
	}
	long += time.Duration((2*rand.Float64() - 1) * jitter * float64(long))
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-w.changed:
		timer.Reset(settle)
		select {
		case <-ctx.Done():
		case <-timer.C:
			w.forget()
		}
	}
}

// forget drops a notice that the next question covers.
func (w *Watch) forget() {
	select {
	case <-w.changed:
	default:
	}
}

// notice is what the log was told last about one matter.
type notice struct{ shape string }

// isNews tells whether text says something else than the last one did. Numbers do not
// count: the error of a lookup has the port that it was sent from.
func (n *notice) isNews(text string) bool {
	shape := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
	news := shape != n.shape
	n.shape = shape
	return news
}

// clear tells whether there was something to tell.
func (n *notice) clear() bool {
	was := n.shape != ""
	n.shape = ""
	return was
}

// summary is the first of many things.
func summary(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:most], "; "), len(all)-most)
}
