// Package health asks the instances of a cluster how they are, by grpc.health.v1,
// and tells the cluster.
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)
//
// # Goroutines
//
// A Checker has one goroutine that follows which instances there are, and one for
// each of them. They end with Close; one of an instance also when that is gone.
package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Opener opens a call to an instance. The request is the Opener's to complete, with
// an authority and with metadata; when ctx ends, so must the call. The error is a
// *stream.Failure. It may be called concurrently.
type Opener func(ctx context.Context, address string, req *stream.Request) (stream.Outbound, error)

// Options is what a Checker works with.
type Options struct {
	// Cluster has the instances; required.
	Cluster *cluster.Cluster
	// Config says what they are asked, and how often; required.
	Config *conf.HealthCheck
	// Open opens the calls; required.
	Open Opener
	// Logger is told when an instance is no longer healthy, and when it is again.
	// Default slog.Default().
	Logger *slog.Logger
}

// Checker asks instances how they are until it is closed.
type Checker struct {
	opts     Options
	question []byte // the request's message in wire form; read-only

	cancel  context.CancelFunc
	running sync.WaitGroup
	without sync.Once // the warning of instances without a health service
}

// New starts to ask the instances that the cluster has and will have. Close must be
// called in the end.
func New(opts Options) *Checker {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Checker{opts: opts, question: question(opts.Config.Service), cancel: cancel}
	c.running.Go(func() { c.follow(ctx) }) // ends with Close
	return c
}

// Close ends all questions, and waits for that. What the cluster was told stays.
func (c *Checker) Close() {
	c.cancel()
	c.running.Wait()
}

// follow asks those instances that there are.
func (c *Checker) follow(ctx context.Context) {
	asked := make(map[*cluster.Endpoint]context.CancelFunc)
	for {
		changed := c.opts.Cluster.Changed() // before looking, so that no change is missed
		asked = c.ask(ctx, asked, c.opts.Cluster.Endpoints())
		select {
		case <-changed:
		case <-ctx.Done():
			return // and with it the questions
		}
	}
}

// ask begins to ask new instances, and stops asking those that are gone. It returns
// how to stop asking the present ones.
func (c *Checker) ask(
	ctx context.Context, before map[*cluster.Endpoint]context.CancelFunc, all []*cluster.Endpoint,
) map[*cluster.Endpoint]context.CancelFunc {
	now := make(map[*cluster.Endpoint]context.CancelFunc, len(all))
	for _, e := range all {
		if stop, known := before[e]; known {
			now[e] = stop
			delete(before, e)
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		now[e] = stop
		c.running.Go(func() { c.watch(ctx, e) }) // ends with ctx
	}
	for _, stop := range before {
		stop()
	}
	return now
}

// watch asks an instance again and again.
func (c *Checker) watch(ctx context.Context, e *cluster.Endpoint) {
	w := &watched{Endpoint: e, healthy: e.Healthy()}
	for {
		err := c.askOnce(ctx, e.Address())
		if ctx.Err() != nil {
			return
		}
		c.note(w, err)
		select {
		case <-time.After(jittered(time.Duration(c.opts.Config.Interval))):
		case <-ctx.Done():
			return
		}
	}
}

// jittered returns d with up to a tenth more or less, so that not all proxies and
// instances meet each time.
func jittered(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// watched is an instance and what its answers have made of it.
type watched struct {
	*cluster.Endpoint
	healthy bool
	against int // answers in a row that say otherwise
}

// note takes in an answer; err says what is bad about it.
func (c *Checker) note(w *watched, err error) {
	if (err == nil) == w.healthy {
		w.against = 0
		return
	}
	w.against++
	needed := c.opts.Config.Healthy
	if w.healthy {
		needed = c.opts.Config.Unhealthy
	}
	if w.against < needed {
		return
	}
	w.healthy, w.against = !w.healthy, 0
	w.SetHealthy(w.healthy)
	log := c.opts.Logger.With("cluster", c.opts.Cluster.Name(), "instance", w.Address())
	if w.healthy {
		log.Info("a backend instance is healthy again")
	} else {
		log.Warn("a backend instance is not healthy", "error", err)
	}
}
