package upstream

import (
	"cmp"
	"slices"
)

// Stats counts what is open to backends.
type Stats struct {
	Connections int   // that take new streams
	Streams     int64 // on those, and on others that are to end with their streams
}

// Stats returns the present figures.
func (p *Pool) Stats() Stats {
	var s Stats
	for _, in := range p.all() {
		s.Connections += in.connections()
		for _, c := range in.everyConn() {
			s.Streams += c.streams.Load()
		}
	}
	return s
}

// InstanceStats counts what there is of one instance.
type InstanceStats struct {
	Cluster, Address string
	Connections      int   // that take new streams
	Streams          int64 // on those, and on others that are to end with their streams
	Waiting          int64 // calls that wait for a stream
	Dials            int64 // attempts to connect so far
	Failures         int64 // those of them that failed
}

// Instances returns the present figures of each instance that a call has asked
// for and that is not forgotten, in the order of clusters and addresses.
func (p *Pool) Instances() []InstanceStats {
	all := p.all()
	stats := make([]InstanceStats, 0, len(all))
	for _, in := range all {
		stats = append(stats, in.stats())
	}
	slices.SortFunc(stats, func(a, b InstanceStats) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Address, b.Address))
	})
	return stats
}

func (in *instance) stats() InstanceStats {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := InstanceStats{
		Cluster: in.cluster.name, Address: in.address, Connections: in.connections(),
		Waiting: in.waiting.Load(), Dials: in.dials, Failures: in.failures,
	}
	for c := range in.all {
		s.Streams += c.streams.Load()
	}
	return s
}
