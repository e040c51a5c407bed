package conf

// Gateway makes gRPC calls of HTTP requests with JSON, by the google.api.http options
// of methods. The calls go by the routes, as those of gRPC clients do.
type Gateway struct {
	// Schemas are the names of the schemas whose methods can be called; at least one.
	Schemas []string `yaml:"schemas"`
	// Prefix is what paths begin with, "/api". Default "": nothing.
	Prefix string `yaml:"prefix,omitempty"`
	// OpenAPI is the path of a document that describes the methods, without Prefix; "":
	// there is none. Default /openapi.json.
	OpenAPI string `yaml:"openapi"`
	// DefaultPost has methods without an option answer POST /package.Service/Method.
	// Default true.
	DefaultPost bool `yaml:"default_post"`
	// Envelope puts answers into {"errno", "msg", "data"}. Default nil: it does not.
	Envelope *Envelope `yaml:"envelope,omitempty"`
	// RequestHeaders are those that become metadata of the call under their names, besides
	// what grpc-gateway passes on by default, such as Authorization. They are lower-case
	// if they come from a file, as are the next two. Default none.
	RequestHeaders []string `yaml:"request_headers,omitempty"`
	// ResponseHeaders are the keys of the response's headers that the client gets under
	// their names, and not as Grpc-Metadata-NAME. Default none.
	ResponseHeaders []string `yaml:"response_headers,omitempty"`
	// ResponseTrailers are the keys of the trailers that the client gets under their names,
	// and not as Grpc-Trailer-NAME, if it takes trailers. Default none.
	ResponseTrailers []string `yaml:"response_trailers,omitempty"`
	// Cookies are the keys of metadata that cookies become, by the names of the cookies.
	// Keys are lower-case if they come from a file.
	Cookies map[string]string `yaml:"cookies,omitempty"`
	// Codes are HTTP statuses, 400 to 599, by the name of the gRPC code that they stand
	// for, in place of those that google.rpc.Code has.
	Codes map[string]int `yaml:"codes,omitempty"`
	// MethodOverride believes X-HTTP-Method-Override, and takes POST with a form for GET.
	// Default false.
	MethodOverride bool `yaml:"method_override,omitempty"`
	// BodyLimit is the longest body of a request, 1B to 4294967295B; of a stream, the
	// longest message. A reply may be as long, and 4 MiB at least. Default 4MiB.
	BodyLimit Size `yaml:"body_limit"`
	// JSON is how messages are written and read.
	JSON GatewayJSON `yaml:"json"`
	// WebSocket is how client streams and bidi streams are called.
	WebSocket WebSocket `yaml:"websocket"`
	// Keepalive is how long Server-Sent Events are silent before the client gets a
	// comment: 1s to 1h; 0: it gets none. Default 15s.
	Keepalive Duration `yaml:"keepalive"`
}

// Envelope puts what the client gets into an object: "errno" is the gRPC code, "msg" the
// text of the status and "data" the message.
type Envelope struct {
	// Status is the HTTP status of errors: EnvelopeMapped or EnvelopeOK. Default
	// EnvelopeMapped.
	Status string `yaml:"status"`
}

// The values of Envelope.Status.
const (
	// EnvelopeMapped is the HTTP status that the code has without an envelope, too.
	EnvelopeMapped = "mapped"
	// EnvelopeOK is 200, whatever the code.
	EnvelopeOK = "ok"
)

// GatewayJSON is how messages are written and read as JSON (ProtoJSON).
type GatewayJSON struct {
	// EmitUnpopulated writes fields that have no value.
	EmitUnpopulated bool `yaml:"emit_unpopulated,omitempty"`
	// ProtoNames writes the names of fields as .proto files have them, not in camel
	// case. Both are read.
	ProtoNames bool `yaml:"proto_names,omitempty"`
	// EnumNumbers writes enums as numbers, not by name. Both are read.
	EnumNumbers bool `yaml:"enum_numbers,omitempty"`
	// DiscardUnknown takes requests with fields that the message does not have, without
	// these. False: they are INVALID_ARGUMENT.
	DiscardUnknown bool `yaml:"discard_unknown,omitempty"`
}

// WebSocket is how streams are called by WebSocket (RFC 6455).
type WebSocket struct {
	// Origins are those of pages that may, "https://app.example.com" or "*" for any; the
	// same may use Cookies. Lower-case if they come from a file. Default none: pages of the
	// listener's own host.
	Origins []string `yaml:"origins,omitempty"`
	// MessageLimit is the longest message from the client, 1B to 4294967295B. Default
	// 4MiB.
	MessageLimit Size `yaml:"message_limit"`
	// Ping is how often the client is asked whether it is there: 1s to 1h; 0: never.
	// Default 30s.
	Ping Duration `yaml:"ping"`
}
