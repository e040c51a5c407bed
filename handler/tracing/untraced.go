package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// untraced is the context of a call whose trace begins here and is not sampled. At one
// percent most calls have it: it is made one of OpenTelemetry's when somebody asks for
// a value.
type untraced struct {
	context.Context
	traceID     trace.TraceID
	spanID      trace.SpanID
	traceparent string
}

// begin has u be of a new trace, whose id it returns.
func (u *untraced) begin(ctx context.Context) (id string) {
	u.Context = ctx
	binary.NativeEndian.PutUint64(u.traceID[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(u.traceID[8:], rand.Uint64()|1) // not 0, which is no id
	binary.NativeEndian.PutUint64(u.spanID[:], rand.Uint64()|1)
	// One string for both, as https://www.w3.org/TR/trace-context/#traceparent-header has it.
	b := append(make([]byte, 0, 55), "00-"...)
	b = hex.AppendEncode(b, u.traceID[:])
	b = hex.AppendEncode(append(b, '-'), u.spanID[:])
	u.traceparent = string(append(b, "-00"...))
	return u.traceparent[3:35]
}

// full returns the context as OpenTelemetry has it.
func (u *untraced) full() context.Context {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: u.traceID, SpanID: u.spanID})
	return trace.ContextWithSpanContext(u.Context, sc)
}

// Value implements context.Context.
func (u *untraced) Value(key any) any { return u.full().Value(key) }
