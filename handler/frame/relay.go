package frame

import (
	"context"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// Relay carries calls to backends. Its methods may be called concurrently.
type Relay struct {
	Options
	calls calls
}

// Options is what a Relay works with.
type Options struct {
	Backends *h2grpc.Backends
	// MaxMessage is the longest message in bytes that is let through in either
	// direction, as it crosses the wire, unless the target says otherwise. 0
	// means no limit.
	MaxMessage uint32
	// MaxHeld is how many bytes the calls of a client's connection may hold in
	// each direction, together, beyond the window that each begins with.
	MaxHeld int64
}

// New returns a Relay that is ready to carry calls.
func New(opts Options) *Relay { return &Relay{Options: opts} }

// Begin takes over a stream of a client's connection that makes a gRPC call, of
// which target is where it goes, and around is what is around it, whose links have let
// it go on: nil for nothing. It is called by the connection's reader; see h2.Config for
// fields and last.
func (r *Relay) Begin(s *h2.Stream, fields []hpack.HeaderField, last bool, target *resolver.Target, around *intercept.Call) {
	c := newCall(r, s, target)
	c.watch(around)
	s.SetEvents((*fromClient)(c))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request.takeHead(fields)
	if md, changed := around.ChangedHeader(); changed {
		c.request.changeMetadata(md)
	}
	c.request.ended = last
	c.tries.Begin(target.Cluster, tries.Affinity(target.Cluster, s.Conn().NetConn().RemoteAddr(), c.request.value))
	if !r.calls.begin(c) {
		c.fail(shuttingDown())
		return
	}
	if !c.enter() || !c.setDeadline() {
		return
	}
	// What has come with the head goes with it, and a call that has been given
	// up in the same read costs no backend anything.
	s.Conn().AfterRead(c)
}

// AfterRead implements h2.Deferred.
func (c *call) AfterRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.open()
	if c.backend != nil {
		c.client.Conn().FlushAfterRead(c.backend.s.Conn())
	}
}

func shuttingDown() *stream.Failure {
	return &stream.Failure{Reason: stream.Shutdown, Code: stream.Unavailable, Message: "the proxy is shutting down"}
}

// ActiveCalls returns how many calls are under way.
func (r *Relay) ActiveCalls() int { return r.calls.count() }

// Shutdown returns when no call is left, and has calls that come after that
// refused. Calls that still run when ctx ends are ended with UNAVAILABLE.
func (r *Relay) Shutdown(ctx context.Context) {
	r.calls.awaitNone(ctx)
	for _, c := range r.calls.close() {
		c.abort(shuttingDown())
	}
}
