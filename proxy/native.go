package proxy

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/frame"
	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// native is what the proxy's own transport consists of.
type native struct {
	relay    *Relay
	backends *h2grpc.Backends
	frames   *frame.Relay
	calls    h2grpc.Server // those that frames does not carry
	broken   offenders
	// blocking leads all calls through the relay of package handler: for
	// directors, which may block, and for tests of the streams that modes other
	// than frame work with.
	blocking bool
}

func newNative(r *Relay) *native {
	n := &native{relay: r, broken: offenders{log: r.log}, blocking: r.directed != nil}
	n.backends = h2grpc.NewBackends(h2grpc.Options{
		Options:          r.poolOptions(),
		StreamWindow:     min(initialBackendWindow, uint32(r.cfg.Limits.StreamWindow)),
		MaxStreamWindow:  uint32(r.cfg.Limits.StreamWindow),
		ConnectionWindow: uint32(r.cfg.Limits.ConnectionWindow),
		MaxHeaderList:    uint32(r.cfg.Limits.HeaderList),
	})
	n.frames = frame.New(frame.Options{
		Backends:   n.backends,
		MaxMessage: uint32(r.cfg.Limits.Message),
		MaxHeld:    int64(r.cfg.Limits.StreamWindow),
	})
	n.calls.Go = func(call func()) { gofunc.GoFunc(context.Background(), call) }
	return n
}

// The windows that streams begin with. Backends are near, so that a round trip
// more costs little, and any client can have them answer: a thousand answers
// that nobody reads hold 8 MiB.
const (
	initialWindow        = 16 << 10
	initialBackendWindow = 8 << 10
)

// maxQueued is how many bytes of answers a client's connection may leave unread
// before it is cut off.
const maxQueued = 64 << 20

// connections returns what takes those that come in at e.
func (n *native) connections(e *entry) func(nc net.Conn) (begin h2.Begin, over func()) {
	return func(nc net.Conn) (h2.Begin, func()) {
		d := &door{native: n, entry: e, client: e.accept(nc)}
		return d.begin, func() { e.leave(d.client) }
	}
}

// config is how client connections behave.
func (n *native) config() h2.Config {
	limits, timeouts := &n.relay.cfg.Limits, &n.relay.cfg.Timeouts
	return h2.Config{
		StreamWindow:     min(initialWindow, uint32(limits.StreamWindow)),
		MaxStreamWindow:  uint32(limits.StreamWindow),
		ConnWindow:       uint32(limits.ConnectionWindow),
		MaxHeaderList:    uint32(limits.HeaderList),
		MaxStreams:       uint32(limits.StreamsPerConnection),
		MaxQueued:        maxQueued,
		HandshakeTimeout: time.Duration(timeouts.Keepalive),
		Keepalive:        time.Duration(timeouts.Keepalive),
	}
}

// door is where a client's connection leads to.
type door struct {
	*native
	entry  *entry
	client client
}

// begin takes a new stream of a client to whoever carries its call.
func (d *door) begin(s *h2.Stream, fields []hpack.HeaderField, last bool) {
	method, authority, ok := h2grpc.MethodOf(fields)
	if !ok || method == d.calls.ProbeMethod {
		d.calls.Begin(s, fields, last, d.serve)
		return
	}
	observers, g := d.relay.observers.get(), d.relay.current.Load()
	if observers != nil || g.around.isThere(d.entry.listener) {
		d.beginAround(s, fields, last, observers, g.around.of(d.entry.listener))
		return
	}
	// The route may have come with a reload just now, and its links with it.
	if target := d.plain(s, method, authority, headOf{fields: fields}); target != nil && len(d.relay.links(target)) == 0 {
		d.frames.Begin(s, fields, last, target, nil)
		return
	}
	d.calls.Begin(s, fields, last, d.serve)
}

// serve carries one call that is no frame's, and has ended it when it returns.
func (d *door) serve(in stream.Inbound) { d.relay.carry(in) }

// headOf is the head of a new request.
type headOf struct {
	fields   []hpack.HeaderField
	metadata stream.Metadata // in place of what fields have, if it is changed
	changed  bool
}

// list returns what routes see of it. Fields that are no metadata, such as
// pseudo-headers, are not asked for.
func (h *headOf) list() resolver.Metadata {
	if h.changed {
		return resolver.NewList(h.metadata, (*stream.Field).Pair)
	}
	return resolver.NewList(h.fields, headerField)
}

// all returns the fields, with the metadata that is changed.
func (h *headOf) all() []hpack.HeaderField {
	if h.changed {
		return h2grpc.WithMetadata(slices.Clone(h.fields), h.metadata)
	}
	return h.fields
}

// plain returns the target of a new stream's call, nil if it is not for frames to
// carry.
func (n *native) plain(s *h2.Stream, method, authority string, head headOf) *resolver.Target {
	if n.blocking {
		return nil
	}
	var target *resolver.Target
	if n.relay.opts.resolver == nil {
		target = n.resolve(s, method, authority, head)
	} else {
		target = n.resolveByOther(s, method, authority, head)
	}
	if target == nil || !target.IsPlain() || n.relay.chain(method, target) != nil {
		return nil
	}
	return target
}

// beginAround is begin for a call that something is around.
func (d *door) beginAround(s *h2.Stream, fields []hpack.HeaderField, last bool, observers *intercept.Observers, links []intercept.Link) {
	req := h2grpc.ParseRequest(fields)
	c := intercept.Begin(observers, intercept.Info{
		Request: req, Peer: s.Conn().NetConn().RemoteAddr(), TLS: d.client.tls, Listener: d.entry.listener, Conn: d.client.conn, Logger: d.relay.log,
	})
	if !intercept.Guards(links) {
		d.beginCall(s, fields, last, c, func(in stream.Inbound) { d.relay.intercept(in, c, links) })
		return
	}
	if err := intercept.Ask(c, links); err != nil {
		refuse(s, c, err)
		return
	}
	head := headOf{fields: fields}
	head.metadata, head.changed = c.ChangedHeader()
	target := d.plain(s, req.Method, req.Authority, head)
	if target == nil || !intercept.Guards(d.relay.links(target)) {
		d.beginCall(s, head.all(), last, c, d.relay.carry)
		return
	}
	c.Routed(target.Route, target.Cluster.Name(), string(target.Mode))
	if err := intercept.Ask(c, d.relay.links(target)); err != nil {
		refuse(s, c, err)
		return
	}
	d.frames.Begin(s, fields, last, target, c)
}

// beginCall begins a call that something is around, and that is no frame's.
func (d *door) beginCall(s *h2.Stream, fields []hpack.HeaderField, last bool, c *intercept.Call, carry func(in stream.Inbound)) {
	end := d.calls.Begin(s, fields, last, func(in stream.Inbound) { carry(intercept.Watch(in, c)) })
	if end != nil { // carry does not hear of it
		c.End(end)
	}
}

// refuse ends a call that a guard has decided against.
func refuse(s *h2.Stream, c *intercept.Call, err error) {
	t := *intercept.TrailerOf(err) // which may be every call's
	t.Metadata = append(c.ResponseHeader(), t.Metadata...)
	c.End(&t)
	h2grpc.Refuse(s, &t, c.Request().ContentType)
}

// resolve returns the target of a new stream's call by the configured routes.
func (n *native) resolve(s *h2.Stream, method, authority string, head headOf) *resolver.Target {
	routes := n.relay.current.Load().routes
	call := resolver.Call{Method: method, Authority: authority, Peer: s.Conn().NetConn().RemoteAddr()}
	if routes.NeedsMetadata() {
		call.Metadata = head.list()
	}
	return routes.Resolve(&call)
}

// headerField tells what routes see.
func headerField(f *hpack.HeaderField) (key, value string) { return f.Name, f.Value }
