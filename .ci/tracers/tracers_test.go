package tracers

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/cloudwego/kitex/server"
	monitor "github.com/kitex-contrib/monitor-prometheus"
	"github.com/kitex-contrib/obs-opentelemetry/tracing"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/grpcstats"
	"github.com/kitexproxy/kitexproxy/handler/kitextracer"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// way is one in which a Kitex server of one's own becomes a proxy.
type way struct {
	transport string
	bare      bool // no more than the relay's Unknown
}

var ways = map[string]way{
	"native, ServerOptions": {transport: conf.TransportNative},
	"kitex, ServerOptions":  {transport: conf.TransportKitex},
	"kitex, Unknown alone":  {transport: conf.TransportKitex, bare: true},
}

// serve makes calls to a Kitex server that has a service of its own, Echo, and proxies
// everything else. The server has stopped when it returns.
func serve(t *testing.T, w way, relayOpts []proxy.Option, serverOpts ...server.Option) {
	t.Helper()
	backendAt := listen(t)
	backend := grpc.NewServer()
	healthpb.RegisterHealthServer(backend, health.NewServer())
	go func() { _ = backend.Serve(backendAt) }() // ends with Stop
	defer backend.Stop()

	cfg := conf.Default()
	cfg.Transport = w.transport
	cfg.Clusters = map[string]*conf.Cluster{"health": {Instances: []string{backendAt.Addr().String()}, Connections: 1}}
	cfg.Default = &conf.Action{Cluster: "health", Mode: conf.ModeFrame}
	relay, err := proxy.NewRelay(cfg, relayOpts...)
	require.NoError(t, err)

	opts := relay.ServerOptions()
	if w.bare {
		opts = []server.Option{server.WithGRPCUnknownServiceHandler(relay.Unknown)}
	}
	ln, stop := listen(t), make(chan error)
	opts = append(opts, server.WithListener(ln), server.WithExitSignal(func() <-chan error { return stop }))
	svr := echoservice.NewServer(&local{}, append(opts, serverOpts...)...)
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }() // ends with stop
	makeCalls(t, ln.Addr().String())
	close(stop)
	<-stopped
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	relay.Shutdown(ctx)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// local is the service that the server has itself.
type local struct{ echo.Echo }

func (local) Unary(_ context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	return &echo.EchoReply{Message: req.Message}, nil
}

// makeCalls makes a call of the server's own service, a proxied one, and a proxied one
// that fails.
func makeCalls(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cli, err := echoservice.NewClient("echo", client.WithHostPorts(addr))
	require.NoError(t, err)
	_, err = cli.Unary(ctx, &echo.EchoRequest{Message: "hello"})
	require.NoError(t, err)
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, cc.Close()) }()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	require.Error(t, err)
}

func newPrometheus(r *prom.Registry) stats.Tracer {
	return monitor.NewServerTracer("", "", monitor.WithRegistry(r), monitor.WithDisableServer(true))
}

// assertCalls checks that a scrape shows calls by callee, method and status. The last
// one may come when its client has its answer already.
func assertCalls(t *testing.T, want map[string]float64, r *prom.Registry) {
	t.Helper()
	srv := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer srv.Close()
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, want, scrape(t, srv))
	}, 10*time.Second, 5*time.Millisecond)
}

func scrape(t *testing.T, srv *httptest.Server) map[string]float64 {
	t.Helper()
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	defer func() { assert.NoError(t, resp.Body.Close()) }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	require.NoError(t, err)
	calls := make(map[string]float64)
	for _, m := range families["kitex_server_throughput"].GetMetric() {
		labels := make(map[string]string)
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		calls[labels["callee"]+" "+labels["method"]+" "+labels["status"]] += m.GetCounter().GetValue()
	}
	return calls
}

// monitor-prometheus on a server sees what goes through Kitex: with Kitex's transport
// the proxied calls as well, by their methods without their services, and the failed
// one as a success, because the relay sends its status by itself.
func TestPrometheusTracerOfTheServer(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			registry := prom.NewRegistry()
			serve(t, w, nil, server.WithTracer(newPrometheus(registry)))
			want := map[string]float64{"unknown Unary succeed": 1}
			if w.transport == conf.TransportKitex {
				want["unknown Check succeed"] = 2
			}
			assertCalls(t, want, registry)
		})
	}
}

// Told by an observer of the relay, it sees the proxied calls, and no others, on every
// transport, with service, method and status.
func TestPrometheusTracerOfTheRelay(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			registry := prom.NewRegistry()
			serve(t, w, []proxy.Option{proxy.WithObservers(kitextracer.New(0, newPrometheus(registry)))})
			assertCalls(t, map[string]float64{
				"grpc.health.v1.Health Check succeed": 1, "grpc.health.v1.Health Check error": 1,
			}, registry)
		})
	}
}

// obs-opentelemetry begins its spans in a middleware, and Kitex has none around calls of
// services that it does not know: proxied calls have no spans.
func TestOpenTelemetryOfTheServer(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))) // it takes no other
			serve(t, w, nil, server.WithSuite(tracing.NewGRPCServerSuite()))
			assert.EventuallyWithT(t, func(c *assert.CollectT) {
				assert.Equal(c, []string{"kitexproxy.echo.v1.Echo/Unary"}, namesOf(spans))
			}, 10*time.Second, 5*time.Millisecond)
		})
	}
}

// otelgrpc, which is made for grpc-go, has spans of the proxied calls when an observer
// tells it as grpc-go does.
func TestOtelgrpcOfTheRelay(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
			h := otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(provider))
			serve(t, w, []proxy.Option{proxy.WithObservers(grpcstats.New(h, slog.New(slog.DiscardHandler)))})
			assert.EventuallyWithT(t, func(c *assert.CollectT) {
				assert.Equal(c, []string{"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Check"}, namesOf(spans))
			}, 10*time.Second, 5*time.Millisecond)
		})
	}
}

func namesOf(r *tracetest.SpanRecorder) []string {
	var names []string
	for _, s := range r.Ended() {
		names = append(names, s.Name())
	}
	return names
}
