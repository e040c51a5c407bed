package proxy

import (
	"maps"
	"slices"

	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// ClusterFigures is how a cluster does, for people and dashboards.
type ClusterFigures struct {
	Name string
	// Calls is how many are under way.
	Calls int64
	// Instances are those of the cluster, and how they do.
	Instances []cluster.Status
	// Connections is what there is of connections to instances, those that have left
	// the cluster and still carry calls included.
	Connections []upstream.InstanceStats
	// Discovery is how the search for instances goes, nil if they are listed.
	Discovery *discovery.Status
}

// Clusters returns the present figures of all clusters of the configuration in use, by
// name.
func (r *Relay) Clusters() []ClusterFigures {
	connections := make(map[string][]upstream.InstanceStats)
	for _, in := range r.backends.Instances() {
		connections[in.Cluster] = append(connections[in.Cluster], in)
	}
	g := r.current.Load()
	var all []ClusterFigures
	for _, name := range slices.Sorted(maps.Keys(g.clusters)) {
		l := g.clusters[name]
		f := ClusterFigures{Name: name, Calls: l.Calls(), Instances: l.Snapshot(), Connections: connections[name]}
		if l.watch != nil {
			status := l.watch.Status()
			f.Discovery = &status
		}
		all = append(all, f)
	}
	return all
}

// Clusters returns the present figures of all clusters; see Relay.Clusters.
func (p *Proxy) Clusters() []ClusterFigures { return p.relay.Clusters() }
