package cluster

import (
	"hash/fnv"
	"sync/atomic"
	"time"
)

// Endpoint is one instance. Its methods may be called concurrently.
type Endpoint struct {
	address string
	key     uint64 // by the address: the same in all proxies
	cluster *Cluster

	active   atomic.Int64
	failures atomic.Int64 // in a row
	recent   window

	// What follows is guarded by the cluster's mu.
	weight    int
	present   bool      // it is one of the cluster's
	unhealthy bool      // so somebody says who asked it
	since     time.Time // see candidate
	ejection
}

func newEndpoint(c *Cluster, address string) *Endpoint {
	h := fnv.New64a()
	_, _ = h.Write([]byte(address)) // cannot fail
	return &Endpoint{address: address, key: mix(h.Sum64()), cluster: c}
}

// Address returns where it is: "host:port" or "unix:///path".
func (e *Endpoint) Address() string { return e.address }

// Begin counts a call that is sent to the instance, for End to count out.
func (e *Endpoint) Begin() { e.active.Add(1) }

// End counts a call out, and takes in how it went.
func (e *Endpoint) End(r Result) {
	e.active.Add(-1)
	if e.cluster.eject == nil {
		return
	}
	switch r {
	case Succeeded:
		e.succeeded()
	case Failed:
		e.failed()
	}
}

// Active returns how many calls are under way.
func (e *Endpoint) Active() int64 { return e.active.Load() }

// SetHealthy says how the instance does according to somebody who asked it. Until
// the first time it counts as healthy.
func (e *Endpoint) SetHealthy(healthy bool) {
	e.cluster.change(func(now time.Time) bool {
		if e.unhealthy == !healthy {
			return false
		}
		e.unhealthy = !healthy
		if healthy {
			e.warmUp(now)
		}
		return true
	})
}

// Healthy returns what SetHealthy has said last.
func (e *Endpoint) Healthy() bool {
	e.cluster.mu.Lock()
	defer e.cluster.mu.Unlock()
	return !e.unhealthy
}

// warmUp has the instance's share of calls grow from now on. It needs the cluster's
// mu.
func (e *Endpoint) warmUp(now time.Time) {
	if e.cluster.slowStart > 0 {
		e.since = now
	}
}

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
