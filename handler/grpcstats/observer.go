// Package grpcstats has grpc-go's stats handlers told of the proxy's calls: what is
// written against google.golang.org/grpc/stats, as OpenTelemetry's otelgrpc is, plugs
// in as it does into a server of grpc-go.
package grpcstats

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Observer tells a stats.Handler of connections and calls, in the order of a server of
// grpc-go: TagConn, ConnBegin, and for each call TagRPC, InHeader, Begin, InPayload and
// OutPayload for each message, OutHeader before the first of those that go out,
// OutTrailer, End; then ConnEnd. InPayload and OutPayload of a call may come
// concurrently, as there. A call whose client has gone away has no OutTrailer, and one
// that is answered trailers-only no OutHeader.
//
// The contexts that TagConn and TagRPC return are what interceptors and filters see.
// The one that TagRPC gets has the client as google.golang.org/grpc/peer knows it, and
// the metadata as google.golang.org/grpc/metadata does. Of several handlers, each one an
// observer, the next one gets what the one before it has returned.
//
// It differs from grpc-go's in what the proxy does not know: Begin calls each call a
// stream in both directions, as grpc-go does for unknown services; messages are told of
// as they begin to cross, without Payload; the Length of a compressed message is that
// of its compressed form, because nobody has decompressed it; WireLength of a header is
// 0, and so is Compression of OutHeader.
//
// A handler must not block. One that panics has that logged once, and nothing ends for
// it.
type Observer struct {
	handler  stats.Handler
	log      *slog.Logger
	panicked sync.Once
}

var (
	_ intercept.ConnObserver    = (*Observer)(nil)
	_ intercept.HeaderObserver  = (*Observer)(nil)
	_ intercept.MessageObserver = (*Observer)(nil)
)

// New returns an observer that tells handler. log gets a panic of it. Neither may be
// nil.
func New(handler stats.Handler, log *slog.Logger) *Observer {
	return &Observer{handler: handler, log: log}
}

// BeginConn implements intercept.ConnObserver.
func (o *Observer) BeginConn(c *intercept.Conn) {
	o.tagConn(c)
	o.tellConn(c, &stats.ConnBegin{})
}

// EndConn implements intercept.ConnObserver.
func (o *Observer) EndConn(c *intercept.Conn) { o.tellConn(c, &stats.ConnEnd{}) }

// Begin implements intercept.Observer.
func (o *Observer) Begin(c *intercept.Call) {
	ctx, md := incoming(c)
	o.tagCall(ctx, c)
	o.tell(c, &stats.InHeader{
		FullMethod: c.Method(), RemoteAddr: c.Peer(), LocalAddr: localOf(c), Compression: c.Request().Encoding, Header: md,
	})
	o.tell(c, &stats.Begin{BeginTime: c.Began(), IsClientStream: true, IsServerStream: true})
}

// Message implements intercept.MessageObserver.
func (o *Observer) Message(c *intercept.Call, m intercept.Message) {
	wire := m.Length + stream.PrefixLen
	if m.Direction == filter.Request {
		o.tell(c, &stats.InPayload{Length: m.Length, CompressedLength: m.Length, WireLength: wire, RecvTime: time.Now()})
		return
	}
	o.tell(c, &stats.OutPayload{Length: m.Length, CompressedLength: m.Length, WireLength: wire, SentTime: time.Now()})
}

// ResponseHeader implements intercept.HeaderObserver.
func (o *Observer) ResponseHeader(c *intercept.Call, md stream.Metadata) {
	o.tell(c, &stats.OutHeader{Header: toMD(md)})
}

// End implements intercept.Observer.
func (o *Observer) End(c *intercept.Call) {
	out := c.Outcome()
	if out.Reason != stream.ClientCanceled {
		o.tell(c, &stats.OutTrailer{Trailer: toMD(out.Trailer)})
	}
	o.tell(c, &stats.End{BeginTime: c.Began(), EndTime: c.Began().Add(out.Took), Error: errorOf(out.Status)})
}

func (o *Observer) tagConn(c *intercept.Conn) {
	defer o.recover()
	if ctx := o.handler.TagConn(c.Context(), &stats.ConnTagInfo{RemoteAddr: c.Remote, LocalAddr: c.Local}); ctx != nil {
		c.SetContext(ctx)
	}
}

func (o *Observer) tellConn(c *intercept.Conn, s stats.ConnStats) {
	defer o.recover()
	o.handler.HandleConn(c.Context(), s)
}

// tagCall has the handler make c's context of ctx.
func (o *Observer) tagCall(ctx context.Context, c *intercept.Call) {
	defer o.recover()
	if ctx = o.handler.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: c.Method()}); ctx != nil {
		c.SetContext(ctx)
	}
}

// tell has the handler know of s. The context has what other handlers have put there
// as well, as in grpc-go.
func (o *Observer) tell(c *intercept.Call, s stats.RPCStats) {
	defer o.recover()
	o.handler.HandleRPC(c.Context(), s)
}

// recover has a panic of the handler end nothing but what the handler was told.
func (o *Observer) recover() {
	if p := recover(); p != nil {
		stack := string(debug.Stack())
		o.panicked.Do(func() {
			o.log.Error("a stats handler panicked; this is logged once", "panic", p, "stack", stack)
		})
	}
}
