package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/health"
	"github.com/kitexproxy/kitexproxy/handler/secure"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// liveCluster is a cluster in use, with what keeps it up to date. Generations of the
// configuration that do not change it share it.
type liveCluster struct {
	*cluster.Cluster
	cfg    *conf.Cluster
	tls    *tls.Config       // nil: plaintext
	source *discovery.Source // nil: its instances are listed
	watch  *discovery.Watch  // of source, once started
	health *health.Checker   // once started; nil unless instances are asked

	configured bool // the pool has its rules; of start, or of watch
}

// newCluster makes what can fail of a cluster. before is the one of that name that it
// takes the place of, nil if there is none. Nothing runs before start.
func (r *Relay) newCluster(name string, cfg *conf.Cluster, before *liveCluster) (*liveCluster, error) {
	l := &liveCluster{cfg: cfg, Cluster: cluster.New(name, cfg, cluster.Options{Logger: r.log})}
	path := conf.KeyPath("clusters", name)
	switch {
	case cfg.TLS == nil:
	case before != nil && reflect.DeepEqual(cfg.TLS, before.cfg.TLS):
		l.tls = before.tls // another one would retire all connections
	default:
		var err error
		if l.tls, err = secure.Client(cfg.TLS, r.log); err != nil {
			return nil, fmt.Errorf("%s: %w", conf.KeyPath(path, "tls"), err)
		}
	}
	if cfg.Discovery != nil {
		source, err := discovery.Open(cfg.Discovery, r.opts.registries)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", conf.KeyPath(path, "discovery"), err)
		}
		l.source = &source
	}
	if before != nil {
		l.inherit(before)
	}
	return l, nil
}

// inherit takes over what is known of the instances: those that the same source has
// found, in case that it does not answer now, which are new, and which are not healthy.
func (l *liveCluster) inherit(before *liveCluster) {
	known := before.Snapshot()
	if l.source != nil && sameSource(l.cfg.Discovery, before.cfg.Discovery) {
		var instances []cluster.Instance
		for _, s := range known {
			instances = append(instances, cluster.Instance{Address: s.Address, Weight: s.Weight})
		}
		l.Update(instances)
	}
	l.Inherit(before.Cluster)
	if !l.checksHealth() || !before.checksHealth() {
		return
	}
	for _, e := range l.Endpoints() {
		e.SetHealthy(!slices.ContainsFunc(known, func(s cluster.Status) bool { return s.Address == e.Address() && !s.Healthy }))
	}
}

// sameSource reports whether two discoveries ask the same source, however often. before
// may be nil.
func sameSource(d, before *conf.Discovery) bool {
	if before == nil {
		return false
	}
	asked := *before
	asked.Refresh = d.Refresh
	return reflect.DeepEqual(d, &asked)
}

func (l *liveCluster) checksHealth() bool { return l.cfg.Health != nil && l.cfg.Health.Check != nil }

// start begins to keep the cluster up to date; stop ends it. One that it takes the
// place of has been stopped, so that only one of them tells the pool what there is.
func (l *liveCluster) start(r *Relay) {
	if len(l.Endpoints()) > 0 {
		l.configure(r)
	}
	if l.source != nil {
		l.watch = discovery.NewWatch(discovery.Options{
			Cluster: l.Name(), Source: *l.source, Refresh: time.Duration(l.cfg.Discovery.Refresh),
			Update: func(instances []cluster.Instance) { l.update(r, instances) },
			Logger: r.log,
		})
	}
	if l.checksHealth() {
		l.health = health.New(health.Options{
			Cluster: l.Cluster, Config: l.cfg.Health.Check, Logger: r.log,
			Open: func(ctx context.Context, address string, req *stream.Request) (stream.Outbound, error) {
				return r.backends.Open(ctx, l.Name(), address, req)
			},
		})
	}
}

// update takes in what discovery has found.
func (l *liveCluster) update(r *Relay, instances []cluster.Instance) {
	l.Update(instances)
	l.configure(r)
}

// configure tells the pool of the cluster. Its rules come with the instances that they
// are for, and behind them: what has the same name and is no longer there may have been
// encrypted in another way.
func (l *liveCluster) configure(r *Relay) {
	r.backends.Keep(l.Name(), l.addresses())
	if !l.configured {
		r.backends.Configure(l.Name(), l.poolOptions())
		l.configured = true
	}
}

func (l *liveCluster) addresses() []string {
	var all []string
	for _, e := range l.Endpoints() {
		all = append(all, e.Address())
	}
	return all
}

func (l *liveCluster) poolOptions() upstream.ClusterOptions {
	idle := -1 // all
	if l.cfg.Pool.Idle != nil {
		idle = *l.cfg.Pool.Idle
	}
	return upstream.ClusterOptions{
		Connections: l.cfg.Connections, TTL: time.Duration(l.cfg.Pool.TTL), Idle: idle,
		StreamsPerConnection: l.cfg.Pool.StreamsPerConnection, Pending: l.cfg.Limits.Pending, TLS: l.tls,
	}
}

// stop ends what start has begun. Calls under way go on.
func (l *liveCluster) stop() {
	if l.health != nil {
		l.health.Close()
	}
	switch {
	case l.watch != nil:
		l.watch.Close()
	case l.source != nil:
		_ = l.source.Close() // it has not been used
	}
}

// awaitInstances waits until each of some clusters has instances, no longer than ctx,
// and returns why there are some without.
func awaitInstances(ctx context.Context, clusters map[string]*liveCluster) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		if l := clusters[name]; l.watch != nil && len(l.Endpoints()) == 0 {
			errs = append(errs, l.watch.Await(ctx))
		}
	}
	return errors.Join(errs...)
}
