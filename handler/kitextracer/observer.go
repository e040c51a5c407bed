// Package kitextracer has Kitex's tracers told of the proxy's calls: what is written
// against github.com/cloudwego/kitex/pkg/stats, as kitex-contrib/monitor-prometheus is,
// plugs in as it does into a Kitex server with server.WithTracer.
package kitextracer

import (
	"context"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Observer tells stats.Tracers of calls, in the order of a Kitex server: Start of each
// as a call begins, and Finish of each, the last one first, when it has ended. Both find
// an rpcinfo.RPCInfo in their context, and what Start returns is what interceptors and
// filters see. A tracer that is an rpcinfo.StreamEventReporter is told of each message
// as it begins to cross, concurrently for the two directions.
//
// The RPCInfo has the client's address as From, and as To and Invocation the service
// that has been asked for and the method. Its Stats have the events RPCStart and
// RPCFinish, the bytes of messages with their prefixes, and a status of grpc-go as the
// error of a call that has not ended with OK.
//
// On a server with transport "kitex", Kitex tells the tracers of server.WithTracer by
// itself: they are not to be given to an Observer as well. Tracers that do half of
// their work in a middleware, as those of kitex-contrib/obs-opentelemetry do, have no
// use of it: Kitex has no middlewares around calls of services that it does not know.
//
// A tracer must not block. Kitex logs its panics, which end nothing else.
type Observer struct {
	tracers rpcinfo.TraceController
	names   names
}

var _ intercept.MessageObserver = (*Observer)(nil)

// New returns an observer that tells tracers. It tells of as many methods by their
// names as methods says, 0 for 1000, and of those that come later as of "other": clients
// may ask for any, and tracers keep figures by method.
func New(methods int, tracers ...stats.Tracer) *Observer {
	if methods <= 0 {
		methods = defaultMethods
	}
	o := &Observer{names: names{limit: methods}}
	for _, t := range tracers {
		o.tracers.Append(t)
	}
	return o
}

// Begin implements intercept.Observer.
func (o *Observer) Begin(c *intercept.Call) {
	ri := o.infoOf(c)
	before := rpcinfo.NewCtxWithRPCInfo(c.Context(), ri)
	c.SetValue(infoKey{o}, ri)
	c.SetContext(before)
	if ctx := o.tracers.DoStart(before, ri); ctx != nil { // as it is after a panic
		c.SetContext(ctx)
	}
}

// infoKey is the key of the rpcinfo.RPCInfo in calls.
type infoKey struct{ of *Observer }

// Message implements intercept.MessageObserver.
func (o *Observer) Message(c *intercept.Call, m intercept.Message) {
	if !o.tracers.HasStreamEventReporter() {
		return
	}
	event := stats.StreamRecv
	if m.Direction == filter.Response {
		event = stats.StreamSend
	}
	o.tracers.ReportStreamEvent(o.contextOf(c), event, nil)
}

// End implements intercept.Observer.
func (o *Observer) End(c *intercept.Call) {
	ctx := o.contextOf(c)
	ri := rpcinfo.GetRPCInfo(ctx)
	mutable := rpcinfo.AsMutableRPCStats(ri.Stats())
	mutable.SetRecvSize(uint64(c.Received().Bytes))
	mutable.SetSendSize(uint64(c.Sent().Bytes))
	o.tracers.DoFinish(ctx, ri, errorOf(c.Outcome().Status))
}

// contextOf returns the context of a call, with this observer's RPCInfo if another one
// has put its own there.
func (o *Observer) contextOf(c *intercept.Call) context.Context {
	ctx := c.Context()
	ri, _ := c.Value(infoKey{o}).(rpcinfo.RPCInfo)
	if rpcinfo.GetRPCInfo(ctx) == ri {
		return ctx
	}
	return rpcinfo.NewCtxWithRPCInfo(ctx, ri)
}

// errorOf returns a status as an error, nil for OK.
func errorOf(s stream.Status) error { return status.Error(codes.Code(s.Code), s.Message) }
