package tracing

import (
	"context"
	"encoding/base64"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// all formats, in an order of one's own.
var allFormats = []Format{GRPCTraceBin, TraceContext, B3, B3Multi, Baggage}

// traceBinOf returns a value of grpc-trace-bin with the trace of the tests.
func traceBinOf(options ...byte) string {
	id, _ := trace.TraceIDFromHex(traceID)
	span, _ := trace.SpanIDFromHex(spanID)
	b := append([]byte{0, 0}, id[:]...)
	b = append(append(b, 1), span[:]...)
	return base64.RawStdEncoding.EncodeToString(append(b, options...))
}

var b3Multi = stream.Metadata{{Key: "x-b3-traceid", Value: traceID}, {Key: "x-b3-spanid", Value: spanID}}

func TestFormatsAreReadAndAllAreWritten(t *testing.T) {
	for name, fields := range map[string]stream.Metadata{
		"tracecontext":   {{Key: "traceparent", Value: sampled}},
		"later version":  {{Key: "traceparent", Value: "01" + sampled[2:] + "-more"}},
		"b3":             {{Key: "b3", Value: traceID + "-" + spanID + "-1"}},
		"b3 debug":       {{Key: "b3", Value: traceID + "-" + spanID + "-d"}},
		"b3 open":        {{Key: "b3", Value: traceID + "-" + spanID}},
		"b3-multi":       append(b3Multi, stream.Field{Key: "x-b3-sampled", Value: "1"}),
		"b3-multi open":  b3Multi,
		"b3-multi debug": append(b3Multi, stream.Field{Key: "x-b3-flags", Value: "1"}),
		"grpc-trace-bin": {{Key: "grpc-trace-bin", Value: traceBinOf(2, 1)}},
		"padded":         {{Key: "grpc-trace-bin", Value: traceBinOf(2, 1) + "="}},
		"valid after malformed": {
			{Key: "grpc-trace-bin", Value: "AAA"},
			{Key: "traceparent", Value: "x"},
			{Key: "b3", Value: traceID + "-" + spanID + "-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &receiver{}
			o := r.overGRPC(t)
			o.Propagate = allFormats
			tr := newTracing(t, o)
			c := beginCall(tr, fields...)
			a, got := attempt(c)
			a.End(cluster.Succeeded)
			c.End(&stream.Trailer{})
			spans := r.all(t, tr)
			require.Len(t, spans, 2)
			assert.Equal(t, traceID, c.TraceID())
			assert.Equal(t, spanID, hexOf(ofKind(spans, tracepb.Span_SPAN_KIND_SERVER)[0].GetParentSpanId()))
			span := hexOf(ofKind(spans, tracepb.Span_SPAN_KIND_CLIENT)[0].GetSpanId())
			assertAllSay(t, got, traceID, span)
		})
	}
}

// assertAllSay checks that an instance gets a sampled trace in all formats.
func assertAllSay(t *testing.T, got map[string]string, id, span string) {
	t.Helper()
	assert.Equal(t, "00-"+id+"-"+span+"-01", got["traceparent"])
	assert.Contains(t, []string{id + "-" + span + "-1", id + "-" + span + "-d"}, got["b3"])
	assert.Equal(t, []string{id, span}, []string{got["x-b3-traceid"], got["x-b3-spanid"]})
	assert.True(t, got["x-b3-sampled"] == "1" || got["x-b3-flags"] == "1")
	raw, err := base64.RawStdEncoding.DecodeString(got["grpc-trace-bin"])
	require.NoError(t, err)
	sc, ok := decodeTraceBin(raw)
	require.True(t, ok)
	assert.Equal(t, []string{id, span}, []string{sc.TraceID().String(), sc.SpanID().String()})
	assert.True(t, sc.IsSampled())
}

func TestFirstOfTheOrderIsTheParent(t *testing.T) {
	const other = "0af7651916cd43dd8448eb211c80319c"
	for want, order := range map[string][]Format{traceID: {TraceContext, B3}, other: {B3, TraceContext}} {
		o := (&receiver{}).overGRPC(t)
		o.Propagate = order
		tr := newTracing(t, o)
		c := beginCall(tr,
			stream.Field{Key: "traceparent", Value: dropped}, stream.Field{Key: "b3", Value: other + "-" + spanID + "-0"})
		a, got := attempt(c)
		assert.Equal(t, want, c.TraceID())
		assert.Equal(t, "00-"+want+"-"+spanID+"-00", got["traceparent"])
		assert.Equal(t, want+"-"+spanID+"-0", got["b3"])
		a.End(cluster.Succeeded)
		c.End(&stream.Trailer{})
		closeNow(t, tr)
	}
}

func TestDecisionWithoutATrace(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		percent    float64
		want       bool
	}{
		{"b3", "0", 100, false},
		{"b3", "1", 0, true},
		{"b3", "d", 0, true},
		{"x-b3-sampled", "0", 100, false},
		{"x-b3-sampled", "1", 0, true},
		{"x-b3-sampled", "maybe", 0, false},
		{"x-b3-flags", "1", 0, true},
	} {
		o := (&receiver{}).overGRPC(t)
		o.Propagate, o.SamplePercent = []Format{B3, B3Multi}, tt.percent
		tr := newTracing(t, o)
		c := beginCall(tr, stream.Field{Key: tt.key, Value: tt.value})
		assert.Equal(t, tt.want, trace.SpanContextFromContext(c.Context()).IsSampled(), "%s: %s", tt.key, tt.value)
		c.End(&stream.Trailer{})
		closeNow(t, tr)
	}
}

func TestMalformedIsAFreshTrace(t *testing.T) {
	for name, fields := range map[string]stream.Metadata{
		"zeros":               {{Key: "traceparent", Value: "00-00000000000000000000000000000000-" + spanID + "-01"}},
		"upper case":          {{Key: "traceparent", Value: "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + spanID + "-01"}},
		"short":               {{Key: "traceparent", Value: "00-1-2-3"}},
		"twice":               {{Key: "traceparent", Value: sampled}, {Key: "traceparent", Value: sampled}},
		"b3 without a span":   {{Key: "b3", Value: traceID}},
		"b3-multi, no span":   {{Key: "x-b3-traceid", Value: traceID}, {Key: "x-b3-sampled", Value: "1"}},
		"trace-bin, base64":   {{Key: "grpc-trace-bin", Value: "***"}},
		"trace-bin, version":  {{Key: "grpc-trace-bin", Value: "B" + traceBinOf()[1:]}},
		"trace-bin, cut":      {{Key: "grpc-trace-bin", Value: traceBinOf()[:20]}},
		"a tracestate alone":  {{Key: "tracestate", Value: "a=1"}},
		"baggage of nonsense": {{Key: "baggage", Value: "=;=,"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := (&receiver{}).overGRPC(t)
			o.SamplePercent, o.Propagate = 0, allFormats
			tr := newTracing(t, o)
			defer closeNow(t, tr)
			c := beginCall(tr, fields...)
			a, got := attempt(c)
			assert.Len(t, c.TraceID(), 32)
			assert.NotEqual(t, traceID, c.TraceID())
			assert.Contains(t, got["traceparent"], c.TraceID())
			assert.Empty(t, got["tracestate"], "of another trace")
			a.End(cluster.Succeeded)
			c.End(&stream.Trailer{})
		})
	}
}

func TestFormatThatIsNotChosenCrosses(t *testing.T) {
	o := (&receiver{}).overGRPC(t)
	o.Propagate = []Format{TraceContext}
	tr := newTracing(t, o)
	defer closeNow(t, tr)
	c := beginCall(tr, stream.Field{Key: "b3", Value: "1"}, stream.Field{Key: "grpc-trace-bin", Value: traceBinOf(2, 1)})
	a, got := attempt(c)
	assert.Equal(t, "1", got["b3"])
	assert.Equal(t, traceBinOf(2, 1), got["grpc-trace-bin"])
	assert.NotEqual(t, traceID, c.TraceID())
	a.End(cluster.Succeeded)
	c.End(&stream.Trailer{})
}

func TestSpanOfAnotherObserverIsNoParent(t *testing.T) {
	tr := newTracing(t, (&receiver{}).overGRPC(t))
	defer closeNow(t, tr)
	c := intercept.Begin(intercept.NewObservers(spanner{}, tr), infoWith())
	assert.NotEqual(t, traceID, c.TraceID())
	c.End(&stream.Trailer{})
}

// spanner is an observer that puts a span into the contexts of calls.
type spanner struct{}

func (spanner) Begin(c *intercept.Call) {
	id, _ := trace.TraceIDFromHex(traceID)
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}})
	c.SetContext(trace.ContextWithSpanContext(c.Context(), sc))
}
func (spanner) End(*intercept.Call) {}

// FuzzTraceBin checks that what is read is written as it came.
func FuzzTraceBin(f *testing.F) {
	for _, s := range []string{traceBinOf(), traceBinOf(2), traceBinOf(2, 1), traceBinOf(2, 1, 9, 9), "", "AA"} {
		b, err := base64.RawStdEncoding.DecodeString(s)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sc, ok := decodeTraceBin(b)
		if !ok {
			return
		}
		var md stream.Metadata
		traceBin{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), outgoing{&md})
		again := trace.SpanContextFromContext(traceBin{}.Extract(context.Background(), &incoming{md, []string{traceBinKey}}))
		assert.True(t, sc.Equal(again))
		raw, err := base64.RawStdEncoding.DecodeString(md.Get(traceBinKey))
		require.NoError(t, err)
		require.Len(t, raw, traceBinLen)
		assert.Equal(t, b[:optionsAt], raw[:optionsAt])
	})
}

// FuzzRead checks that whatever a client sends, its call is part of a trace, and the
// instance is told of no other one.
func FuzzRead(f *testing.F) {
	f.Add(sampled, "a=1", traceID+"-"+spanID+"-1", traceID, spanID, "1", "", "", traceBinOf(2, 1), "a=b")
	f.Add("", "", "0", "", "", "", "1", spanID, "", "")
	f.Add("", "", "", "", "", "0", "", "", "", ",")
	tr := newTracing(f, Options{
		Endpoint: "http://127.0.0.1:1", Propagate: allFormats, Queue: 1, SamplePercent: 50,
		Logger: slog.New(slog.DiscardHandler),
	})
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = tr.Close(ctx)
	})
	keys := []string{
		"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "x-b3-parentspanid",
		traceBinKey, "baggage",
	}
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, h, i, j, k string) {
		var md stream.Metadata
		for n, value := range []string{a, b, c, d, e, g, h, i, j, k} {
			if value != "" {
				md = append(md, stream.Field{Key: keys[n], Value: value})
			}
		}
		call := beginCall(tr, md...)
		attempt, got := attempt(call)
		require.Len(t, call.TraceID(), 32)
		assert.Contains(t, got["traceparent"], call.TraceID())
		assert.Contains(t, got["b3"], call.TraceID())
		assert.Equal(t, call.TraceID(), got["x-b3-traceid"])
		for _, m := range attempt.Header {
			for _, r := range m.Value {
				assert.True(t, r >= ' ' && r <= '~', "%s: %q crosses as a header", m.Key, m.Value)
			}
		}
		attempt.End(cluster.Succeeded)
		call.End(&stream.Trailer{})
	})
}
