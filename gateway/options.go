package gateway

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kitexproxy/kitexproxy/gateway/openapi"
	"github.com/kitexproxy/kitexproxy/gateway/websocket"
)

// Options says how a Gateway answers. Only Conn has to be given.
type Options struct {
	// Conn makes the calls.
	Conn grpc.ClientConnInterface

	// Mux is what grpc-gateway's NewServeMux takes. Where it says the same as another
	// option here, it wins. The options are applied again with every Use. One of one's own
	// may have paths that are no methods, by HandlePath; bindings of methods go before them.
	// SetQueryParameterParser has an effect on the whole process, as it has there.
	Mux []runtime.ServeMuxOption

	// Envelope, if set, puts {"errno", "msg", "data"} around everything but HttpBody.
	// What is in it is as Marshal says, also where Mux has a Marshaler of one's own.
	Envelope *Envelope

	// CodeStatus has the HTTP statuses of gRPC codes that are to have another one
	// than in runtime.HTTPStatusFromCode.
	CodeStatus map[codes.Code]int

	// IncomingHeaders are request headers that become metadata under their own name,
	// in addition to what runtime.DefaultHeaderMatcher takes. Names of which metadata
	// is reserved are ignored, with a warning.
	IncomingHeaders []string
	// OutgoingHeaders is metadata that becomes a response header under its own name,
	// and not as Grpc-Metadata-NAME.
	OutgoingHeaders []string
	// OutgoingTrailers is metadata that becomes a trailer under its own name, and not
	// as Grpc-Trailer-NAME. There are trailers only for clients that say TE: trailers.
	OutgoingTrailers []string
	// Cookies are names of cookies, and the metadata that each of them becomes. A
	// client cannot send that metadata in another way.
	Cookies map[string]string
	// CrossOrigin decides whose pages may have a browser send such cookies with anything
	// but GET and HEAD. Others get PERMISSION_DENIED. nil: those of the same host and port
	// only.
	CrossOrigin *http.CrossOriginProtection

	// TrustedProxies are the addresses of clients that are believed what they say in
	// X-Forwarded-* and Forwarded. Those of others are dropped.
	TrustedProxies []netip.Prefix

	// MethodOverride lets a form that is POSTed name another HTTP method in
	// X-HTTP-Method-Override, or be taken for a GET. Sites of others can send such
	// forms in the name of a browser's user.
	MethodOverride bool

	// MaxBody is the largest body of a request in bytes, or of one message of a stream.
	// A larger one is answered with 413 and RESOURCE_EXHAUSTED. Default 4 MiB.
	MaxBody int64

	// BodyTimeout is how long the body of a request without a stream may take to come, and
	// one second more for each KiB of it. A slower one is answered with 408 and
	// DEADLINE_EXCEEDED. Default 30 s; below 0 there is no limit.
	BodyTimeout time.Duration

	// Marshal says how JSON is written. Default: with EmitUnpopulated, as grpc-gateway
	// does. Its Resolver is that of the schemas unless one is given.
	Marshal *protojson.MarshalOptions
	// Unmarshal says how JSON is read. Default: with DiscardUnknown, as grpc-gateway
	// does. Its Resolver is that of the schemas unless one is given.
	Unmarshal *protojson.UnmarshalOptions

	// NoDefaultPOST leaves out POST /package.Service/Method.
	NoDefaultPOST bool

	// UnescapingMode says what becomes of %XX in the variables of paths.
	UnescapingMode runtime.UnescapingMode

	// OpenAPIPath is where the OpenAPI document is; "" for nowhere.
	OpenAPIPath string
	// OpenAPI is what the document says about itself. Of its fields those that are
	// options here, too, are taken from here.
	OpenAPI openapi.Info

	// KeepAlive is after how long without an event a comment is sent to clients that
	// read Server-Sent Events. Default 15 s; below 0 is never.
	KeepAlive time.Duration

	// WebSocket says who may open one, and what its limits are. Its ReadLimit is MaxBody
	// unless it has one, and its Logger this one.
	WebSocket websocket.Options

	// Logger is told of panics and of bindings that are in each other's way. Default
	// slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.MaxBody = cmp.Or(o.MaxBody, 4<<20)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 30*time.Second)
	o.KeepAlive = cmp.Or(o.KeepAlive, 15*time.Second)
	if o.Marshal == nil {
		o.Marshal = &protojson.MarshalOptions{EmitUnpopulated: true}
	}
	if o.Unmarshal == nil {
		o.Unmarshal = &protojson.UnmarshalOptions{DiscardUnknown: true}
	}
	if o.CrossOrigin == nil {
		o.CrossOrigin = http.NewCrossOriginProtection()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}
