package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
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
	// either direction, as it crosses the wire. 0 means no limit.
	MaxMessage uint32
	// Logger gets what has no client to go to. Default slog.Default().
	Logger *slog.Logger
}

// Handler carries calls. Its methods may be called concurrently.
type Handler struct {
	opts  Options
	calls calls
}

// New returns a Handler that is ready to serve.
func New(opts Options) *Handler {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &Handler{opts: opts}
}

// call is one call on its way.
type call struct {
	in     stream.Inbound
	target *resolver.Target
	ctx    context.Context // the client's, cut short by cancel and the route's timeout
	cancel context.CancelCauseFunc
}

// Serve carries one call and has ended it when it returns. Nothing of the call
// is left running then.
func (h *Handler) Serve(in stream.Inbound) {
	c := &call{in: in}
	c.ctx, c.cancel = context.WithCancelCause(in.Context())
	defer c.cancel(nil)
	if h.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		in = newLogged(in, h.opts.Logger)
		c.in = in
	}
	defer h.recoverPanic(c)
	if !h.calls.begin(c) {
		in.Finish(failShutdown().Trailer())
		return
	}
	defer h.calls.end(c)

	c.target = h.opts.Resolver.Resolve(&resolver.Call{Method: in.Request().Method})
	if c.target == nil {
		in.Finish(failNoRoute(in.Request().Method).Trailer())
		return
	}
	if t := c.target.Timeout; t > 0 {
		late := failRouteTimeout(c.target)
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithTimeoutCause(c.ctx, t, late) // for the backend to know
		defer cancel()
		defer time.AfterFunc(t, func() { c.abort(late) }).Stop()
	}
	h.relay(c)
}

// abort ends c with f, from any goroutine. Cancelling is not enough: whoever
// writes the response may be waiting for the client.
func (c *call) abort(f *stream.Failure) {
	c.cancel(f)
	c.in.Finish(f.Trailer())
}

// relay opens the backend's side of c, moves what both sides send, and ends
// the call as the backend did or as what went wrong asks for.
func (h *Handler) relay(c *call) {
	out := newResend(c, h.opts.Backends)
	request := &pump{src: c.in, limit: h.opts.MaxMessage, direction: direction{requestName{}, stream.RequestMalformed}}
	request.write = func(b []byte) error { return out.Write(b, false) }
	there, whole, err := request.takeWhatIsThere(c.in)
	if err == nil {
		err = c.ctx.Err() // a transport may open streams for calls that have ended
	}
	if err == nil {
		err = out.open()
	}
	if err != nil {
		c.in.Finish(c.failure(err).Trailer())
		return
	}
	defer out.Abort()
	there.send(out, whole)
	var requestEnded <-chan struct{}
	if !whole {
		requestEnded = h.relayRequest(c, out, request)
	}
	trailer, err := h.relayResponse(c, out)
	if err != nil {
		trailer = c.failure(err).Trailer()
	}
	c.in.Finish(trailer) // a pump that waits for the client comes back
	out.Abort()          // a pump that waits for the backend comes back
	if requestEnded != nil {
		<-requestEnded
	}
}

// relayRequest moves the messages from the client to the backend, and then the
// half-close, in a goroutine of its own. The channel is closed when that ends.
func (h *Handler) relayRequest(c *call, out stream.Outbound, request *pump) <-chan struct{} {
	ended := make(chan struct{})
	go func() { // ends when the client half-closes or either stream is over; relay waits for it
		defer close(ended)
		defer h.recoverPanic(c)
		err := request.run()
		var unwanted *writeError
		switch {
		case err == nil:
			_ = out.Write(nil, true) // if that fails, the response says why
		case errors.As(err, &unwanted):
			// The backend wants no more; its answer says why.
		default:
			c.abort(c.failure(err))
		}
	}()
	return ended
}

// relayResponse moves headers and messages from the backend to the client, and
// returns the trailers.
func (h *Handler) relayResponse(c *call, out *resend) (*stream.Trailer, error) {
	header, err := out.Header()
	if err != nil {
		return nil, err
	}
	if header != nil {
		if err := c.in.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	response := &pump{src: out, write: c.in.Write, limit: h.opts.MaxMessage, direction: direction{out, stream.BackendProtocol}}
	if err := response.run(); err != nil {
		return nil, err
	}
	return out.Trailer(), nil
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
	c.abort(&stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: fmt.Sprintf("%s: internal error", method)})
}
