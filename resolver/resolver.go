// Package resolver decides where a call goes: which route it matches, which
// cluster answers it, and in which order that cluster's instances are tried.
package resolver

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
)

// Call is what a decision may depend on.
type Call struct {
	// Method is the full method name, "/package.Service/Method".
	Method string
}

// Target is where a call goes and how it crosses. It is read-only.
type Target struct {
	Cluster *Cluster
	Mode    conf.Mode
	// Timeout is the longest the call may take; 0 means no limit.
	Timeout time.Duration
	// Route names the route, for people.
	Route string
	// MaxMessage is the longest message in bytes that is let through; 0 means
	// the limit of all routes.
	MaxMessage uint32
	// ForwardUndecodable lets messages through that filters cannot decode.
	ForwardUndecodable bool
}

// Cluster is a named set of instances that answer alike.
type Cluster struct {
	Name      string
	instances []string
	next      atomic.Uint32
}

// Instances returns how many instances the cluster has.
func (c *Cluster) Instances() int { return len(c.instances) }

// Start says where a call begins to try: each call one instance further, so
// that calls, not connections, are spread.
func (c *Cluster) Start() uint32 { return c.next.Add(1) - 1 }

// Pick returns the address for the given attempt (from 0) of a call that
// started at start. It goes round, so that every instance is tried before one
// is tried again.
func (c *Cluster) Pick(start uint32, attempt int) string {
	return c.instances[(uint64(start)+uint64(attempt))%uint64(len(c.instances))]
}

// Table holds the routes of one configuration. It is immutable and safe for
// concurrent use.
type Table struct {
	clusters map[string]*Cluster
	methods  map[string]ranked
	services map[string]ranked
	fallback *Target
}

// ranked is a target with its route's place in the file: the first match wins.
type ranked struct {
	rank   int
	target *Target
}

// New builds the table of a valid configuration.
func New(cfg *conf.Config) *Table {
	clusters := make(map[string]*Cluster, len(cfg.Clusters))
	for name, c := range cfg.Clusters {
		clusters[name] = &Cluster{Name: name, instances: c.Instances}
	}
	t := &Table{clusters: clusters, methods: make(map[string]ranked), services: make(map[string]ranked)}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		entry := ranked{rank: i, target: newTarget("routes["+strconv.Itoa(i)+"]", &r.Action, clusters)}
		if r.Match.Method != "" {
			addFirst(t.methods, r.Match.Method, entry)
		} else {
			addFirst(t.services, r.Match.Service, entry)
		}
	}
	if cfg.Default != nil {
		t.fallback = newTarget("default", cfg.Default, clusters)
	}
	return t
}

// Cluster returns the cluster of that name, nil if there is none.
func (t *Table) Cluster(name string) *Cluster { return t.clusters[name] }

func addFirst(m map[string]ranked, key string, entry ranked) {
	if _, taken := m[key]; !taken {
		m[key] = entry
	}
}

func newTarget(route string, a *conf.Action, clusters map[string]*Cluster) *Target {
	mode := a.Mode
	if mode == "" {
		mode = conf.ModeFrame
	}
	return &Target{
		Cluster: clusters[a.Cluster], Mode: mode, Timeout: time.Duration(a.Timeout), Route: route,
		MaxMessage: uint32(a.MessageLimit), ForwardUndecodable: a.Undecodable == conf.UndecodableForward,
	}
}

// Default returns the target of calls that no route matches, nil if there is
// none.
func (t *Table) Default() *Target { return t.fallback }

// Resolve returns the target of a call, nil when no route matches; none does
// unless the method is WellFormed. The cost does not depend on the number of
// routes, and nothing is allocated.
func (t *Table) Resolve(c *Call) *Target {
	if !WellFormed(c.Method) {
		return nil
	}
	byMethod, okMethod := t.methods[c.Method]
	byService, okService := t.services[ServiceOf(c.Method)]
	switch {
	case okMethod && (!okService || byMethod.rank < byService.rank):
		return byMethod.target
	case okService:
		return byService.target
	default:
		return t.fallback
	}
}
