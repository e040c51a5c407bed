package tracing

import (
	"context"
	"encoding/base64"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceBinKey is the metadata that OpenCensus has a trace in.
const traceBinKey = "grpc-trace-bin"

// traceBin reads and writes OpenCensus' binary format,
// https://github.com/census-instrumentation/opencensus-specs/blob/master/encodings/BinaryEncoding.md:
// a version, which is 0, and the fields trace id, span id and options, each behind its
// number. Values of the carrier are in base64, as they cross the wire.
type traceBin struct{}

// The form of a version 0 in full.
const (
	traceBinLen = 29
	traceIDAt   = 1 // where the number of each field is
	spanIDAt    = 18
	optionsAt   = 27
	sampledBit  = 1
)

// Inject implements propagation.TextMapPropagator.
func (traceBin) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return
	}
	b := make([]byte, 0, traceBinLen)
	traceID, spanID := sc.TraceID(), sc.SpanID()
	b = append(append(b, 0, 0), traceID[:]...)
	b = append(append(b, 1), spanID[:]...)
	b = append(b, 2, byte(sc.TraceFlags()&trace.FlagsSampled))
	carrier.Set(traceBinKey, base64.RawStdEncoding.EncodeToString(b))
}

// Extract implements propagation.TextMapPropagator. The context is ctx unless there is
// a valid trace.
func (traceBin) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(carrier.Get(traceBinKey), "="))
	if err != nil {
		return ctx
	}
	sc, ok := decodeTraceBin(b)
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// decodeTraceBin returns the trace in b, and false if there is none that is valid.
// Options may be missing, and what follows them is of later versions and ignored.
func decodeTraceBin(b []byte) (trace.SpanContext, bool) {
	if len(b) < optionsAt || b[0] != 0 || b[traceIDAt] != 0 || b[spanIDAt] != 1 {
		return trace.SpanContext{}, false
	}
	cfg := trace.SpanContextConfig{
		TraceID: trace.TraceID(b[traceIDAt+1 : spanIDAt]),
		SpanID:  trace.SpanID(b[spanIDAt+1 : optionsAt]),
		Remote:  true,
	}
	if len(b) >= traceBinLen && b[optionsAt] == 2 && b[optionsAt+1]&sampledBit != 0 {
		cfg.TraceFlags = trace.FlagsSampled
	}
	sc := trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}

// Fields implements propagation.TextMapPropagator.
func (traceBin) Fields() []string { return []string{traceBinKey} }
