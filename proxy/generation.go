package proxy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// generation is one configuration in use: what calls that begin go by, to their
// end. Targets know theirs as their owner.
type generation struct {
	cfg     *conf.Config
	routes  *resolver.Table
	filters filters
	around  around
	web     web

	publishing sync.Mutex // held while the gateways are told of services
	clusters   map[string]*liveCluster
}

// newGeneration makes a generation of a valid configuration. Clusters that are as
// they were in the generation before are taken over from that, which may be nil.
// Nothing of it runs yet.
func (r *Relay) newGeneration(cfg *conf.Config, before *generation) (*generation, error) {
	g := &generation{cfg: cfg, clusters: make(map[string]*liveCluster)}
	var errs []error
	var err error
	if g.filters, err = newFilters(cfg, r.opts); err != nil {
		errs = append(errs, err)
	}
	if g.around, err = newAround(cfg, r.opts, before); err != nil {
		errs = append(errs, err)
	}
	known := make(map[string]*cluster.Cluster)
	for _, name := range slices.Sorted(maps.Keys(cfg.Clusters)) {
		l := before.cluster(name)
		if l == nil || !l.cfg.Equal(cfg.Clusters[name]) {
			if l, err = r.newCluster(name, cfg.Clusters[name], l); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		g.clusters[name], known[name] = l, l.Cluster
	}
	if err := errors.Join(errs...); err != nil {
		g.stop(before)
		return nil, err
	}
	g.routes = resolver.New(cfg, known, g)
	g.web = r.newWeb(g)
	if err := g.publish(); err != nil {
		g.stop(before)
		return nil, err
	}
	return g, nil
}

// cluster returns the cluster of that name, nil if there is none.
func (g *generation) cluster(name string) *liveCluster {
	if g == nil {
		return nil
	}
	return g.clusters[name]
}

// shares reports whether a cluster is also another generation's, which may be nil.
func (g *generation) shares(name string, other *generation) bool {
	return other != nil && other.clusters[name] == g.clusters[name]
}

// start begins what the generation needs beside what the one before has running.
func (g *generation) start(r *Relay, before *generation) {
	for _, s := range resolver.Unreachable(g.cfg) {
		r.log.Warn("a route is of no use", "reason", s.Reason)
	}
	g.around.start(before)
	for name, l := range g.clusters {
		if !g.shares(name, before) {
			l.start(r)
		}
	}
	g.filters.dynamic.start(r, g, before)
}

// await waits until the generation knows its instances, its schemas and the keys to verify
// tokens by, no longer than patience, and returns what is missing.
func (g *generation) await(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return errors.Join(awaitInstances(ctx, g.clusters), g.filters.dynamic.await(ctx), g.around.await(ctx))
}

// stop ends what runs for the generation, but for what another one, which may be
// nil, has taken over. Calls under way go on.
func (g *generation) stop(other *generation) {
	if g.filters.dynamic != nil {
		g.filters.dynamic.close()
	}
	g.around.close(other)
	for name, l := range g.clusters {
		if !g.shares(name, other) {
			l.stop()
		}
	}
}

// The handler's view of the generation that calls begin in.

// Resolve implements handler.Resolver.
func (r *Relay) Resolve(c *resolver.Call) *resolver.Target { return r.current.Load().routes.Resolve(c) }

// chain returns the filters of a call on its way to a target, nil if it has none.
func (r *Relay) chain(method string, t *resolver.Target) *filter.Chain {
	return t.Owner.(*generation).filters.chain(method, t)
}

// clusterFor returns a cluster that filters of a call have chosen.
func (r *Relay) clusterFor(t *resolver.Target, name string) *cluster.Cluster {
	if l := t.Owner.(*generation).clusters[name]; l != nil {
		return l.Cluster
	}
	return nil
}
