// Package cluster knows the instances of a named set of backends: which there are,
// how they do, and which of them a call goes to next. It opens no connections; who
// carries calls tells it how they went.
package cluster

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/kitexproxy/kitexproxy/conf"
)

// Cluster is a named set of instances that answer alike. Its methods may be called
// concurrently.
type Cluster struct {
	name      string
	endpoints atomic.Pointer[[]*Endpoint]
	next      atomic.Uint32
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
	c := &Cluster{name: name}
	c.endpoints.Store(new([]*Endpoint))
	var listed []Instance
	for _, address := range cfg.Instances {
		listed = append(listed, Instance{Address: address, Weight: 1})
	}
	c.Update(listed)
	return c
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Update replaces the instances. Those that stay keep what is known of them.
func (c *Cluster) Update(instances []Instance) {
	all := make([]*Endpoint, 0, len(instances))
	for _, in := range instances {
		all = append(all, &Endpoint{address: in.Address})
	}
	c.endpoints.Store(&all)
}

// Endpoints returns the present instances. The slice is read-only.
func (c *Cluster) Endpoints() []*Endpoint { return *c.endpoints.Load() }

// ErrTooManyCalls is Enter's error for a call beyond the cluster's limit.
var ErrTooManyCalls = errors.New("too many calls are under way")

// Enter counts a call in, for Leave to count out; after an error there is nothing
// to count out.
func (c *Cluster) Enter() error { return nil }

// Leave counts a call out.
func (c *Cluster) Leave() {}

// Tries is where a call looks for instances. The zero value is a call that has
// tried none and has nothing in common with others. It is for one goroutine at a
// time.
type Tries struct {
	// Hash is what the call has in common with others that are to go to the same
	// instance, for conf.BalanceHash; it counts if Hashed.
	Hash   uint64
	Hashed bool

	begun bool
	start uint32
	n     uint32
}

// Next returns the instance to try next: the one whose turn it is of those that may
// be used and that down does not report, and have not been tried before. If there is
// none of those, it returns one that has been tried or may not be used rather than
// none; nil if the cluster has no instances.
func (c *Cluster) Next(t *Tries, down func(address string) bool) *Endpoint {
	all := c.Endpoints()
	if len(all) == 0 {
		return nil
	}
	if !t.begun {
		t.begun, t.start = true, c.next.Add(1)-1
	}
	for range all {
		e := all[(t.start+t.n)%uint32(len(all))]
		t.n++
		if len(all) == 1 || !down(e.address) {
			return e
		}
	}
	e := all[(t.start+t.n)%uint32(len(all))]
	t.n++
	return e
}

// Endpoint is one instance. Its methods may be called concurrently.
type Endpoint struct {
	address string
	active  atomic.Int64
}

// Address returns where it is: "host:port" or "unix:///path".
func (e *Endpoint) Address() string { return e.address }

// Begin counts a call that is sent to the instance, for End to count out.
func (e *Endpoint) Begin() { e.active.Add(1) }

// End counts a call out, and takes in how it went.
func (e *Endpoint) End(Result) { e.active.Add(-1) }

// Active returns how many calls are under way.
func (e *Endpoint) Active() int64 { return e.active.Load() }

// Result is how a call went, as far as its instance can be blamed for it.
type Result uint8

// The results.
const (
	// Unknown is that of a call that was given up before it had an answer.
	Unknown Result = iota
	// Succeeded is an answer, whatever it says, unless it is Failed.
	Succeeded
	// Failed is a call that the instance failed, or did not take.
	Failed
)
