package proxy

import (
	"context"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/frame"
	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
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
		Logger:     r.log,
	})
	n.calls.Serve = func(in stream.Inbound) { r.serve(in) }
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
		Begin:            n.begin,
	}
}

// begin takes a new stream of a client to whoever carries its call.
func (n *native) begin(s *h2.Stream, fields []hpack.HeaderField, last bool) {
	method, authority, ok := h2grpc.MethodOf(fields)
	if !ok || method == n.calls.ProbeMethod || n.blocking {
		n.calls.Begin(s, fields, last)
		return
	}
	var target *resolver.Target
	if n.relay.opts.resolver == nil {
		target = n.resolve(s, method, authority, fields)
	} else {
		target = n.resolveByOther(s, method, authority, fields)
	}
	if target == nil || !target.IsPlain() || n.relay.chain(method, target) != nil {
		n.calls.Begin(s, fields, last)
		return
	}
	n.frames.Begin(s, fields, last, target)
}

// resolve returns the target of a new stream's call by the configured routes.
func (n *native) resolve(s *h2.Stream, method, authority string, fields []hpack.HeaderField) *resolver.Target {
	routes := n.relay.current.Load().routes
	call := resolver.Call{Method: method, Authority: authority, Peer: s.Conn().NetConn().RemoteAddr()}
	if routes.NeedsMetadata() {
		call.Metadata = resolver.NewList(fields, headerField)
	}
	return routes.Resolve(&call)
}

// headerField tells what routes see of a header field. Those that are no metadata,
// such as pseudo-headers, are not asked for.
func headerField(f *hpack.HeaderField) (key, value string) { return f.Name, f.Value }
