// Package resolver decides where a call goes: which route it matches, which
// cluster answers it, and how it crosses. Which instance of the cluster is tried is
// for package cluster to say.
package resolver

import (
	"cmp"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Table holds the routes of one configuration. It is immutable and safe for
// concurrent use; its methods never block.
type Table struct {
	clusters map[string]*cluster.Cluster
	choices  []*choice // of the routes, in order
	index    index
	fallback *choice // nil for none
	metadata bool    // whether a route looks at it
}

// New builds the table of a valid configuration, whose clusters it finds by name.
// owner is what Target.Owner is of its targets. Parts of cfg are kept; it must not
// be changed afterwards.
func New(cfg *conf.Config, clusters map[string]*cluster.Cluster, owner any) *Table {
	t := &Table{clusters: clusters}
	for i, m := range newMatchers(cfg.Routes) {
		action := &cfg.Routes[i].Action
		t.choices = append(t.choices, newChoice(newTarget(nameOf(cfg, i), action, clusters, owner), action, clusters))
		t.index.add(m)
		t.metadata = t.metadata || len(m.metadata) > 0
	}
	if cfg.Default != nil {
		t.fallback = newChoice(newTarget("default", cfg.Default, clusters, owner), cfg.Default, clusters)
	}
	return t
}

// nameOf names the ith route, for people.
func nameOf(cfg *conf.Config, i int) string {
	return cmp.Or(cfg.Routes[i].Name, conf.ItemPath("routes", i))
}

// Cluster returns the cluster of that name, nil if there is none.
func (t *Table) Cluster(name string) *cluster.Cluster { return t.clusters[name] }

// NeedsMetadata reports whether any route looks at metadata. If none does, calls
// may be resolved without.
func (t *Table) NeedsMetadata() bool { return t.metadata }

// Default returns the target of a call that no route matches, nil if there is
// none. A split takes its choice each time.
func (t *Table) Default() *Target {
	if t.fallback == nil {
		return nil
	}
	return t.fallback.pick()
}

// Resolve returns the target of a call: that of the first route that matches, else
// Default; nil without one. Nothing matches unless the method is WellFormed.
//
// The cost does not grow with the number of routes that differ in method, service,
// package, authority, an exact value of metadata or network; it does with the keys
// that have exact values, each of which is asked for. Routes that agree in all of
// these, and differ only in regular expressions, prefixes or the presence of
// metadata, are gone through in their order. Nothing is allocated, unless the
// authority has capitals.
func (t *Table) Resolve(c *Call) *Target {
	if !WellFormed(c.Method) {
		return nil
	}
	s := searchCall(c)
	t.index.find(&s)
	if s.found == nil {
		return t.Default()
	}
	return t.choices[s.found.rank].pick()
}
