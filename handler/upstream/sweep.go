package upstream

import "time"

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
		case <-p.ctx.Done():
			return
		}
	}
}

// sweep ends the connections that nobody reads any more and the retired ones
// whose streams have ended, and retires those without a call for longer than
// idle (0: never). It is called at regular intervals.
func (in *instance) sweep(idle time.Duration) {
	for _, c := range in.everyConn() {
		switch {
		case c.transport.Stuck():
			c.transport.Close(errStuck)
		case c.retired.Load() && c.streams.Load() == 0:
			c.transport.Close(errRetired)
		case idle > 0 && c.streams.Load() == 0 && time.Since(c.idleSince()) > idle:
			c.Retire() // the next sweep ends it, unless a call has come in between
		}
	}
}
