package tracing

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// parent is what a request says of the trace that it is part of.
type parent struct {
	ctx    context.Context // has the trace if there is one
	trace  trace.SpanContext
	format *format // that it came in; nil for none
	decision
}

// read returns what a request says, for the formats in their order. ctx is the call's.
func (t *Tracing) read(ctx context.Context, md stream.Metadata) parent {
	if t.baggage {
		ctx = withBaggage(ctx, md)
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{}) // of another observer
	}
	p := parent{ctx: ctx, decision: open}
	for _, f := range t.formats {
		if !isIn(md, f.keys) {
			continue
		}
		in := &incoming{md, f.keys}
		extracted := f.propagator.Extract(ctx, in)
		if sc := trace.SpanContextFromContext(extracted); sc.IsValid() {
			return f.parent(ctx, extracted, in)
		}
		if d := f.alone(in); d != open && p.decision == open {
			p.decision = d
		}
	}
	return p
}

// parent returns the one that has been extracted by f.
func (f *format) parent(ctx, extracted context.Context, in *incoming) parent {
	sc := trace.SpanContextFromContext(extracted)
	p := parent{ctx: extracted, trace: sc, format: f}
	if f.decided != nil {
		p.decision = f.decided(in.Get)
	}
	switch p.decision {
	case open:
		// Without what the propagator knows of it: it would leave it open for the backend.
		p.ctx = trace.ContextWithRemoteSpanContext(ctx, sc)
	case byTrace:
		p.decision = drop
		if sc.IsSampled() {
			p.decision = sample
		}
	}
	return p
}

// alone returns what a request that is part of no trace says about sampling.
func (f *format) alone(in *incoming) decision {
	isID := func(key string) bool { return strings.HasSuffix(key, "id") }
	hasID := slices.ContainsFunc(in.md, func(m stream.Field) bool { return isID(m.Key) && slices.Contains(f.keys, m.Key) })
	if f.decided == nil || hasID || len(in.Get("b3")) > 1 {
		return open // or malformed
	}
	return f.decided(in.Get)
}

var baggageKeys = []string{"baggage"}

func withBaggage(ctx context.Context, md stream.Metadata) context.Context {
	if !isIn(md, baggageKeys) {
		return ctx
	}
	in := &incoming{md, baggageKeys}
	b, err := baggage.Parse(in.Get(baggageKeys[0]))
	if err != nil || b.Len() == 0 {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, b)
}

// write adds the trace of ctx to header, in all formats but the one that is left alone.
// What the request, which is md, has of another trace in them loses its value.
func (t *Tracing) write(ctx context.Context, header *stream.Metadata, s *spans, md stream.Metadata) {
	fresh := ctx == &s.fresh
	if fresh && len(t.formats) > 1 {
		ctx = s.fresh.full()
	}
	for _, f := range t.formats {
		if f == s.alone {
			continue
		}
		*header = slices.Grow(*header, len(f.keys))
		if fresh && f == formats[TraceContext] {
			outgoing{header}.Set("traceparent", s.fresh.traceparent)
		} else {
			f.propagator.Inject(ctx, outgoing{header})
		}
		for _, m := range md {
			if slices.Contains(f.keys, m.Key) && !has(*header, m.Key) {
				*header = append(*header, stream.Field{Key: m.Key})
			}
		}
	}
}

func has(md stream.Metadata, key string) bool {
	return slices.ContainsFunc(md, func(f stream.Field) bool { return f.Key == key })
}
