package tracing

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
	sampled = "00-" + traceID + "-" + spanID + "-01"
	dropped = "00-" + traceID + "-" + spanID + "-00"
)

func infoWith(fields ...stream.Field) intercept.Info {
	return intercept.Info{
		Request:  &stream.Request{Method: "/shop.v1.Orders/Get", Authority: "orders.example.com:443", Metadata: fields},
		Peer:     &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234},
		Listener: "127.0.0.1:8888", Logger: slog.New(slog.DiscardHandler),
	}
}

// beginCall begins a call of a client that has sent fields.
func beginCall(tr *Tracing, fields ...stream.Field) *intercept.Call {
	return intercept.Begin(intercept.NewObservers(tr), infoWith(fields...))
}

// attempt returns the metadata that an instance gets for a call.
func attempt(c *intercept.Call) (*intercept.Attempt, map[string]string) {
	a := c.BeginAttempt("orders", "10.0.0.1:9000")
	got := make(map[string]string)
	for _, f := range c.Request().Metadata {
		got[f.Key] = f.Value
	}
	for _, f := range a.Header {
		got[f.Key] = f.Value
	}
	return a, got
}

func newTracing(t testing.TB, o Options) *Tracing {
	t.Helper()
	tr, err := New(context.Background(), o)
	require.NoError(t, err)
	return tr
}

func TestSpansOfACall(t *testing.T) {
	for name, start := range map[string]func(*receiver, testing.TB) Options{
		"gRPC": (*receiver).overGRPC, "HTTP": (*receiver).overHTTP, "HTTPS with a path": (*receiver).overHTTPS,
	} {
		t.Run(name, func(t *testing.T) {
			r := &receiver{}
			o := start(r, t)
			tr := newTracing(t, o)
			c := beginCall(tr, stream.Field{Key: "traceparent", Value: sampled}, stream.Field{Key: "tracestate", Value: "a=1"})
			assert.Equal(t, traceID, c.TraceID())
			c.Routed("by-service", "orders", "frame")
			first, _ := attempt(c)
			first.End(cluster.Failed)
			second, header := attempt(c)
			second.End(cluster.Succeeded)
			c.End(&stream.Trailer{Status: stream.Status{Code: stream.Unavailable, Message: "try later"}})
			spans := r.all(t, tr)
			require.Len(t, spans, 3)
			assert.Equal(t, []string{"secret"}, r.token)
			assert.Equal(t, "edge", r.resource["service.name"])
			assert.Equal(t, "a", r.resource["zone"])
			assert.Zero(t, tr.Dropped())
			if o.Protocol == HTTP && o.CAFile == "" {
				assert.Equal(t, "/v1/traces", r.path)
			}
			assertCallSpan(t, ofKind(spans, tracepb.Span_SPAN_KIND_SERVER))
			assertAttemptSpans(t, spans, header)
		})
	}
}

func assertCallSpan(t *testing.T, servers []*tracepb.Span) {
	t.Helper()
	require.Len(t, servers, 1)
	s := servers[0]
	assert.Equal(t, "shop.v1.Orders/Get", s.GetName())
	assert.Equal(t, traceID, hexOf(s.GetTraceId()))
	assert.Equal(t, spanID, hexOf(s.GetParentSpanId()))
	assert.Equal(t, map[string]any{
		"rpc.system": "grpc", "rpc.service": "shop.v1.Orders", "rpc.method": "Get", "rpc.grpc.status_code": int64(14),
		"server.address": "orders.example.com", "server.port": int64(443),
		"client.address": "127.0.0.1", "client.port": int64(1234),
		"kitexproxy.route": "by-service", "kitexproxy.cluster": "orders", "kitexproxy.mode": "frame",
		"kitexproxy.attempts": int64(2),
	}, valuesOf(s.GetAttributes()))
	assert.Equal(t, tracepb.Status_STATUS_CODE_ERROR, s.GetStatus().GetCode())
	assert.Equal(t, "try later", s.GetStatus().GetMessage())
}

func assertAttemptSpans(t *testing.T, spans []*tracepb.Span, header map[string]string) {
	t.Helper()
	call, attempts := ofKind(spans, tracepb.Span_SPAN_KIND_SERVER)[0], ofKind(spans, tracepb.Span_SPAN_KIND_CLIENT)
	require.Len(t, attempts, 2)
	for i, result := range []string{"failed", "succeeded"} {
		values := valuesOf(attempts[i].GetAttributes())
		assert.Equal(t, call.GetSpanId(), attempts[i].GetParentSpanId())
		assert.Equal(t, result, values["kitexproxy.result"])
		assert.EqualValues(t, i+1, values["kitexproxy.attempt"])
		assert.Equal(t, "10.0.0.1", values["server.address"])
		assert.Equal(t, result == "failed", attempts[i].GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR)
	}
	assert.Equal(t, "00-"+traceID+"-"+hexOf(attempts[1].GetSpanId())+"-01", header["traceparent"], "what the backend gets")
	assert.Equal(t, "a=1", header["tracestate"])
}

func TestErrorStatusOfServerSpans(t *testing.T) {
	for code := range stream.Code(18) {
		want := code == 2 || code == 4 || code == 12 || code == 13 || code == 14 || code == 15
		assert.Equal(t, want, isServerError(code), code.String())
	}
}

func TestNothingIsSampledAtZero(t *testing.T) {
	r := &receiver{}
	o := r.overGRPC(t)
	o.SamplePercent = 0
	tr := newTracing(t, o)
	c := beginCall(tr)
	_, header := attempt(c)
	assert.Regexp(t, "^00-"+c.TraceID()+"-[0-9a-f]{16}-00$", header["traceparent"], "the backend is told not to sample")
	c.End(&stream.Trailer{})
	forced := beginCall(tr, stream.Field{Key: "traceparent", Value: sampled})
	forced.End(&stream.Trailer{})
	assert.Len(t, r.all(t, tr), 1, "the client's decision counts")
}

func TestClientsDecisionNotToSample(t *testing.T) {
	r := &receiver{}
	tr := newTracing(t, r.overGRPC(t))
	c := beginCall(tr, stream.Field{Key: "traceparent", Value: dropped})
	a, _ := attempt(c)
	assert.Empty(t, a.Header, "the backend gets what has come")
	assert.Equal(t, traceID, c.TraceID())
	a.End(cluster.Succeeded)
	c.End(&stream.Trailer{})
	assert.Empty(t, r.all(t, tr))
}

func TestPercentage(t *testing.T) {
	tr := &Tracing{percent: 25}
	n := 0
	for range 10000 {
		if tr.isSampled(open) {
			n++
		}
	}
	assert.InDelta(t, 2500, n, 400)
}

func TestContextHasSpanAndBaggage(t *testing.T) {
	o := (&receiver{}).overGRPC(t)
	o.Propagate = []Format{TraceContext, Baggage}
	tr := newTracing(t, o)
	defer closeNow(t, tr)
	c := beginCall(tr, stream.Field{Key: "baggage", Value: "tenant=a"}, stream.Field{Key: "baggage", Value: "user=b"})
	assert.True(t, trace.SpanFromContext(c.Context()).IsRecording())
	assert.Equal(t, "b", baggage.FromContext(c.Context()).Member("user").Value())
	a, _ := attempt(c)
	for _, f := range a.Header {
		assert.NotEqual(t, "baggage", f.Key, "which crosses as it is")
	}
	a.End(cluster.Unknown)
	c.End(&stream.Trailer{})
}

func TestReceiverThatIsDown(t *testing.T) {
	nobody := loopback.Free(t)
	for _, protocol := range []Protocol{GRPC, HTTP} {
		t.Run(string(protocol), func(t *testing.T) {
			var text bytes.Buffer
			o := optionsFor("http://"+nobody, protocol)
			o.Queue, o.Logger = 10, slog.New(slog.NewTextHandler(&text, nil))
			tr := newTracing(t, o)
			for range 50 {
				beginCall(tr).End(&stream.Trailer{})
			}
			assert.GreaterOrEqual(t, tr.Dropped(), int64(30))
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			assert.ErrorIs(t, tr.Close(ctx), context.Canceled) // does not wait
			assert.EqualValues(t, 50, tr.Dropped())
			assert.Equal(t, 1, strings.Count(text.String(), "spans are lost"), text.String())
		})
	}
}

func TestLossesAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		l := &losses{log: slog.New(slog.NewTextHandler(&text, nil))}
		l.add(1, "first")
		for range 100 {
			l.add(2, "more")
		}
		assert.Equal(t, 1, strings.Count(text.String(), "\n"))
		time.Sleep(logEvery)
		l.add(3, "again")
		assert.Equal(t, 2, strings.Count(text.String(), "\n"))
		assert.Contains(t, text.String(), "spans=203 total=204 error=again")
	})
}

func TestQueueHasRoomAgainWhenDelivered(t *testing.T) {
	r := &receiver{}
	o := r.overGRPC(t)
	o.Queue = 4
	tr := newTracing(t, o)
	for range 10 {
		for range 4 {
			beginCall(tr).End(&stream.Trailer{})
		}
		require.NoError(t, tr.provider.ForceFlush(context.Background()))
	}
	assert.Len(t, r.all(t, tr), 40)
	assert.Zero(t, tr.Dropped())
}

func TestBadOptions(t *testing.T) {
	good := optionsFor("https://127.0.0.1:4317", GRPC)
	for want, change := range map[string]func(o *Options){
		`endpoint "127.0.0.1:4317" is not a URL of a receiver`:   func(o *Options) { o.Endpoint = "127.0.0.1:4317" },
		`endpoint "" is not a URL of a receiver`:                 func(o *Options) { o.Endpoint = "" },
		`protocol "udp" is not known; write "grpc" or "http"`:    func(o *Options) { o.Protocol = "udp" },
		"101 percent of calls cannot be sampled":                 func(o *Options) { o.SamplePercent = 101 },
		"NaN percent of calls cannot be sampled":                 func(o *Options) { o.SamplePercent = math.NaN() },
		"timeout -1s is negative":                                func(o *Options) { o.Timeout = -time.Second },
		"a queue of -1 spans is negative":                        func(o *Options) { o.Queue = -1 },
		`propagate: "w3c" is not known; write tracecontext, b3,`: func(o *Options) { o.Propagate = []Format{"w3c"} },
		`propagate: "b3" is there twice; remove one`:             func(o *Options) { o.Propagate = []Format{B3, B3} },
		"CA file: open /does/not/exist":                          func(o *Options) { o.CAFile = "/does/not/exist" },
		"has no certificate in PEM":                              func(o *Options) { o.CAFile = "options.go" },
		"a CA file needs TLS":                                    func(o *Options) { o.Endpoint, o.CAFile = "http://a:1", "x" },
	} {
		o := good
		change(&o)
		_, err := New(context.Background(), o)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "tracing: ")
	}
	o, err := Options{Endpoint: "http://a:1"}.complete()
	require.NoError(t, err)
	assert.Equal(t, Options{
		Endpoint: "http://a:1", Protocol: GRPC, Timeout: 10 * time.Second, Queue: 2048, ServiceName: "kitexproxy",
	}, o)
}

func TestCloseTwice(t *testing.T) {
	tr := newTracing(t, (&receiver{}).overHTTP(t))
	closeNow(t, tr)
	closeNow(t, tr)
	c := beginCall(tr) // after it
	c.BeginAttempt("a", "b").End(cluster.Unknown)
	c.End(&stream.Trailer{})
}

// benchCall makes a call as frame mode does.
func benchCall(b *testing.B, observers ...intercept.Observer) {
	o := intercept.NewObservers(observers...)
	info := infoWith(stream.Field{Key: "user-agent", Value: "grpc-go/1.85.0"}, stream.Field{Key: "x-tenant", Value: "a"})
	end := &stream.Trailer{}
	b.ReportAllocs()
	for b.Loop() {
		c := intercept.Begin(o, info)
		c.BeginAttempt("orders", "10.0.0.1:9000").End(cluster.Succeeded)
		c.End(end)
	}
}

func BenchmarkBare(b *testing.B) { benchCall(b) }

func BenchmarkOnePercent(b *testing.B) {
	for name, formats := range map[string][]Format{
		"tracecontext": {TraceContext, Baggage}, "all": {TraceContext, B3, B3Multi, GRPCTraceBin, Baggage},
	} {
		b.Run(name, func(b *testing.B) {
			o := (&receiver{}).overGRPC(b)
			o.SamplePercent, o.Propagate = 1, formats
			tr := newTracing(b, o)
			defer closeNow(b, tr)
			benchCall(b, tr)
		})
	}
}
