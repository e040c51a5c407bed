package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/stats"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// Relay carries the calls of methods that a Kitex server has no service for
// to the clusters of a configuration. Create it with NewRelay, end it with
// Shutdown. Its methods may be called concurrently.
type Relay struct {
	cfg      *conf.Config // that it was built with; what can change is current's
	opts     *options
	log      *slog.Logger
	handler  *handler.Handler
	backends backends
	server   *kitexgrpc.Server
	probe    string    // a method whose calls are answered on the spot, "" for none
	native   *native   // nil with transport: kitex
	directed *directed // nil without a director
	resolver handler.Resolver

	functions   *http.Client // has the connections to functions
	reports     *reports
	observers   observers        // from open on
	intercepted *handler.Handler // counts the calls that interceptors have
	carried     atomic.Int64     // those of them that are counted elsewhere, too

	current   atomic.Pointer[generation]
	reloading sync.Mutex // held to replace current, or to stop
	stopped   bool
}

// backends are the connections to backends, of either transport.
type backends interface {
	handler.Backends
	Configure(cluster string, o upstream.ClusterOptions)
	Keep(cluster string, addresses []string)
	Forget(cluster string)
	Stats() upstream.Stats
	Instances() []upstream.InstanceStats
	Close()
}

// Option changes how a Relay or a Proxy is built.
type Option func(*options)

type options struct {
	logger     *slog.Logger
	services   []*filter.Service
	filters    []*filter.Filter
	registries map[string]discovery.Resolver
	always     []intercept.Link
	named      map[string]intercept.Link
	observers  []intercept.Observer
	stats      []stats.Handler
	version    string
	mux        []runtime.ServeMuxOption
	director   Director                                  // nil for the routes
	resolver   func(configured *Routes) handler.Resolver // nil for the configured ones
}

// WithLogger sets where the proxy reports on itself. Default slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// WithServices makes services known, so that filters of their methods can be
// given and routes to them can have mode: struct.
func WithServices(services ...*filter.Service) Option {
	return func(o *options) { o.services = append(o.services, services...) }
}

// WithFilters adds filters, behind those of the same method that there are. The
// routes of their methods need mode: struct.
func WithFilters(filters ...*filter.Filter) Option {
	return func(o *options) { o.filters = append(o.filters, filters...) }
}

// WithRegistry makes a registry known under a name, for clusters whose discovery
// names it: any of kitex-contrib's, or what else implements Kitex's interface.
func WithRegistry(name string, r discovery.Resolver) Option {
	return func(o *options) { o.registries[name] = r }
}

func newOptions(opts []Option) *options {
	o := &options{logger: slog.Default(), registries: make(map[string]discovery.Resolver), named: make(map[string]intercept.Link)}
	for _, set := range opts {
		set(o)
	}
	return o
}

// WithVersion says what figures call the version of the program.
func WithVersion(v string) Option {
	return func(o *options) { o.version = v }
}

// WithServeMuxOptions gives the gateways of the configuration options of grpc-gateway:
// header matchers, annotators, marshalers, error handlers and the like. Where one says
// the same as the configuration, it wins.
func WithServeMuxOptions(more ...runtime.ServeMuxOption) Option {
	return func(o *options) { o.mux = append(o.mux, more...) }
}

// NewRelay builds a relay. It uses the configuration's clusters, routes,
// timeouts and limits; its listeners are not needed. Limits on the connections
// of clients hold for a server with the relay's ServerOptions.
func NewRelay(cfg *conf.Config, opts ...Option) (*Relay, error) {
	o := newOptions(opts)
	if err := o.toValidate(cfg).ValidateRouting(); err != nil {
		return nil, err
	}
	r, err := newRelay(cfg, o)
	if err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		r.close(time.Time{})
		return nil, err
	}
	r.start()
	return r, nil
}

// newRelay builds the relay of a valid configuration. Nothing runs and no file is kept
// open before open and start: who does not need it after all may just forget it.
func newRelay(cfg *conf.Config, o *options) (*Relay, error) {
	r := &Relay{cfg: cfg, opts: o, log: o.logger, functions: functionClient(cfg.Timeouts.Connect)}
	g, err := r.newGeneration(cfg, nil)
	if err != nil {
		return nil, err
	}
	r.current.Store(g)
	r.resolver = newResolver(r, o)
	r.reports = newReports(cfg, o, r.Clusters)
	r.intercepted = handler.New(handler.Options{Logger: o.logger})
	if o.director != nil {
		r.directed = newDirected(o.director, r, o.logger)
	}
	if cfg.Transport == conf.TransportNative {
		r.native = newNative(r)
		r.backends = r.native.backends
	} else {
		r.backends = kitexgrpc.NewBackends(kitexgrpc.Options{
			Options:          r.poolOptions(),
			StreamWindow:     kitexStreamWindow(&cfg.Limits),
			ConnectionWindow: kitexConnWindow(&cfg.Limits),
			MaxHeaderList:    uint32(cfg.Limits.HeaderList),
		})
	}
	r.handler = handler.New(handler.Options{
		Resolver:   r.resolver,
		Backends:   r.backends,
		MaxMessage: uint32(cfg.Limits.Message),
		Filters:    r.chain,
		Links:      r.links,
		Cluster:    r.clusterFor,
		Logger:     o.logger,
	})
	r.server = r.kitexServer(newEntry(r, ""))
	return r, nil
}

// open opens what is told of calls. It is for before the first.
func (r *Relay) open() error {
	err := r.reports.open(r.cfg, r.log)
	r.observers = newObservers(r.reports.observers(r.opts), r.log)
	return err
}

// start begins what the relay needs beside calls.
func (r *Relay) start() { r.current.Load().start(r, nil) }

// await waits as long as timeouts.connect for instances, schemas and keys, and returns
// what has not come by then.
func (r *Relay) await(ctx context.Context) error {
	return r.current.Load().await(ctx, time.Duration(r.cfg.Timeouts.Connect))
}

func (r *Relay) poolOptions() upstream.Options {
	return upstream.Options{
		ConnectTimeout: time.Duration(r.cfg.Timeouts.Connect),
		IdleTimeout:    time.Duration(r.cfg.Timeouts.IdleConnection),
		Logger:         r.log,
	}
}

// answerProbe has calls of method answered on the spot; see kitexgrpc.Probe. It
// is for before the first call.
func (r *Relay) answerProbe(method string) {
	r.probe = method
	if r.native != nil {
		r.native.calls.ProbeMethod = method
		r.native.calls.ProbeAnswer = kitexgrpc.ProbeAnswer()
	}
}

// kitexServer returns what takes the calls of a Kitex server that come in somewhere.
func (r *Relay) kitexServer(e *entry) *kitexgrpc.Server {
	return &kitexgrpc.Server{
		Serve:      func(in stream.Inbound) { e.serve(in, clientOf(in.Context())) },
		MaxStreams: r.cfg.Limits.StreamsPerConnection, ProbeMethod: r.probe,
	}
}

// carry carries one call behind what is around it, and has ended it when it returns.
func (r *Relay) carry(in stream.Inbound) {
	if r.directed != nil {
		r.directed.serve(in)
		return
	}
	r.handler.Serve(in)
}

// Unknown carries one call. It is the argument of Kitex's
// server.WithGRPCUnknownServiceHandler.
func (r *Relay) Unknown(ctx context.Context, method string, st streaming.Stream) error {
	return r.server.Unknown(ctx, method, st)
}

// Shutdown waits for the calls under way, ends with UNAVAILABLE those that
// still run when ctx ends, and closes the connections to backends. The Kitex
// server should have been told to stop before.
func (r *Relay) Shutdown(ctx context.Context) {
	r.endCalls(ctx)
	end, _ := ctx.Deadline()
	r.close(end)
}

// close lets go of what runs without any call. It should be done by end, unless that is
// the zero time.
func (r *Relay) close(end time.Time) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.stopped {
		return
	}
	r.stopped = true
	r.current.Load().stop(nil)
	r.backends.Close()
	r.functions.CloseIdleConnections()
	r.reports.close(end, r.log)
}

// endCalls returns when no call is left, ending those that still run when ctx
// ends.
func (r *Relay) endCalls(ctx context.Context) {
	r.intercepted.Shutdown(ctx) // which has calls of the others', too
	if r.directed != nil {
		r.directed.calls.Shutdown(ctx) // which has each call of the handler's, too
	}
	if r.native == nil {
		r.handler.Shutdown(ctx)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { r.handler.Shutdown(ctx) })
	both.Go(func() { r.native.frames.Shutdown(ctx) })
	both.Wait()
}

// Stats is a snapshot of what is going on.
type Stats struct {
	// ActiveCalls is how many calls are under way.
	ActiveCalls int
	// BackendConnections is how many connections to backends take new calls.
	BackendConnections int
	// BackendStreams is how many calls those connections carry.
	BackendStreams int64
	// ClientsCutOff is how many connections of clients have been ended for
	// what the clients sent: frames that break the protocol, floods. It is
	// counted with transport: native.
	ClientsCutOff int64
}

// Stats returns the present figures.
func (r *Relay) Stats() Stats {
	b := r.backends.Stats()
	s := Stats{
		ActiveCalls:        r.handler.ActiveCalls(),
		BackendConnections: b.Connections,
		BackendStreams:     b.Streams,
	}
	if r.directed != nil {
		s.ActiveCalls = r.directed.calls.ActiveCalls()
	}
	s.ActiveCalls += max(0, r.intercepted.ActiveCalls()-int(r.carried.Load()))
	if r.native != nil {
		s.ActiveCalls += r.native.frames.ActiveCalls()
		s.ClientsCutOff = r.native.broken.count.Load()
	}
	return s
}
