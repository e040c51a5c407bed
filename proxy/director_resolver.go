package proxy

import (
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// Routes is what a configuration makes of calls: its routes and its clusters, as
// they are when they are asked. It may be used concurrently, and never blocks.
type Routes struct{ relay *Relay }

// Resolve implements handler.Resolver: the first route that matches.
func (r *Routes) Resolve(c *resolver.Call) *resolver.Target {
	return r.relay.Resolve(c)
}

// To returns a target for calls that go to a cluster in mode: frame, nil if there is
// none of that name.
func (r *Routes) To(cluster string) *resolver.Target {
	return r.relay.current.Load().to(cluster, "resolver")
}

// WithResolver replaces the routes of the configuration by what replace makes of
// them: a handler.Resolver that answers some calls itself, by Routes.To, and leaves
// others to Routes.Resolve. It decides once or twice for each call, concurrently, and
// must not block; use a Director if it has to. Targets are those of Routes, or copies
// that differ from them in what Target lets them. A panic ends its call with
// INTERNAL.
func WithResolver(replace func(configured *Routes) handler.Resolver) Option {
	return func(o *options) { o.resolver = replace }
}

// newResolver returns what decides where a relay's calls go.
func newResolver(r *Relay, o *options) handler.Resolver {
	if o.resolver == nil {
		return r
	}
	return o.resolver(&Routes{relay: r})
}

// resolveByOther is resolve by a resolver of WithResolver. If that panics, so does the
// call in a goroutine of its own, which asks again.
func (n *native) resolveByOther(s *h2.Stream, method, authority string, head headOf) (t *resolver.Target) {
	defer func() {
		if recover() != nil {
			t = nil
		}
	}()
	return n.relay.resolver.Resolve(&resolver.Call{
		Method: method, Authority: authority, Peer: s.Conn().NetConn().RemoteAddr(), Metadata: head.list(),
	})
}
