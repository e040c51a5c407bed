package upstream

import (
	"crypto/tls"
	"maps"
	"math"
	"sync/atomic"
	"time"
)

// ClusterOptions are the rules for the connections of a cluster. They can be
// changed while calls are under way; see Pool.Configure.
type ClusterOptions struct {
	// Connections is how many connections an instance gets at most. One is opened
	// at first, others when those are busy. Less than one stands for one.
	Connections int
	// TTL is how old a connection gets before another one takes its place; its
	// streams go on. 0: any age.
	TTL time.Duration
	// Idle is how many connections without a stream an instance keeps; -1: all,
	// until Options.IdleTimeout.
	Idle int
	// StreamsPerConnection is how many streams a connection carries at a time; 0:
	// as many as the backend allows.
	StreamsPerConnection int
	// Pending is how many calls may wait for a connection to any of the
	// instances; 0: any number.
	Pending int
	// TLS encrypts the connections; nil: plaintext. It is told from another one by
	// its address, and not changed once given; see Peer.
	TLS *tls.Config
}

// unconfigured are the options of a cluster before Configure.
var unconfigured = ClusterOptions{Connections: 1, Idle: -1}

// connections is how many connections an instance gets at most.
func (o *ClusterOptions) connections() int { return max(1, o.Connections) }

// streams is how many streams a connection carries at a time, whatever its
// backend allows.
func (o *ClusterOptions) streams() int64 {
	if o.StreamsPerConnection <= 0 {
		return math.MaxInt64
	}
	return int64(o.StreamsPerConnection)
}

// cluster is what the instances of a cluster have in common.
type cluster struct {
	name    string
	options atomic.Pointer[ClusterOptions] // read-only
	waiting atomic.Int64                   // the lines of all instances together

	// kept are the addresses that there are, nil if nobody has said; needs Pool.mu.
	kept map[string]bool
	// dropped are those that the last Keep has left out, and former how addresses were
	// encrypted that had gone before TLS changed: calls that chose them may still
	// come. Both need Pool.mu.
	dropped []string
	former  map[string]*tls.Config
	// forgotten is true once nothing of the cluster is to stay; needs Pool.mu.
	forgotten bool
}

// keeps reports whether address is one of the cluster's. It needs Pool.mu.
func (c *cluster) keeps(address string) bool { return c.kept == nil || c.kept[address] }

// encryption returns what new connections to an address are encrypted with. It needs
// Pool.mu.
func (c *cluster) encryption(address string) *tls.Config {
	if former, known := c.former[address]; known && !c.keeps(address) {
		return former
	}
	return c.options.Load().TLS
}

// configure takes in other options. It needs Pool.mu.
func (c *cluster) configure(o *ClusterOptions) {
	before := c.options.Swap(o).TLS
	if before == o.TLS {
		return
	}
	for _, address := range c.dropped {
		if _, known := c.former[address]; !known {
			c.former[address] = before
		}
	}
}

// mayWait counts a call in that is about to wait, unless there are too many.
func (c *cluster) mayWait() bool {
	pending := int64(c.options.Load().Pending)
	if c.waiting.Add(1) > pending && pending > 0 {
		c.waiting.Add(-1)
		return false
	}
	return true
}

// Configure sets the rules for a cluster's connections. A change of TLS retires
// those that there are: their streams go on, and new calls get new connections.
// The rest holds from now on for them, too.
//
// A change of TLS is not for instances that the last Keep has left out: calls that
// chose one a moment ago find it encrypted as it was. So who changes both calls Keep
// first.
func (p *Pool) Configure(name string, o ClusterOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cluster(name)
	if c.forgotten {
		c.forgotten, c.kept = false, nil
	}
	c.configure(&o)
	p.reconsider(c)
}

// Keep says which instances a cluster has from now on; before the first Keep it
// has all that calls ask for. The connections of others are retired: their streams
// go on, and the instance is forgotten when the last one has ended. A call that
// asks for such an instance all the same, because it chose a moment ago, is still
// served.
func (p *Pool) Keep(name string, addresses []string) {
	kept := make(map[string]bool, len(addresses))
	for _, address := range addresses {
		kept[address] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cluster(name)
	c.forgotten = false
	p.keep(c, kept)
}

// Forget lets go of a cluster, as Keep does of instances. Configure and Keep bring it
// back.
func (p *Pool) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, known := p.clusters[name]
	if !known {
		return
	}
	c.forgotten = true
	p.keep(c, map[string]bool{})
}

// keep needs mu.
func (p *Pool) keep(c *cluster, kept map[string]bool) {
	c.dropped = nil
	for address := range c.kept {
		if !kept[address] {
			c.dropped = append(c.dropped, address)
		}
	}
	c.kept = kept
	maps.DeleteFunc(c.former, func(address string, _ *tls.Config) bool { return kept[address] })
	p.reconsider(c)
}

// reconsider has the instances of a cluster take in what has changed. It needs mu.
func (p *Pool) reconsider(c *cluster) {
	for key, in := range *p.instances.Load() {
		if key.cluster == c.name {
			in.reconsider(c.keeps(in.address), c.encryption(in.address))
		}
	}
}

// cluster returns the cluster of that name, which it makes if need be. It needs mu.
func (p *Pool) cluster(name string) *cluster {
	c, known := p.clusters[name]
	if !known {
		c = &cluster{name: name, former: make(map[string]*tls.Config)}
		c.options.Store(&unconfigured)
		p.clusters[name] = c
	}
	return c
}

// dropGone forgets the instances that are no longer a cluster's and have nothing
// left, and the clusters that were to be forgotten with them. What there is to know of
// a cluster that is encrypted stays, for calls that have chosen it and come later.
func (p *Pool) dropGone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	present := *p.instances.Load()
	next := make(map[instanceKey]*instance, len(present))
	populated := make(map[string]bool)
	for key, in := range present {
		if !in.remove() {
			next[key] = in
			populated[key.cluster] = true
		}
	}
	if len(next) < len(present) {
		p.instances.Store(&next)
	}
	maps.DeleteFunc(p.clusters, func(name string, c *cluster) bool {
		return c.forgotten && !populated[name] && c.options.Load().TLS == nil
	})
}
