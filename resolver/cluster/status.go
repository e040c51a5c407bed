package cluster

import "time"

// Status is how an instance does, for people and figures.
type Status struct {
	Address string
	Weight  int
	// Share is which part of its weight counts: less than 1 in a slow start, and 0
	// for an instance that gets no calls.
	Share float64
	// Active is how many calls are under way.
	Active int64
	// Failures is how many of its last calls failed in a row; they are counted if
	// instances can be ejected.
	Failures int64
	// Healthy is false if the instance says so itself, or does not answer health
	// checks.
	Healthy bool
	// Ejected is true while the instance is out because its calls failed, with
	// Reason, until EjectedUntil. Both are zero otherwise.
	Ejected      bool
	Reason       string
	EjectedUntil time.Time
	// Ejections is how often it has been out for that so far.
	Ejections int64
}

// Snapshot returns how the instances do, in the order of Endpoints.
func (c *Cluster) Snapshot() []Status {
	c.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := c.set.Load(), time.Now()
	all := make([]Status, len(s.all))
	at := make(map[*Endpoint]*Status, len(all))
	for i, e := range s.all {
		all[i] = e.status()
		at[e] = &all[i]
	}
	for i := range s.usable {
		at[s.usable[i].Endpoint].Share = s.share(&s.usable[i], now)
	}
	return all
}

// status needs the cluster's mu.
func (e *Endpoint) status() Status {
	s := Status{
		Address: e.address, Weight: e.weight, Active: e.active.Load(), Failures: e.failures.Load(),
		Healthy: !e.unhealthy, Ejected: e.ejected(), Ejections: e.ejections,
	}
	if s.Ejected {
		s.Reason, s.EjectedUntil = e.reason, e.ejectedUntil
	}
	return s
}
