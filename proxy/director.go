package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// Director picks the backend of a call in Go. It is called once for each call, in
// the call's own goroutine, and concurrently: it may block, and should come back
// when ctx ends. A panic ends its call with INTERNAL, and nothing else.
//
// ctx is the call's. It ends when the client cancels or its deadline passes.
// Kitex's metadata.FromIncomingContext (package nphttp2/metadata) returns the
// call's metadata from it, keys in lower case, values of "-bin" keys decoded, with
// the authority that the client asks for under ":authority". fullMethod is
// "/package.Service/Method".
//
// The context returned must descend from ctx. The call to the backend has its
// deadline, ends when it does, and is sent what metadata.NewOutgoingContext has put
// into it, and no other metadata; keys that belong to the protocol are left out,
// so that all of the incoming metadata can be handed on as it is. The authority is
// the client's unless ":authority" is among the outgoing metadata.
//
// An error ends the call. One with a status, of grpc-go or Kitex, reaches the
// client with code, message and details unchanged; an error of a context as the
// code for it; and any other as UNKNOWN with its text. The rest is not looked at
// then. A context or a target that makes no sense ends the call with INTERNAL.
type Director func(ctx context.Context, fullMethod string) (context.Context, Target, error)

// Target is where a Director sends a call; see Pool.At and Cluster. The zero value is
// nowhere.
type Target struct {
	pool    *Pool
	address string // of pool
	cluster string // of the relay, without a pool
}

// Cluster returns the cluster of that name as a target, in mode: frame. It is for
// the Director of a relay, whose configuration has the cluster; see WithDirector.
func Cluster(name string) Target { return Target{cluster: name} }

// WithDirector has a Director pick the backends of all calls. The configuration needs
// no routes then; those that it has are not asked. Targets may be clusters of the
// configuration, and addresses.
func WithDirector(d Director) Option {
	return func(o *options) { o.director = d }
}

// toValidate returns a configuration as it is to be validated: a director needs
// neither routes nor clusters, so that those that are missing are made up.
func (o *options) toValidate(cfg *conf.Config) *conf.Config {
	cfg = cfg.WithGoInterceptors(slices.Sorted(maps.Keys(o.named))...)
	if o.director == nil || len(cfg.Routes) > 0 || cfg.Default != nil {
		return cfg
	}
	whole := *cfg
	if len(cfg.Clusters) == 0 {
		whole.Clusters = map[string]*conf.Cluster{"director": conf.NewCluster("localhost:1")}
	}
	for name := range whole.Clusters {
		whole.Default = &conf.Action{Cluster: name, Mode: conf.ModeFrame}
	}
	return &whole
}

// TransparentHandler returns a handler for all methods that a Kitex server has no
// service for: it is the argument of server.WithGRPCUnknownServiceHandler. The
// services of the server itself are served as ever. Targets are addresses; stop the
// server before their Pool.
func TransparentHandler(d Director) func(ctx context.Context, method string, st streaming.Stream) error {
	s := &kitexgrpc.Server{Serve: newDirected(d, nil, slog.Default()).serve}
	return s.Unknown
}

// directed carries calls to where a Director says.
type directed struct {
	director Director
	relay    *Relay           // whose clusters it may name; nil for none
	calls    *handler.Handler // counts them
}

func newDirected(d Director, r *Relay, log *slog.Logger) *directed {
	return &directed{director: d, relay: r, calls: handler.New(handler.Options{Logger: log})}
}

// serve carries one call and has ended it when it returns.
func (d *directed) serve(in stream.Inbound) { d.calls.ServeDirected(in, d.direct) }

// direct asks the director, and has the call carried. It returns how the call ends if
// it is not.
func (d *directed) direct(in stream.Inbound) *stream.Trailer {
	call := new(directedCall)
	ctx, target, err := d.director(call.begin(in), in.Request().Method)
	if err != nil {
		return endOf(err)
	}
	if err := call.proceed(ctx); err != nil {
		return failDirector(in, err)
	}
	carry, err := d.carrier(target)
	if err != nil {
		return failDirector(in, err)
	}
	stop := context.AfterFunc(ctx, call.expire)
	defer stop()
	carry(call)
	return nil
}

// carrier returns what carries calls to a target.
func (d *directed) carrier(t Target) (func(stream.Inbound), error) {
	switch {
	case t.pool != nil && t.address != "":
		return func(in stream.Inbound) { t.pool.carry(in, t.address) }, nil
	case t.cluster == "":
		return nil, errors.New("it has returned a target that is nowhere")
	case d.relay == nil:
		return nil, fmt.Errorf("it has chosen cluster %q, and there is no configuration to have it", t.cluster)
	}
	to := d.relay.current.Load().to(t.cluster, "director")
	if to == nil {
		return nil, fmt.Errorf("it has chosen cluster %q, which is not configured", t.cluster)
	}
	return func(in stream.Inbound) { d.relay.handler.ServeTo(in, to) }, nil
}

// to returns a target that is a cluster, nil if there is none of that name.
func (g *generation) to(cluster, route string) *resolver.Target {
	l := g.clusters[cluster]
	if l == nil {
		return nil
	}
	return &resolver.Target{Cluster: l.Cluster, Route: route, Mode: conf.ModeFrame, Owner: g}
}

// failDirector is the end of a call whose director has made a mistake.
func failDirector(in stream.Inbound, mistake error) *stream.Trailer {
	f := stream.Failure{
		Reason: stream.ProxyInternal, Code: stream.Internal,
		Message: fmt.Sprintf("the director of %s: %v", in.Request().Method, mistake),
	}
	return f.Trailer()
}

// directedCall is a call as it goes on to its backend.
type directedCall struct {
	stream.Inbound // as it has come
	ctx            context.Context
	req            stream.Request
}

// callKey is the key of a *directedCall in contexts that descend from its own.
type callKey struct{}

// Context implements stream.Inbound.
func (c *directedCall) Context() context.Context { return c.ctx }

// Request implements stream.Inbound.
func (c *directedCall) Request() *stream.Request { return &c.req }

// begin returns the context that the director gets.
func (c *directedCall) begin(in stream.Inbound) context.Context {
	c.Inbound = in
	return context.WithValue(withMetadata(in), callKey{}, c)
}

// proceed goes on with what the director has returned.
func (c *directedCall) proceed(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errors.New("it has returned no context")
	case ctx.Value(callKey{}) != c:
		return errors.New("the context that it has returned does not descend from the call's")
	case ctx.Err() != nil && c.Inbound.Context().Err() == nil:
		return fmt.Errorf("the context that it has returned is over: %w", ctx.Err())
	}
	c.ctx, c.req = ctx, *c.Inbound.Request()
	return c.readOutgoing()
}

// expire ends the call when the context that the director has returned ends before
// the client's.
func (c *directedCall) expire() {
	if c.Inbound.Context().Err() == nil {
		c.Finish(endOf(c.ctx.Err()))
	}
}
