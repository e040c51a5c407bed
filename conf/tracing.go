package conf

import (
	"maps"
	"slices"
	"strings"
)

// Tracing reports calls as OpenTelemetry spans: one for each call, and one for each
// attempt to send it to a backend.
type Tracing struct {
	// OTLP is where spans go.
	OTLP OTLP `yaml:"otlp"`
	// SamplePercent is how many of the calls that no one has decided about are reported,
	// 0 to 100. Calls that come with a trace go by what that says. Default 1.
	SamplePercent float64 `yaml:"sample_percent"`
	// Propagate are the formats in which a trace is read from the client's metadata, the
	// first that is there, and written to the backend's, all of them. Default
	// PropagateTraceContext and PropagateBaggage.
	Propagate []string `yaml:"propagate"`
	// ServiceName is what the proxy is called in traces. Default kitexproxy.
	ServiceName string `yaml:"service_name"`
	// Attributes are further ones of the proxy, the same in all spans. Default none.
	Attributes map[string]string `yaml:"attributes,omitempty"`
	// Queue is how many spans may wait to be sent, 1 to 1000000. When there are more,
	// new ones are dropped and counted. Default 2048.
	Queue int `yaml:"queue"`
}

// The values of Tracing.Propagate.
const (
	// PropagateTraceContext is W3C Trace Context: traceparent and tracestate.
	PropagateTraceContext = "tracecontext"
	// PropagateB3 is Zipkin's single header: b3.
	PropagateB3 = "b3"
	// PropagateB3Multi is Zipkin's headers: x-b3-traceid and others.
	PropagateB3Multi = "b3-multi"
	// PropagateGRPCTraceBin is OpenCensus' binary header: grpc-trace-bin.
	PropagateGRPCTraceBin = "grpc-trace-bin"
	// PropagateBaggage is W3C Baggage: baggage.
	PropagateBaggage = "baggage"
)

var propagators = []string{
	PropagateTraceContext, PropagateB3, PropagateB3Multi, PropagateGRPCTraceBin, PropagateBaggage,
}

// OTLP is a receiver of the OpenTelemetry protocol.
type OTLP struct {
	// Endpoint is its URL, "http://127.0.0.1:4317": plaintext with http, and TLS with
	// https. With OTLPHTTP it may have a path. Default path: /v1/traces. Required.
	Endpoint string `yaml:"endpoint"`
	// Protocol is OTLPGRPC or OTLPHTTP. Default OTLPGRPC.
	Protocol string `yaml:"protocol"`
	// Headers are sent with the spans, such as a token. Keys are lower-case if they come
	// from a file.
	Headers map[string]Secret `yaml:"headers,omitempty"`
	// CA is a PEM file with the certificates that the receiver's is verified by. With
	// https only. Default "": the system's.
	CA string `yaml:"ca,omitempty"`
	// Timeout is how long the receiver may take: more than 0, up to 1m. Default 10s.
	Timeout Duration `yaml:"timeout"`
}

// The values of OTLP.Protocol.
const (
	OTLPGRPC = "grpc"
	OTLPHTTP = "http"
)

const endpointURLHint = `write a URL, such as "http://127.0.0.1:4317"`

func (v *validator) tracing() {
	t := v.config.Tracing
	if t == nil {
		v.notNull("tracing")
		return
	}
	v.otlp("tracing.otlp", &t.OTLP)
	between(v, "tracing.sample_percent", t.SamplePercent, 0, 100)
	v.propagate("tracing.propagate", t.Propagate)
	v.notEmpty("tracing.service_name", t.ServiceName, "write what the proxy is called in traces")
	v.attributes("tracing.attributes", t.Attributes)
	between(v, "tracing.queue", t.Queue, 1, maxSpanQueue)
}

func (v *validator) otlp(path string, o *OTLP) {
	endpoint := KeyPath(path, "endpoint")
	v.oneOf(KeyPath(path, "protocol"), o.Protocol, []string{OTLPGRPC, OTLPHTTP})
	v.notEmpty(endpoint, o.Endpoint, endpointURLHint)
	if o.Endpoint != "" {
		u, ok := v.url(endpoint, o.Endpoint, endpointURLHint)
		if ok && o.Protocol == OTLPGRPC && strings.Trim(u.Path, "/") != "" {
			v.badValue(endpoint, o.Endpoint, "has a path, and protocol: grpc has none", "remove it, or write protocol: http")
		}
		v.caOf(KeyPath(path, "ca"), o.CA, u)
	}
	v.secretHeaders(KeyPath(path, "headers"), o.Headers)
	v.notBlank(KeyPath(path, "ca"), o.CA, pathHint)
	v.moreThanZero(KeyPath(path, "timeout"), o.Timeout, maxOTLPTimeout)
}

// secretHeaders is headerValues without the values in messages.
func (v *validator) secretHeaders(path string, headers map[string]Secret) {
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		path := KeyPath(path, key)
		problem, hint := givenKeyProblem(key)
		if problem == "" {
			problem, hint = headerValueProblem(key, string(headers[key]))
		}
		switch {
		case v.isBroken(path):
		case problem != "":
			v.badField(path, problem, hint)
		default:
			v.once(path, "", strings.ToLower(key), seen)
		}
	}
}

func (v *validator) propagate(path string, formats []string) {
	seen := map[string]string{}
	for i, format := range formats {
		path := ItemPath(path, i)
		v.oneOf(path, format, propagators)
		if !v.isBroken(path) {
			v.once(path, format, format, seen)
		}
	}
}

func (v *validator) attributes(path string, attributes map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		path := KeyPath(path, key)
		switch {
		case v.isBroken(path):
		case strings.TrimSpace(key) == "":
			v.badField(path, "is not the name of an attribute", `write one such as "deployment.environment.name"`)
		case key == "service.name":
			v.badField(path, "is what service_name is for", "write it there")
		}
	}
}
