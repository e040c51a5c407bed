// Package tracing reports calls as OpenTelemetry traces: a span for each call, one for
// each attempt to make it at an instance, and the trace passed on to the backend in the
// formats that are chosen. It is an observer of calls, and sends to a receiver of OTLP.
package tracing

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// Tracing reports calls. It is safe for concurrent use.
//
// A call whose request says whether it is sampled is traced by that; of the others,
// those without a trace and those that leave it open, as many are as SamplePercent says.
// A call that is not traced costs no span: the backend is told of its trace, and not to
// sample it, and nothing else is done.
//
// What a request has in a format that is not chosen crosses untouched, and so does
// baggage always: choosing it has interceptors and filters see it in the context. A
// value that is malformed counts as not there.
//
// Spans wait in a bounded queue. Calls never wait for the receiver: what cannot be
// delivered is dropped, counted, and logged at most once a minute.
type Tracing struct {
	percent  float64
	formats  []*format // but baggage
	baggage  bool
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	losses   *losses
	exporter *exporter
}

var _ intercept.AttemptObserver = (*Tracing)(nil)

// scope is what the spans are said to be made by.
const scope = "github.com/kitexproxy/kitexproxy/handler/tracing"

// maxValue limits what is kept of an attribute, in bytes: methods and messages are the
// clients' and backends' to choose.
const maxValue = 1024

// New returns a Tracing that sends to the receiver of o, which need not be there. It
// must be closed. Errors name the option. ctx is for setting up only. The environment
// variables that OpenTelemetry defines for exporters and resources add to the options.
func New(ctx context.Context, o Options) (*Tracing, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	losses := &losses{log: o.Logger}
	exp, err := newExporter(ctx, &o, losses)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	limits.AttributeValueLengthLimit = maxValue
	t := &Tracing{
		percent: o.SamplePercent,
		provider: sdktrace.NewTracerProvider(
			sdktrace.WithSampler(sdktrace.AlwaysSample()), // what is not sampled does not come as far
			sdktrace.WithSpanProcessor(newQueue(exp, &o, losses)),
			sdktrace.WithResource(resourceOf(&o)),
			sdktrace.WithRawSpanLimits(limits),
		),
		losses:   losses,
		exporter: exp,
	}
	t.tracer = t.provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	for _, name := range o.Propagate {
		if name == Baggage {
			t.baggage = true
			continue
		}
		t.formats = append(t.formats, formats[name])
	}
	return t, nil
}

func resourceOf(o *Options) *resource.Resource {
	attributes := []attribute.KeyValue{semconv.ServiceName(o.ServiceName)}
	for key, value := range o.Attributes {
		attributes = append(attributes, attribute.String(key, value))
	}
	return resource.NewWithAttributes(semconv.SchemaURL, attributes...)
}

// Dropped returns how many spans have been lost: for which there was no room in the
// queue, and which could not be delivered.
func (t *Tracing) Dropped() int64 { return t.losses.total.Load() }

// Close delivers what waits, until ctx ends, and lets go of the receiver: what is left
// then is lost. Calls that begin or end later are not reported. The error is that of
// ctx, or of letting go.
func (t *Tracing) Close(ctx context.Context) error {
	defer t.exporter.release()
	defer t.exporter.cancel()
	stop := context.AfterFunc(ctx, t.exporter.cancel)
	defer stop()
	// Not with ctx: the provider would leave its goroutine if that has ended.
	return errors.Join(t.provider.Shutdown(context.WithoutCancel(ctx)), ctx.Err())
}
