package tracing

import (
	"slices"
	"strings"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel/propagation"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Format is a form in which calls carry what trace they are part of.
type Format string

// The formats.
const (
	// TraceContext is the W3C's: traceparent and tracestate.
	TraceContext Format = "tracecontext"
	// B3 is Zipkin's in one key: b3.
	B3 Format = "b3"
	// B3Multi is Zipkin's in several keys: x-b3-traceid and others.
	B3Multi Format = "b3-multi"
	// GRPCTraceBin is OpenCensus': grpc-trace-bin.
	GRPCTraceBin Format = "grpc-trace-bin"
	// Baggage is not a trace but what goes with one, the W3C's: baggage.
	Baggage Format = "baggage"
)

var formatNames = []string{string(TraceContext), string(B3), string(B3Multi), string(GRPCTraceBin), string(Baggage)}

// format is one that a trace is read and written in.
type format struct {
	propagator propagation.TextMapPropagator
	// keys are all that belong to it. One of them must be there for the others to mean
	// something.
	keys []string
	// decided returns what a request says about sampling beside what the propagator
	// understands; nil for nothing.
	decided func(get func(string) string) decision
}

// decision is whether a call is traced.
type decision uint8

const (
	byTrace decision = iota // as the trace says that it is part of
	open                    // nobody has said
	drop
	sample
)

var formats = map[Format]*format{
	TraceContext: {propagator: propagation.TraceContext{}, keys: []string{"traceparent", "tracestate"}},
	B3:           {propagator: b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)), keys: []string{"b3"}, decided: decidedB3},
	B3Multi: {
		propagator: b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)),
		keys:       []string{"x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "x-b3-parentspanid"},
		decided:    decidedB3Multi,
	},
	GRPCTraceBin: {propagator: traceBin{}, keys: []string{traceBinKey}},
}

// decidedB3 reads the state of TRACEID-SPANID-STATE-PARENT, or of STATE alone.
func decidedB3(get func(string) string) decision {
	value := get("b3")
	if len(value) == 1 {
		return stateB3(value)
	}
	parts := strings.Split(value, "-")
	if len(parts) < 3 {
		return open
	}
	return stateB3(parts[2])
}

func decidedB3Multi(get func(string) string) decision {
	if get("x-b3-flags") == "1" {
		return sample // for debugging
	}
	return stateB3(get("x-b3-sampled"))
}

func stateB3(state string) decision {
	switch strings.ToLower(state) {
	case "0", "false":
		return drop
	case "1", "true", "d":
		return sample
	default:
		return open
	}
}

// incoming is the metadata of a request as the propagators see it: of one format.
type incoming struct {
	md   stream.Metadata
	keys []string
}

// Get implements propagation.TextMapCarrier. A key that is there more than once has no
// meaning, but for those that are lists.
func (i *incoming) Get(key string) string {
	if !slices.Contains(i.keys, key) {
		return ""
	}
	var values []string
	for _, f := range i.md {
		if f.Key != key {
			continue
		}
		if values == nil {
			values = make([]string, 0, 1)
		}
		values = append(values, f.Value)
	}
	switch {
	case len(values) == 1:
		return values[0]
	case key == "tracestate" || key == "baggage":
		return strings.Join(values, ",")
	default:
		return ""
	}
}

// Set implements propagation.TextMapCarrier. Nothing is changed.
func (*incoming) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (i *incoming) Keys() []string { return i.keys }

// isIn reports whether a request has something of the keys.
func isIn(md stream.Metadata, keys []string) bool {
	for i := range md {
		if slices.Contains(keys, md[i].Key) {
			return true
		}
	}
	return false
}

// outgoing is the metadata for an instance as the propagators see it.
type outgoing struct{ md *stream.Metadata }

// Get implements propagation.TextMapCarrier. Nothing is read.
func (outgoing) Get(string) string { return "" }

// Set implements propagation.TextMapCarrier.
func (o outgoing) Set(key, value string) { *o.md = append(*o.md, stream.Field{Key: key, Value: value}) }

// Keys implements propagation.TextMapCarrier.
func (outgoing) Keys() []string { return nil }
