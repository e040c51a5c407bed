package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// PoolOptions are the rules for the connections of a Pool. The zero value has the
// defaults of a configuration.
type PoolOptions struct {
	// Connections is how many connections an address gets at most. One is opened at
	// first, others when those are busy. 0: conf.DefaultConnections.
	Connections int
	// TTL is how old a connection gets before another one takes its place; its calls
	// go on. 0: any age.
	TTL time.Duration
	// Idle is how many connections without a call an address keeps. 0: all, until
	// IdleTimeout; less: none.
	Idle int
	// StreamsPerConnection is how many calls a connection has at a time. 0: as many
	// as the backend allows.
	StreamsPerConnection int
	// Pending is how many calls may wait for a connection; one more is UNAVAILABLE.
	// 0: any number.
	Pending int
	// ConnectTimeout is how long opening a connection may take, including TLS and
	// HTTP/2. 0: 3s.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a call, and an address
	// remembered. 0: 10m.
	IdleTimeout time.Duration
	// TLS encrypts the connections. nil: plaintext. It must not be changed once
	// given; "h2" by ALPN and, without one, a ServerName are added to it.
	TLS *tls.Config
	// Logger is told of addresses that cannot be reached. nil: slog.Default().
	Logger *slog.Logger
}

// Pool holds connections to the backends that Directors name by address, and carries
// the calls to them. Calls share the connections, and each gives back its place on
// one exactly once, however it ends. Create it with NewPool, end it with Shutdown. Its
// methods may be called concurrently.
type Pool struct {
	backends    *h2grpc.Backends
	handler     *handler.Handler
	log         *slog.Logger
	idleTimeout time.Duration

	mu        sync.Mutex
	addresses map[string]*pooledAddress
}

// pooledAddress is an address that calls go to, or went not long ago. Pool.mu guards
// it, but for target.
type pooledAddress struct {
	target *resolver.Target
	calls  int
	used   time.Time // when the last one ended
}

// poolName is the cluster of a pool's addresses in messages.
const poolName = "director"

// NewPool returns a Pool without connections.
func NewPool(o PoolOptions) *Pool {
	defaults := conf.Default()
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Duration(defaults.Timeouts.IdleConnection))
	p := &Pool{log: o.Logger, idleTimeout: o.IdleTimeout, addresses: make(map[string]*pooledAddress)}
	p.backends = h2grpc.NewBackends(h2grpc.Options{
		Options: upstream.Options{
			ConnectTimeout: cmp.Or(o.ConnectTimeout, time.Duration(defaults.Timeouts.Connect)),
			IdleTimeout:    o.IdleTimeout,
			Logger:         o.Logger,
		},
		StreamWindow:     initialBackendWindow,
		MaxStreamWindow:  uint32(defaults.Limits.StreamWindow),
		ConnectionWindow: uint32(defaults.Limits.ConnectionWindow),
		MaxHeaderList:    uint32(defaults.Limits.HeaderList),
	})
	p.backends.Configure(poolName, o.cluster())
	p.handler = handler.New(handler.Options{Backends: p.backends, Logger: o.Logger})
	return p
}

// cluster returns the rules as package upstream has them.
func (o *PoolOptions) cluster() upstream.ClusterOptions {
	idle := max(0, o.Idle)
	if o.Idle == 0 {
		idle = -1 // all of them
	}
	return upstream.ClusterOptions{
		Connections: cmp.Or(o.Connections, conf.DefaultConnections), TTL: o.TTL, Idle: idle,
		StreamsPerConnection: o.StreamsPerConnection, Pending: o.Pending, TLS: o.TLS,
	}
}

// At returns an address as a target: "host:port" or "unix:///path/to/socket". It
// opens nothing; that is left to the calls.
func (p *Pool) At(address string) Target { return Target{pool: p, address: address} }

// Shutdown waits for the calls under way, ends with UNAVAILABLE those that still run
// when ctx ends and those that come later, and closes the connections. The servers
// should have been told to stop before.
func (p *Pool) Shutdown(ctx context.Context) {
	p.handler.Shutdown(ctx)
	p.backends.Close()
}

// PoolStats is a snapshot of what is going on.
type PoolStats struct {
	// ActiveCalls is how many calls are under way.
	ActiveCalls int
	// Connections is how many connections take new calls, and Streams how many calls
	// those, and others that are to end, carry.
	Connections int
	Streams     int64
}

// Stats returns the present figures.
func (p *Pool) Stats() PoolStats {
	b := p.backends.Stats()
	return PoolStats{ActiveCalls: p.handler.ActiveCalls(), Connections: b.Connections, Streams: b.Streams}
}

// carry carries one call to an address and has ended it when it returns.
func (p *Pool) carry(in stream.Inbound, address string) {
	a := p.enter(address)
	defer p.leave(a)
	p.handler.ServeTo(in, a.target)
}

// enter counts a call in.
func (p *Pool) enter(address string) *pooledAddress {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.addresses[address]
	if a == nil {
		c := cluster.New(poolName, conf.NewCluster(address), cluster.Options{Logger: p.log})
		a = &pooledAddress{target: &resolver.Target{Cluster: c, Route: poolName, Mode: conf.ModeFrame}}
		p.forgetUnused()
		p.addresses[address] = a
		p.backends.Keep(poolName, slices.Collect(maps.Keys(p.addresses)))
	}
	a.calls++
	return a
}

// forgetUnused lets go of addresses that nothing has been sent to for long. It needs
// mu.
func (p *Pool) forgetUnused() {
	maps.DeleteFunc(p.addresses, func(_ string, a *pooledAddress) bool {
		return a.calls == 0 && time.Since(a.used) > p.idleTimeout
	})
}

func (p *Pool) leave(a *pooledAddress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.calls--
	a.used = time.Now()
}
