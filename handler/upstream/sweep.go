package upstream

import (
	"cmp"
	"slices"
	"time"
)

// sweepInterval is how often connections are looked at. Transport.Stuck counts
// on it.
const sweepInterval = 250 * time.Millisecond

func (p *Pool) sweepUntilClosed() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, in := range p.all() {
				in.sweep(p.opts.IdleTimeout)
			}
			p.dropGone()
		case <-p.ctx.Done():
			return
		}
	}
}

// sweep ends the connections that nobody reads any more and the retired ones
// whose streams have ended, after it has retired those that are no longer wanted.
// idle is how long one without a stream is; 0: for ever. It is called at regular
// intervals.
func (in *instance) sweep(idle time.Duration) {
	in.tend(idle)
	for _, c := range in.everyConn() {
		switch {
		case c.transport.Stuck():
			c.transport.Close(errStuck)
		case c.retired.Load() && c.streams.Load() == 0:
			c.transport.Close(errRetired)
		}
	}
	in.wake() // an attempt that failed may be made again
}

// tend retires the connections that the cluster's rules say are to go, and begins
// to replace one that is too old.
func (in *instance) tend(idle time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	o := in.cluster.options.Load()
	for _, c := range in.list() {
		switch {
		case in.gone, idle > 0 && c.idleFor(idle):
			in.leaveReady(c)
		case c.expired(o.TTL):
			in.replace(c)
		}
	}
	for _, c := range in.surplus(o) {
		in.leaveReady(c)
	}
}

// surplus returns the connections that are more than there may be, and of those
// without a stream the ones that are more than are kept. One that has been
// without for less than sweepInterval may be between two calls. It needs mu.
func (in *instance) surplus(o *ClusterOptions) []*Conn {
	conns := in.list()
	slices.SortFunc(conns, func(a, b *Conn) int {
		return cmp.Or(cmp.Compare(a.streams.Load(), b.streams.Load()), a.idleSince().Compare(b.idleSince()))
	})
	idle := 0
	for _, c := range conns {
		if c.idleFor(sweepInterval) {
			idle++
		}
	}
	n := len(conns) - o.connections()
	if o.Idle >= 0 {
		n = max(n, idle-o.Idle)
	}
	return conns[:max(0, n)]
}
