package cluster

import (
	"slices"
	"time"
)

// Update replaces the instances. Those that stay, by their address, keep what is
// known of them. One that is there twice counts once, with the sum of its weights.
func (c *Cluster) Update(instances []Instance) {
	instances = merged(instances)
	c.change(func(now time.Time) bool {
		if same(c.all, instances) {
			return false
		}
		c.all = c.adopt(instances, now)
		return true
	})
}

// merged returns instances with each address once.
func merged(instances []Instance) []Instance {
	at := make(map[string]int, len(instances))
	all := make([]Instance, 0, len(instances))
	for _, in := range instances {
		in.Weight = min(max(in.Weight, 0), maxWeight)
		if i, known := at[in.Address]; known {
			all[i].Weight = min(all[i].Weight+in.Weight, maxWeight)
			continue
		}
		at[in.Address] = len(all)
		all = append(all, in)
	}
	return all
}

// same reports whether there is nothing new. It needs mu.
func same(all []*Endpoint, instances []Instance) bool {
	if len(all) != len(instances) {
		return false
	}
	for i, e := range all {
		if e.address != instances[i].Address || e.weight != instances[i].Weight {
			return false
		}
	}
	return true
}

// adopt returns the endpoints of instances: those that stay, and new ones, whose
// share grows if there are others. It needs mu.
func (c *Cluster) adopt(instances []Instance, now time.Time) []*Endpoint {
	known := make(map[string]*Endpoint, len(c.all))
	for _, e := range c.all {
		known[e.address] = e
		e.present = false
	}
	all := make([]*Endpoint, 0, len(instances))
	for _, in := range instances {
		e := known[in.Address]
		if e == nil {
			e = newEndpoint(c, in.Address)
			if len(c.all) > 0 {
				e.warmUp(now)
			}
		}
		e.present, e.weight = true, in.Weight
		all = append(all, e)
	}
	return all
}

// Inherit has slow starts go on as in the cluster that c takes the place of: its
// instances are not new, and others are.
func (c *Cluster) Inherit(before *Cluster) {
	since := before.beginnings()
	if c.slowStart == 0 || len(since) == 0 {
		return
	}
	c.change(func(now time.Time) bool {
		for _, e := range c.all {
			var known bool
			if e.since, known = since[e.address]; !known {
				e.warmUp(now)
			}
		}
		return true
	})
}

// beginnings returns since when the shares of the instances grow, by address; the zero
// value for those that have all of it.
func (c *Cluster) beginnings() map[string]time.Time {
	c.current() // so that what is over is known to be
	c.mu.Lock()
	defer c.mu.Unlock()
	since := make(map[string]time.Time, len(c.all))
	for _, e := range c.all {
		since[e.address] = e.since
	}
	return since
}

// current returns the set to choose from and, if that depends on it, the time.
func (c *Cluster) current() (*set, time.Time) {
	s := c.set.Load()
	if s.due.IsZero() {
		return s, time.Time{}
	}
	now := time.Now()
	if !now.Before(s.due) {
		c.change(func(time.Time) bool { return false })
		s = c.set.Load()
	}
	return s, now
}

// change has f change what is known of the instances, of which f reports whether it
// has, and makes another set of them. What was due before happens first.
func (c *Cluster) change(f func(now time.Time) bool) {
	c.mu.Lock()
	now := time.Now()
	back := c.settle(now)
	if f(now) {
		c.renew()
	}
	c.mu.Unlock()
	for _, e := range back { // without the lock, as writing may take a while
		c.log.Info("a backend instance is back", "cluster", c.name, "instance", e.address, "was_out_for", e.reason)
	}
}

// renew makes a set of what is known, and tells those who follow the instances. It
// needs mu.
func (c *Cluster) renew() {
	before := c.set.Load().all
	c.set.Store(newSet(c.all, c.slowStart))
	if !slices.Equal(before, c.all) {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// comeback is an instance that is no longer ejected.
type comeback struct{ address, reason string }

// settle takes in what time has changed, and returns the instances that it has
// brought back. It needs mu.
func (c *Cluster) settle(now time.Time) []comeback {
	s := c.set.Load()
	if s.due.IsZero() || now.Before(s.due) {
		return nil
	}
	var back []comeback
	for _, e := range c.all {
		if e.ejected() && !now.Before(e.ejectedUntil) {
			back = append(back, comeback{e.address, e.reason})
			e.readmit(now)
		}
		if now.Sub(e.since) >= c.slowStart {
			e.since = time.Time{}
		}
	}
	c.renew()
	return back
}
