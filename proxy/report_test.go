package proxy_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// linesOf returns the lines of an access log, of which n are awaited.
func linesOf(t testing.TB, path string, n int) []map[string]any {
	t.Helper()
	var lines []string
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		lines = slices.DeleteFunc(strings.Split(string(b), "\n"), func(s string) bool { return s == "" })
		return len(lines) >= n
	}, faultSafety, 5*time.Millisecond)
	var all []map[string]any
	for _, line := range lines {
		all = append(all, object(t, line))
	}
	return all
}

func TestAccessLogHasALineForEachCall(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		path := filepath.Join(t.TempDir(), "access.log")
		e := edge{
			transport: transport, around: "ids, clients",
			rest: aliceKey + "  ids: {request_id: {}}\naccess_log: {output: '" + path + "', metadata: [x-tenant, x-api-key]}\n" +
				"routes: [{name: echo, match: {service: kitexproxy.echo.v1.Echo}, cluster: main}]\n" + jsonGateway,
		}.start(t)
		o := e.invoke(t, "Expand", []string{"x-api-key", "alice's key", "x-tenant", "blue"}, &echo.EchoRequest{Message: "ab", Count: 3})
		require.Equal(t, codes.OK, o.code)
		require.Equal(t, codes.Unauthenticated, e.call(e.safe(), faultMethod, nil).code)
		require.Equal(t, 200, e.ask(t, "POST /kitexproxy.echo.v1.Echo/Unary", `{"message":"ab"}`).status)

		lines := linesOf(t, path, 3)
		first := lines[0]
		for key, want := range map[string]any{
			"method": echoPrefix + "Expand", "route": "echo", "cluster": "main", "mode": "frame", "code": "OK", "attempts": 1.0,
			"instance": e.main.addr, "listener": "127.0.0.1:0", "identity": "api-key:alice", "request_messages": 1.0,
			"response_messages": 3.0, "request_bytes": 11.0, "response_bytes": 33.0, "request_id": o.header.Get("x-request-id")[0],
		} {
			assert.Equal(t, want, first[key], key)
		}
		assert.Equal(t, map[string]any{"x-tenant": "blue", "x-api-key": "***"}, first["metadata"])
		assert.Equal(t, "UNAUTHENTICATED", lines[1]["code"])
		assert.Equal(t, "unauthenticated", lines[1]["reason"])
		assert.Equal(t, "localhost:0", lines[2]["listener"], "JSON calls are calls")
		assert.Equal(t, 1.0, lines[2]["response_messages"])
		assert.Contains(t, lines[2]["peer"], "127.0.0.1:")

		require.NoError(t, os.Rename(path, path+".1"))
		e.p.ReopenLogs()
		require.Equal(t, codes.Unauthenticated, e.call(e.safe(), faultMethod, nil).code)
		require.Len(t, linesOf(t, path, 1), 1)
	})
}

// adminAnywhere is an admin address.
const adminAnywhere = "admin: {address: '127.0.0.1:0'}\n"

func (p *edgeProxy) admin() string { return "http://" + p.p.AdminAddr().String() }

// figures returns what /metrics says, by name and labels: "name{a=1,b=2}". Those of
// histograms are their counts.
func (p *edgeProxy) figures(t testing.TB) map[string]float64 {
	t.Helper()
	a := p.askAt(t, p.admin(), "GET /metrics", "")
	require.Equal(t, 200, a.status)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(a.body + "\n"))
	require.NoError(t, err)
	all := make(map[string]float64)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			figure := strings.TrimPrefix(name, "kitexproxy_") + "{" + strings.Join(labels, ",") + "}"
			all[figure] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// awaitFigures waits until /metrics says what is wanted: a client may have its answer
// before the end of the call, or of its attempt, is counted.
func (p *edgeProxy) awaitFigures(t testing.TB, want map[string]float64) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := p.figures(t)
		for figure, n := range want {
			assert.Equal(c, n, got[figure], figure)
		}
	}, faultSafety, 5*time.Millisecond)
}

func TestMetricsCountCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{
			transport: transport,
			rest:      adminAnywhere + "routes: [{name: echo, match: {service: kitexproxy.echo.v1.Echo}, cluster: main}]\n" + jsonGateway,
		}.start(t)
		require.Equal(t, codes.OK, e.invoke(t, "Expand", nil, &echo.EchoRequest{Message: "ab", Count: 3}).code)
		require.Equal(t, 200, e.ask(t, "POST /kitexproxy.echo.v1.Echo/Unary", `{"message":"ab"}`).status)
		require.Equal(t, 409, e.ask(t, "POST /kitexproxy.echo.v1.Echo/Unary", `{"failWith":10}`).status)
		for i := range 3 {
			require.Equal(t, codes.Unimplemented, e.call(e.safe(), fmt.Sprintf("/nobody.Knows/This%d", i), nil).code)
		}
		open := e.open(t, echoPrefix+"Chat", nil)
		m := encoded(t, say("x"))
		require.NoError(t, open.SendMsg(&m))
		require.NoError(t, open.RecvMsg(&m))

		echoed := "cluster=main%s,method=" + echoPrefix
		of := func(name, more, method string) string {
			return name + "{" + fmt.Sprintf(echoed, more) + method + ",route=echo}"
		}
		e.awaitFigures(t, map[string]float64{
			of("calls_finished_total", ",code=OK", "Expand"):                        1,
			of("calls_finished_total", ",code=OK", "Unary"):                         1,
			of("calls_finished_total", ",code=ABORTED", "Unary"):                    1,
			of("calls_started_total", "", "Unary"):                                  2,
			of("call_duration_seconds", "", "Unary"):                                2,
			"calls_finished_total{cluster=,code=UNIMPLEMENTED,method=other,route=}": 3,
			"calls_in_flight{listener=127.0.0.1:0}":                                 1,
			"attempts_total{cluster=main,result=success}":                           3,
			"instance_streams{cluster=main,instance=" + e.main.addr + "}":           1,
			of("messages_total", ",direction=response", "Expand"):                   3,
		})
		assert.Contains(t, e.figures(t), "go_goroutines{}")
		require.NoError(t, open.CloseSend())
		require.Equal(t, codes.OK, finish(open).code)

		require.Error(t, e.p.Reload(e.safe(), &conf.Config{}))
		assert.Equal(t, 1.0, e.figures(t)["reload_failed{}"])
		e.reload(t, adminAnywhere+toMain)
		assert.Equal(t, 0.0, e.figures(t)["reload_failed{}"])
	})
}

func TestAdminTellsOfTheProxy(t *testing.T) {
	e := edge{rest: adminAnywhere + toMain}.start(t)
	get := func(path string) answered { return e.askAt(t, e.admin(), "GET "+path, "") }
	require.Equal(t, 200, get("/healthz").status)
	require.Equal(t, 200, get("/readyz").status)
	require.Equal(t, 200, get("/debug/pprof/").status)
	require.Equal(t, codes.OK, e.call(e.safe(), faultMethod, nil).code)

	var clusters []proxy.ClusterFigures
	require.NoError(t, json.Unmarshal([]byte(get("/clusters").body), &clusters))
	require.Equal(t, []string{"healthy", "main", "other"}, []string{clusters[0].Name, clusters[1].Name, clusters[2].Name})
	require.Equal(t, e.main.addr, clusters[1].Instances[0].Address)
	require.Equal(t, 1, clusters[1].Connections[0].Connections)

	cc := insecureClient(t, "passthrough:///"+e.p.AdminAddr().String())
	health := grpc_health_v1.NewHealthClient(cc)
	plain := grpc.ForceCodec(eitherCodec{})
	answer, err := health.Check(e.safe(), &grpc_health_v1.HealthCheckRequest{}, plain)
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, answer.GetStatus())

	// A call keeps the proxy draining.
	open := e.stream()
	exchangeOn(t, open, "x")
	watch, err := health.Watch(e.safe(), &grpc_health_v1.HealthCheckRequest{}, plain)
	require.NoError(t, err)
	first, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, first.GetStatus())
	e.cancel()
	second, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, second.GetStatus())
	require.Equal(t, 503, get("/readyz").status)
	require.Equal(t, 200, get("/healthz").status)
	endOn(t, open)
	require.NoError(t, e.stop())
	_, err = e.http.Get(e.admin() + "/healthz")
	require.Error(t, err, "it is gone with the proxy")
}

// otlp takes spans.
type otlp struct {
	collector.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans []*tracepb.Span
}

func startOTLP(t testing.TB) *otlp {
	t.Helper()
	o := &otlp{}
	o.addr = loopback.Serve(t, func(s *grpc.Server) { collector.RegisterTraceServiceServer(s, o) })
	return o
}

// Export implements collector.TraceServiceServer.
func (o *otlp) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			o.spans = append(o.spans, ss.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of returns the spans of a kind, in the order that they began in.
func (o *otlp) of(kind tracepb.Span_SpanKind) []*tracepb.Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*tracepb.Span
	for _, s := range o.spans {
		if s.GetKind() == kind {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	return all
}

// A trace of a client goes on through the proxy, however it calls, and on to backends.
func TestTracesGoThroughTheProxy(t *testing.T) {
	const trace, client = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	const traceparent = "00-" + trace + "-" + client + "-01"
	onTransports(t, func(t *testing.T, transport string) {
		o, busy := startOTLP(t), startRouteBackend(t, failsFirst(1))
		path := filepath.Join(t.TempDir(), "access.log")
		e := edge{transport: transport, rest: `
access_log: {output: '` + path + `'}
tracing: {otlp: {endpoint: 'http://` + o.addr + `'}, sample_percent: 0}
routes:
  - match: {service: fault.Test}
    cluster: other
    retry: {codes: [UNAVAILABLE], attempts: 3, budget_percent: 100}
` + toMain + jsonGateway}
		p := e.startBefore(t, busy.addr)
		requireOK(t, p.call(metadata.AppendToOutgoingContext(p.safe(), "traceparent", traceparent), faultMethod, []byte("x")), []byte("x"))
		require.Equal(t, 200, p.ask(t, "POST /kitexproxy.echo.v1.Echo/Unary", "{}", "Traceparent: "+traceparent).status)
		require.Equal(t, codes.OK, p.invoke(t, "Unary", nil, say("of no trace")).code)
		lines := linesOf(t, path, 3)
		require.Equal(t, []any{trace, trace}, []any{lines[0]["trace_id"], lines[1]["trace_id"]})
		require.NoError(t, p.stop())

		calls, attempts := o.of(tracepb.Span_SPAN_KIND_SERVER), o.of(tracepb.Span_SPAN_KIND_CLIENT)
		require.Len(t, calls, 2)
		require.Len(t, attempts, 3)
		for _, s := range append(slices.Clone(calls), attempts...) {
			require.Equal(t, trace, hex.EncodeToString(s.GetTraceId()))
		}
		require.Equal(t, []string{strings.TrimPrefix(faultMethod, "/"), "kitexproxy.echo.v1.Echo/Unary"}, []string{calls[0].GetName(), calls[1].GetName()})
		for i, of := range []int{0, 0, 1} {
			require.Equal(t, client, hex.EncodeToString(calls[of].GetParentSpanId()))
			require.Equal(t, calls[of].GetSpanId(), attempts[i].GetParentSpanId())
		}
		got := [][]string{busy.all()[0].Get("traceparent"), busy.all()[1].Get("traceparent"), p.main.next(t).metadata.Get("traceparent")}
		for i, parent := range got {
			require.Equal(t, []string{"00-" + trace + "-" + hex.EncodeToString(attempts[i].GetSpanId()) + "-01"}, parent)
		}
	})
}

// ordering is a stats.Handler that notes what it is told of a connection.
type ordering struct {
	mu    sync.Mutex
	conns []*orderedConn
}

type orderedConn struct {
	journal
	ended chan struct{}
}

// Keys of what ordering puts into contexts.
type (
	orderedConnKey struct{ of *ordering }
	orderedCallKey struct{ of *ordering }
)

func (o *ordering) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	c := &orderedConn{ended: make(chan struct{})}
	c.note("TagConn")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns = append(o.conns, c)
	return context.WithValue(ctx, orderedConnKey{o}, c)
}

func (o *ordering) HandleConn(ctx context.Context, s stats.ConnStats) {
	c := ctx.Value(orderedConnKey{o}).(*orderedConn)
	c.note("%s", strings.TrimPrefix(fmt.Sprintf("%T", s), "*stats."))
	if _, over := s.(*stats.ConnEnd); over {
		close(c.ended)
	}
}

func (o *ordering) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if c, ok := ctx.Value(orderedConnKey{o}).(*orderedConn); ok {
		c.note("TagRPC %s", info.FullMethodName)
	}
	return context.WithValue(ctx, orderedCallKey{o}, "of "+info.FullMethodName)
}

func (o *ordering) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, ok := ctx.Value(orderedConnKey{o}).(*orderedConn)
	if !ok || ctx.Value(orderedCallKey{o}) == nil {
		return
	}
	switch s := s.(type) {
	case *stats.InPayload:
		c.note("InPayload %d %d", s.Length, s.WireLength)
	case *stats.OutPayload:
		c.note("OutPayload %d %d", s.Length, s.WireLength)
	case *stats.End:
		c.note("End %v", s.Error)
	default:
		c.note("%s", strings.TrimPrefix(fmt.Sprintf("%T", s), "*stats."))
	}
}

// with returns the connection that has made a call.
func (o *ordering) with(method string) *orderedConn {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		if slices.Contains(c.all(), "TagRPC "+method) {
			return c
		}
	}
	return nil
}

func TestStatsHandlersAreToldInOrder(t *testing.T) {
	unary := filter.For[echo.EchoRequest, echo.EchoReply](echoPrefix + "Unary")
	onTransports(t, func(t *testing.T, transport string) {
		for _, mode := range []string{"frame", "struct"} {
			t.Run(mode, func(t *testing.T) {
				one, two, j := new(ordering), new(ordering), new(journal)
				see := func(who string, ctx context.Context) { j.note("%s %v", who, ctx.Value(orderedCallKey{two})) }
				opts := []proxy.Option{
					proxy.WithStatsHandlers(one, two), proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())),
					proxy.WithInterceptors(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
						see("interceptor", ctx)
						return next(ctx)
					}),
				}
				want := []string{"interceptor of " + echoPrefix + "Unary"}
				if mode == "struct" {
					opts = append(opts, proxy.WithFilters(unary.OnRequest(func(ctx context.Context, _ *filter.Call, _ *echo.EchoRequest) filter.Verdict {
						see("filter", ctx)
						return filter.Forward
					})))
					want = append(want, "filter of "+echoPrefix+"Unary")
				}
				e := edge{
					transport: transport, opts: opts,
					rest: "routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: main, mode: " + mode + "}]\n" + toMain,
				}.start(t)
				o := e.invoke(t, "Unary", nil, say("abc"))
				require.Equal(t, []string{"abc"}, o.texts(t))
				require.Equal(t, want, j.all())
				require.NoError(t, e.client.Close())
				for _, h := range []*ordering{one, two} {
					c := h.with(echoPrefix + "Unary")
					require.NotNil(t, c)
					<-c.ended
					require.Equal(t, []string{
						"TagConn", "ConnBegin", "TagRPC " + echoPrefix + "Unary", "InHeader", "Begin", "InPayload 5 10",
						"OutHeader", "OutPayload 5 10", "OutTrailer", "End <nil>", "ConnEnd",
					}, c.all())
				}
			})
		}
	})
}

// A proxy of which all is told ends with nothing left.
func TestReportsLoseNothingAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	o := startOTLP(t)
	e := edge{rest: adminAnywhere + toMain + `
access_log: {output: '` + path + `'}
tracing: {otlp: {endpoint: 'http://` + o.addr + `'}, sample_percent: 100}
`}.start(t)
	for range 100 {
		require.Equal(t, codes.OK, e.call(e.safe(), faultMethod, nil).code)
	}
	require.NoError(t, e.stop())
	require.Len(t, linesOf(t, path, 100), 100)
	require.Len(t, o.of(tracepb.Span_SPAN_KIND_SERVER), 100)
}
