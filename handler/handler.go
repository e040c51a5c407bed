package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// Resolver decides where calls go. It is called once per call, concurrently,
// and must not block.
type Resolver interface {
	// Resolve returns nil when no route matches.
	Resolve(c *resolver.Call) *resolver.Target
}

// Backends opens the backend's side of calls.
type Backends interface {
	// Open opens a stream to one instance of a cluster. The stream ends with
	// ctx at the latest. The error is a *stream.Failure.
	Open(ctx context.Context, cluster, instance string, req *stream.Request) (stream.Outbound, error)
	// Down reports whether the last attempt to reach an instance has failed and
	// it has no connection. It does not block; asking leads to another attempt
	// in due time, in the background.
	Down(cluster, instance string) bool
}

// Options is what a Handler works with. Resolver and Backends are required.
type Options struct {
	Resolver Resolver
	Backends Backends
	// MaxMessage is the longest message in bytes that is let through in
	// either direction, as it crosses the wire. 0 means no limit, or
	// DefaultMaxMessage where filters need messages whole.
	MaxMessage uint32
	// Filters returns the filters of a method on its way to a target, nil if it
	// has none. It is called once per call, concurrently, and must not block.
	// nil means that no method has any.
	Filters func(method string, t *resolver.Target) *filter.Chain
	// Links returns what is around calls on their way to a target, behind what has
	// been around them before; nil if there is nothing. It is called once per call,
	// concurrently, and must not block. nil means that there never is.
	Links func(t *resolver.Target) []intercept.Link
	// Cluster returns the cluster of that name, nil if there is none, for filters
	// that choose one on the way to a target. nil means that there are none.
	Cluster func(t *resolver.Target, name string) *cluster.Cluster
	// Logger gets what has no client to go to. Default slog.Default().
	Logger *slog.Logger
}

// links are those of a target.
func (o *Options) links(t *resolver.Target) []intercept.Link {
	if o.Links == nil {
		return nil
	}
	return o.Links(t)
}

// DefaultMaxMessage is the longest message in bytes that filters take, and the
// longest that they make of one by decompressing it, unless a limit is set. It
// is what gRPC's own servers allow.
const DefaultMaxMessage = 4 << 20

// Handler carries calls. Its methods may be called concurrently.
type Handler struct {
	opts    Options
	calls   calls
	mirrors mirrors
}

// New returns a Handler that is ready to serve.
func New(opts Options) *Handler {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	h := &Handler{opts: opts}
	h.mirrors.ctx, h.mirrors.end = context.WithCancel(context.Background())
	return h
}

// call is one call on its way.
type call struct {
	in      stream.Inbound
	target  *resolver.Target
	request *stream.Request // what the backend is sent
	ctx     context.Context // the client's, cut short by the route's timeout
	around  *intercept.Call // nil if nothing is around the call

	chain  *filter.Chain // nil for a call without filters
	run    *filter.Run   // of chain
	headed bool          // the client has the head of the response

	entered bool        // it is counted in at its cluster
	unary   atomic.Bool // the request is complete, and no more than one message
	idle    *idle       // nil unless the route has an idle timeout
	mirror  *mirror     // nil unless the call is copied

	mu       sync.Mutex
	trailers *resolver.Changes // of the route, to the trailers; nil for none
	ending   bool              // it is decided how the call ends
	end      *stream.Trailer   // and it has been ended so, by abort
	answer   *filter.Ended     // what a filter of the request ended the call with
	inside   bool              // the client has a part of a message; see untorn

	interrupt context.CancelFunc // ends the context of interceptors; nil if there are none
}

// Serve carries one call and has ended it when it returns. Nothing of the call
// is left running then but its copy, if the route makes one.
func (h *Handler) Serve(in stream.Inbound) { h.serve(in, h.opts.Resolver) }

func (h *Handler) serve(in stream.Inbound, routes Resolver) {
	c := &call{in: in}
	c.ctx = in.Context()
	c.around = intercept.FromContext(c.ctx)
	defer h.recoverPanic(c)
	if !h.calls.begin(c) {
		in.Finish(failShutdown().Trailer())
		return
	}
	defer h.calls.end(c)
	defer c.leave()

	target := routes.Resolve(&resolver.Call{
		Method: in.Request().Method, Authority: in.Request().Authority, Peer: in.Peer(), Metadata: resolver.NewList(in.Request().Metadata, (*stream.Field).Pair),
	})
	if target == nil {
		in.Finish(failNoRoute(in.Request().Method).Trailer())
		return
	}
	c.takeRoute(target)
	if links := h.opts.links(target); len(links) > 0 {
		h.intercept(c, links)
		return
	}
	h.carry(c)
}

// intercept has c carried behind what its route has around it.
func (h *Handler) intercept(c *call, links []intercept.Link) {
	if c.around == nil { // the route has come with a reload just now
		c.around = intercept.Begin(nil, intercept.Info{Request: c.in.Request(), Peer: c.in.Peer(), Logger: h.opts.Logger})
		c.around.Routed(c.target.Route, c.target.Cluster.Name(), string(c.target.Mode))
		c.proceed(intercept.Watch(c.in, c.around))
	}
	in := c.in
	if !intercept.Guards(links) {
		var over context.CancelFunc
		in, over = c.interruptible()
		defer over()
	}
	intercept.Carry(in, c.around, links, func(in stream.Inbound) {
		defer h.recoverPanic(c)
		c.proceed(in)
		h.carry(c)
	})
}

// interruptible returns c's inbound stream with a context that ends when c is aborted,
// too: an interceptor may wait for that, and not for its next, which is told of the end.
func (c *call) interruptible() (stream.Inbound, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.in.Context())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupt = cancel
	return &interruptible{c.in, ctx}, cancel
}

// interruptible is an inbound stream with a context of its own.
type interruptible struct {
	stream.Inbound
	ctx context.Context
}

// Context implements stream.Inbound.
func (i *interruptible) Context() context.Context { return i.ctx }

// proceed has c go on as in.
func (c *call) proceed(in stream.Inbound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in, c.ctx = in, in.Context()
}

// carry carries c, of which the target is known, and has ended it when it returns.
func (h *Handler) carry(c *call) {
	c.request = c.in.Request()
	defer c.limitTime()()
	if h.opts.Filters != nil {
		c.chain = h.opts.Filters(c.request.Method, c.target)
	}
	c.finish(h.relay(c))
}

// takeRoute notes where c goes. It may have been aborted already.
func (c *call) takeRoute(t *resolver.Target) {
	c.target = t
	c.around.Routed(t.Route, t.Cluster.Name(), string(t.Mode))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailers = t.ResponseTrailer
}

// limitTime has c end when its route's limits on time are reached. The function
// returned ends the watch.
func (c *call) limitTime() (stop func()) {
	t := c.target
	if t.IdleTimeout > 0 {
		c.idle = watchIdle(t.IdleTimeout, func() { c.abort(failIdle(t).Trailer()) })
	}
	if t.Timeout == 0 && t.UnaryTimeout == 0 {
		return c.idle.stop
	}
	stopTotal, stopUnary := c.limitTotal(t.Timeout), c.limitUnary(t.UnaryTimeout)
	return func() {
		stopUnary()
		stopTotal()
		c.idle.stop()
	}
}

// limitTotal has c end when limit has passed; 0 is none.
func (c *call) limitTotal(limit time.Duration) (stop func()) {
	if limit == 0 {
		return func() {}
	}
	late := failRouteTimeout(c.target, limit)
	ctx, cancel := context.WithTimeoutCause(c.ctx, limit, late) // for the backend to know
	timer := time.AfterFunc(limit, func() { c.abort(late.Trailer()) })
	c.ctx = ctx
	return func() {
		timer.Stop()
		cancel()
	}
}

// limitUnary is limitTotal for a call that turns out to be like a unary one by then:
// what it is does not show before its request is complete.
func (c *call) limitUnary(limit time.Duration) (stop func()) {
	if limit == 0 {
		return func() {}
	}
	late := failRouteTimeout(c.target, limit)
	ctx, cancel := context.WithCancelCause(c.ctx)
	timer := time.AfterFunc(limit, func() {
		if c.unary.Load() {
			cancel(late)
			c.abort(late.Trailer())
		}
	})
	c.ctx = ctx
	return func() {
		timer.Stop()
		cancel(nil)
	}
}

// relay moves what both sides of c send, through its filters if it has any, and
// returns how the call ends: as the backend, or a filter, or what went wrong
// asks for.
func (h *Handler) relay(c *call) *stream.Trailer {
	if err := h.begin(c); err != nil {
		return c.endOf(err)
	}
	out := newResend(c, h.opts.Backends)
	request := h.requestPieces(c, out)
	there, whole, err := takeWhatIsThere(c.in, request, c.chain != nil && c.chain.AwaitsFirst())
	if err == nil {
		err = c.ctx.Err() // a transport may open streams for calls that have ended
	}
	if err == nil {
		err = h.open(c, out)
	}
	if err != nil {
		return c.endOf(err)
	}
	var trailer *stream.Trailer
	defer func() { out.close(trailer, err) }()
	c.mirror = h.newMirror(c)
	there.send(c.mirrored(out), whole)
	var requestEnded <-chan struct{}
	if whole {
		c.requestIsComplete(request)
	} else {
		requestEnded = h.relayRequest(c, c.mirrored(out), request)
	}
	trailer, err = h.relayResponse(c, out)
	c.mirror.callEnds(c.ctx)
	if err != nil {
		trailer = c.endOf(err)
	}
	out.Abort()       // a pump that waits for the backend comes back
	c.finish(trailer) // a pump that waits for the client comes back
	if requestEnded != nil {
		<-requestEnded
	}
	return trailer
}

// begin has the filters of the start asked.
func (h *Handler) begin(c *call) error {
	if c.chain == nil {
		return nil
	}
	c.run = c.chain.Begin(filter.CallInfo{
		Request: c.in.Request(), Peer: c.in.Peer(), Cluster: c.target.Cluster.Name(), Route: c.target.Route,
		Logger: h.opts.Logger, Exits: c.exit,
	})
	return c.run.Start(c.ctx)
}

// open opens the backend's side of c, with what filters have made of the request.
func (h *Handler) open(c *call, out *resend) error {
	if c.run != nil {
		var cluster string
		c.request, cluster = c.run.Request()
		if cluster != c.target.Cluster.Name() {
			if err := h.redirect(c, cluster); err != nil {
				return err
			}
		}
	}
	if f := tries.Enter(c.target.Cluster); f != nil {
		return f
	}
	c.entered = true
	c.changeRequest()
	return out.open()
}

// affinity is what the call has in common with others that are to go to the same
// instance, "" for nothing: what a filter has said, or else what the cluster has it
// be.
func (c *call) affinity() string {
	if c.run != nil {
		if said := c.run.Affinity(); said != "" {
			return said
		}
	}
	return tries.Affinity(c.target.Cluster, c.in.Peer(), c.request.Metadata.Get)
}

// leave counts the call out at its cluster.
func (c *call) leave() {
	if c.entered {
		c.target.Cluster.Leave()
	}
}

// redirect sends c to another cluster than its route's.
func (h *Handler) redirect(c *call, name string) error {
	var other *cluster.Cluster
	if h.opts.Cluster != nil {
		other = h.opts.Cluster(c.target, name)
	}
	if other == nil {
		return failNoCluster(c.in.Request().Method, name)
	}
	target := *c.target
	target.Cluster = other
	c.target = &target
	return nil
}

// filters reports whether messages in a direction are filtered.
func (c *call) filters(d filter.Direction) bool { return c.chain != nil && c.chain.Filtered(d) }

func (h *Handler) requestPieces(c *call, out *resend) pieces {
	req := c.in.Request()
	f := h.frames(c, c.in, out, direction{requestName{}, stream.RequestMalformed})
	if !c.filters(filter.Request) {
		return &f
	}
	return newFiltered(c, f, filter.Request, req.Encoding, req.ContentType)
}

func (h *Handler) responsePieces(c *call, out *resend, header *stream.Header) pieces {
	f := h.frames(c, out, c.in, direction{out, stream.BackendProtocol})
	switch {
	case header != nil && c.filters(filter.Response):
		return newFiltered(c, f, filter.Response, header.Encoding, header.ContentType)
	case c.filters(filter.Request) && c.chain.Streams(filter.Request):
		return &untorn{f, c}
	}
	return &f
}

func (h *Handler) frames(c *call, src source, to flusher, d direction) frames {
	limit := h.opts.MaxMessage
	if c.target.MaxMessage > 0 {
		limit = c.target.MaxMessage
	}
	return frames{src: src, onWait: to, limit: limit, direction: d}
}

// relayRequest moves the messages from the client to the backend, and then the
// half-close, in a goroutine of its own. The channel is closed when that ends.
func (h *Handler) relayRequest(c *call, out stream.Outbound, request pieces) <-chan struct{} {
	ended := make(chan struct{})
	pump := pump{from: request, write: func(b []byte) error {
		c.idle.touch()
		return out.Write(b, false)
	}}
	go func() { // ends when the client half-closes or either stream is over; relay waits for it
		defer close(ended)
		defer h.recoverPanic(c)
		err := pump.run()
		var unwanted *writeError
		var byFilter *filter.Ended
		switch {
		case err == nil:
			c.requestIsComplete(request)
			_ = out.Write(nil, true) // if that fails, the response says why
			out.Flush()
		case errors.As(err, &unwanted):
			// The backend wants no more; its answer says why.
		case errors.As(err, &byFilter):
			if c.answerWith(byFilter) {
				out.Abort() // relayResponse comes back
			}
		default:
			c.abort(c.failure(err).Trailer())
		}
	}()
	return ended
}

// requestIsComplete notes that the client has half-closed, and what its call was like.
func (c *call) requestIsComplete(request pieces) {
	if request.messages() <= 1 {
		c.unary.Store(true)
	}
}

// relayResponse moves headers and messages from the backend to the client, and
// returns the trailers.
func (h *Handler) relayResponse(c *call, out *resend) (*stream.Trailer, error) {
	header, err := out.Header()
	if err != nil {
		return nil, err
	}
	if header != nil {
		if err := c.writeHeader(header); err != nil {
			return nil, err
		}
	}
	response := pump{from: h.responsePieces(c, out, header), write: func(b []byte) error {
		c.idle.touch()
		return c.in.Write(b)
	}}
	if err := response.run(); err != nil {
		return nil, err
	}
	return out.Trailer(), nil
}

// writeHeader passes on the head of the response.
func (c *call) writeHeader(header *stream.Header) error {
	if c.run != nil {
		var err error
		if header, err = c.run.Header(c.ctx, header); err != nil {
			return err
		}
	}
	c.headed = true
	return c.in.WriteHeader(c.changeHeader(header))
}

// requestName is what messages call the request; the response is called by
// where it comes from.
type requestName struct{}

func (requestName) String() string { return "the request" }

// recoverPanic ends the call that panicked, and nothing else.
func (h *Handler) recoverPanic(c *call) {
	p := recover()
	if p == nil {
		return
	}
	method := c.in.Request().Method
	h.opts.Logger.Error("a call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	f := &stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: fmt.Sprintf("%s: internal error", method)}
	c.abort(f.Trailer())
}
