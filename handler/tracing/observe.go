package tracing

import (
	"context"
	"math/rand/v2"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// spans are those of a call.
type spans struct {
	ctx   context.Context // has the trace
	call  trace.Span      // nil unless the call is sampled
	alone *format         // that the backend gets as it came; nil for none
	fresh untraced        // ctx, if the trace begins here and is not sampled
}

// spansKey is the key of *spans in calls, and of trace.Span in attempts.
type spansKey struct{ of *Tracing }

// Begin implements intercept.Observer.
func (t *Tracing) Begin(c *intercept.Call) {
	p := t.read(c.Context(), c.Request().Metadata)
	s := &spans{ctx: p.ctx}
	id := ""
	switch {
	case t.isSampled(p.decision):
		s.ctx, s.call = t.tracer.Start(p.ctx, name(c), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithTimestamp(c.Began()), trace.WithAttributes(beginning(c)...))
		id = s.call.SpanContext().TraceID().String()
	case p.trace.IsValid():
		if p.decision == drop {
			s.alone = p.format
		}
		id = p.trace.TraceID().String()
	default:
		id = s.fresh.begin(p.ctx)
		s.ctx = &s.fresh
	}
	c.SetContext(s.ctx)
	c.SetTraceID(id)
	c.SetValue(spansKey{t}, s)
}

func (t *Tracing) isSampled(d decision) bool {
	if d == open {
		return rand.Float64()*100 < t.percent
	}
	return d == sample
}

// BeginAttempt implements intercept.AttemptObserver.
func (t *Tracing) BeginAttempt(c *intercept.Call, a *intercept.Attempt) {
	s, ok := c.Value(spansKey{t}).(*spans)
	if !ok {
		return
	}
	if s.call == nil {
		t.write(s.ctx, &a.Header, s, c.Request().Metadata)
		return
	}
	ctx, span := t.tracer.Start(s.ctx, name(c), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(a.Began), trace.WithAttributes(attempting(c, a)...))
	a.SetState(spansKey{t}, span)
	t.write(ctx, &a.Header, s, c.Request().Metadata)
}

// EndAttempt implements intercept.AttemptObserver.
func (t *Tracing) EndAttempt(_ *intercept.Call, a *intercept.Attempt) {
	span, ok := a.State(spansKey{t}).(trace.Span)
	if !ok {
		return
	}
	span.SetAttributes(resultKey.String(resultName(a.Result)))
	if a.Result == cluster.Failed {
		span.SetStatus(codes.Error, "the instance failed the call, or did not take it")
	}
	span.End()
}

// End implements intercept.Observer.
func (t *Tracing) End(c *intercept.Call) {
	s, ok := c.Value(spansKey{t}).(*spans)
	if !ok || s.call == nil {
		return
	}
	out := c.Outcome()
	s.call.SetAttributes(ending(c, &out)...)
	if isServerError(out.Status.Code) {
		s.call.SetStatus(codes.Error, out.Status.Message)
	}
	s.call.End(trace.WithTimestamp(c.Began().Add(out.Took)))
}

// isServerError reports whether a server's span with a code is an error, by
// https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
func isServerError(code stream.Code) bool {
	switch code {
	case stream.Unknown, stream.DeadlineExceeded, stream.Unimplemented,
		stream.Internal, stream.Unavailable, stream.DataLoss:
		return true
	default:
		return false
	}
}
