// Package cluster knows the instances of a named set of backends: which there are,
// how they do, and which of them a call goes to next. It opens no connections and
// starts no goroutines; who carries calls tells it how they went.
//
// # Locks
//
// Calls choose from a set that is replaced, never changed, and count in atomic
// variables; they share no lock. Whatever makes another set takes the cluster's
// mutex: Update, and an instance that is ejected, is back or has told of itself.
package cluster

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
)

// Cluster is a named set of instances that answer alike. Its methods may be called
// concurrently.
type Cluster struct {
	name      string
	balance   string
	limit     int64         // of calls under way, 0 for none
	eject     *conf.Eject   // nil: no instance is ejected
	slowStart time.Duration // 0: none
	hashOn    *conf.HashOn  // nil for nothing
	log       *slog.Logger
	begun     time.Time // what the windows of instances are counted from

	set     atomic.Pointer[set]
	turns   atomic.Uint64 // that round robin has given
	calls   atomic.Int64  // under way
	retries atomic.Int64  // attempts beside the first of their calls; see EnterRetry

	mu      sync.Mutex // guards changes of set, and what it is made of
	all     []*Endpoint
	changed chan struct{} // closed and replaced when all is replaced
}

// Instance is what discovery tells of an instance.
type Instance struct {
	Address string
	// Weight is its share of calls; 0 gets none.
	Weight int
}

// Options is what a Cluster works with beside its configuration.
type Options struct {
	// Logger is told which instances are taken out and come back. Default
	// slog.Default().
	Logger *slog.Logger
}

// New returns a cluster with the instances that its configuration lists, if it
// does. cfg is valid, and not changed afterwards.
func New(name string, cfg *conf.Cluster, opts Options) *Cluster {
	c := &Cluster{
		name: name, balance: cfg.Balance, limit: int64(cfg.Limits.Calls), log: opts.Logger,
		begun: time.Now(), changed: make(chan struct{}), hashOn: cfg.HashOn,
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if cfg.Health != nil {
		c.eject, c.slowStart = cfg.Health.Eject, time.Duration(cfg.Health.SlowStart)
	}
	c.set.Store(new(set))
	c.Update(listed(cfg))
	return c
}

func listed(cfg *conf.Cluster) []Instance {
	var all []Instance
	for _, address := range cfg.Instances {
		weight, ok := cfg.Weights[address]
		if !ok {
			weight = 1
		}
		all = append(all, Instance{Address: address, Weight: weight})
	}
	return all
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Endpoints returns the present instances. The slice is read-only.
func (c *Cluster) Endpoints() []*Endpoint { return c.set.Load().all }

// Changed returns a channel that is closed when Endpoints returns others. Who
// follows them calls it before Endpoints, so as to miss none.
func (c *Cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// ErrTooManyCalls is Enter's error for a call beyond the cluster's limit.
var ErrTooManyCalls = errors.New("too many calls are under way")

// Enter counts a call in, for Leave to count out; after an error there is nothing
// to count out.
func (c *Cluster) Enter() error {
	if n := c.calls.Add(1); c.limit > 0 && n > c.limit {
		c.calls.Add(-1)
		return ErrTooManyCalls
	}
	return nil
}

// Leave counts a call out.
func (c *Cluster) Leave() { c.calls.Add(-1) }

// Calls returns how many calls are under way, from Enter to Leave.
func (c *Cluster) Calls() int64 { return c.calls.Load() }

// Next returns the instance to try next: the one whose turn it is of those that may
// be used and that down does not report, and have not been tried before. If there is
// none of those, it returns one that has been tried or may not be used rather than
// none; nil if the cluster has no instance with a weight.
func (c *Cluster) Next(t *Tries, down func(address string) bool) *Endpoint {
	s, now := c.current()
	if len(s.usable) == 0 {
		return nil
	}
	if len(s.usable) == 1 && len(s.rest) == 0 { // whatever is to be said against it
		return s.usable[0].Endpoint
	}
	l := lookup{set: s, now: now, tries: t, down: down}
	found := c.choose(&l)
	if found == nil {
		found = l.leastBad()
	}
	t.note(found.Endpoint)
	return found.Endpoint
}

// choose returns the instance that the policy is for, and nil if that finds none
// soon.
func (c *Cluster) choose(l *lookup) *candidate {
	switch {
	case c.balance == conf.BalanceRandom:
		return l.random()
	case c.balance == conf.BalanceLeastActive:
		return l.leastActive()
	case c.balance == conf.BalanceHash && l.tries.Hashed:
		return l.hashed(l.tries.Hash)
	default:
		return l.inTurn(&c.turns)
	}
}
