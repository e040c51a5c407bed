package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/function"
	"github.com/kitexproxy/kitexproxy/gateway"
	"github.com/kitexproxy/kitexproxy/gateway/openapi"
	"github.com/kitexproxy/kitexproxy/gateway/websocket"
	"github.com/kitexproxy/kitexproxy/handler/inproc"
)

// web is what a generation answers HTTP clients with.
type web struct {
	handlers map[string]http.Handler // by the address of the listener
	gateways []*gateway.Gateway
}

// newWeb makes what a valid configuration has for HTTP clients. The gateways know no
// methods before use.
func (r *Relay) newWeb(g *generation) web {
	w := web{handlers: make(map[string]http.Handler)}
	if g.cfg.HTTP == nil {
		return w
	}
	for i := range g.cfg.HTTP.Listeners {
		l := &g.cfg.HTTP.Listeners[i]
		w.handlers[l.Address] = w.handler(r, g, l)
	}
	return w
}

// minReply is how many bytes a reply may have that becomes JSON, or as many as a request
// may if that is more.
const minReply = 4 << 20

// handler returns what answers the requests that come in by a listener.
func (w *web) handler(r *Relay, g *generation, l *conf.HTTPListener) http.Handler {
	e, cfg := newEntry(r, l.Address), g.cfg.HTTP
	paths := webPaths{}
	if c := cfg.Gateway; c != nil {
		o := gatewayOf(c, l)
		o.Mux = r.opts.mux
		longest := grpc.MaxCallRecvMsgSize(max(minReply, int(c.BodyLimit)))
		o.Conn, o.Logger = inproc.New(e.serveLocal, inproc.WithLogger(r.log), inproc.WithCallOptions(longest)), r.log
		paths.gateway, paths.prefix, paths.openAPI = withPeer(w.add(o)), c.Prefix, c.OpenAPI
		if cfg.Functions != nil {
			o.OpenAPIPath, o.NoDefaultPOST = "", false
			paths.methods = withPeer(w.add(o))
		}
	}
	if c := cfg.Functions; c != nil {
		f := &functions{relay: r, generation: g, routes: c.Routes, methods: paths.methods}
		paths.functions, paths.functionsPrefix = e.around(f.handler(c, l), c), c.Prefix
	}
	return paths
}

func (w *web) add(o gateway.Options) *gateway.Gateway {
	g := gateway.New(o)
	w.gateways = append(w.gateways, g)
	return g
}

// use has the gateways answer for the methods of services. After an error nothing has
// changed.
func (w *web) use(services []protoreflect.ServiceDescriptor) error {
	for _, g := range w.gateways {
		if err := g.Use(services); err != nil {
			return err // which all of them would return
		}
	}
	return nil
}

// webPaths leads requests to who answers them, by the path as it came: net/http's own
// would redirect those that it finds untidy.
type webPaths struct {
	gateway, methods, functions      http.Handler // nil for none
	prefix, openAPI, functionsPrefix string
}

// ServeHTTP implements http.Handler.
func (p webPaths) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := req.URL.Path
	switch {
	case p.functions != nil && strings.HasPrefix(path, p.functionsPrefix):
		p.functions.ServeHTTP(w, req)
	case p.gateway == nil:
		http.NotFound(w, req)
	case p.openAPI != "" && path == p.openAPI:
		p.gateway.ServeHTTP(w, req)
	case !strings.HasPrefix(path, p.prefix+"/"): // "/apis" is not below "/api"
		http.NotFound(w, req)
	default:
		http.StripPrefix(p.prefix, p.gateway).ServeHTTP(w, req)
	}
}

// withPeer has calls that h makes seem to come from the client of the request, and ask
// for the host that it asks for: routes and logs are to know it as they do others.
func withPeer(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := inproc.WithPeer(req.Context(), peerOf(req), req.TLS)
		h.ServeHTTP(w, req.WithContext(inproc.WithClient(ctx, req.Host, req.UserAgent())))
	})
}

// peerOf returns the client's address.
func peerOf(req *http.Request) net.Addr {
	if at, err := netip.ParseAddrPort(req.RemoteAddr); err == nil {
		return net.TCPAddrFromAddrPort(at)
	}
	return &net.UnixAddr{Name: req.RemoteAddr, Net: "unix"}
}

// traceHeaders become metadata of calls under their names, so that traces go on.
var traceHeaders = []string{
	"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
}

// gatewayOf returns options of a gateway as the configuration has them.
func gatewayOf(c *conf.Gateway, l *conf.HTTPListener) gateway.Options {
	marshal := protojson.MarshalOptions{
		EmitUnpopulated: c.JSON.EmitUnpopulated, UseProtoNames: c.JSON.ProtoNames, UseEnumNumbers: c.JSON.EnumNumbers,
	}
	o := gateway.Options{
		CodeStatus: make(map[codes.Code]int), IncomingHeaders: slices.Concat(traceHeaders, c.RequestHeaders), OutgoingHeaders: c.ResponseHeaders,
		OutgoingTrailers: c.ResponseTrailers, Cookies: c.Cookies, TrustedProxies: networks(l.TrustedProxies),
		MethodOverride: c.MethodOverride, MaxBody: int64(c.BodyLimit), Marshal: &marshal,
		Unmarshal:     &protojson.UnmarshalOptions{DiscardUnknown: c.JSON.DiscardUnknown},
		CrossOrigin:   crossOriginOf(c.WebSocket.Origins),
		NoDefaultPOST: !c.DefaultPost, OpenAPIPath: c.OpenAPI, OpenAPI: openapi.Info{Servers: serversOf(c)},
		KeepAlive: orNever(c.Keepalive), WebSocket: websocket.Options{
			ReadLimit: int64(c.WebSocket.MessageLimit), OriginPatterns: c.WebSocket.Origins, Bearer: true,
			PingInterval: orNever(c.WebSocket.Ping),
		},
	}
	if c.Envelope != nil {
		o.Envelope = &gateway.Envelope{AlwaysOK: c.Envelope.Status == conf.EnvelopeOK}
	}
	for name, status := range c.Codes {
		o.CodeStatus[codeNamed(name)] = status
	}
	return o
}

// crossOriginOf returns what lets pages of valid origins use cookies, those of all with "*".
func crossOriginOf(origins []string) *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if origin == "*" {
			p.AddInsecureBypassPattern("/")
			continue
		}
		_ = p.AddTrustedOrigin(origin) // which package conf has found to be one
	}
	return p
}

// serversOf returns what stands before the paths of an OpenAPI document, relative to where
// it is; none is "/".
func serversOf(c *conf.Gateway) []string {
	if c.Prefix == "" {
		return nil
	}
	return []string{c.Prefix}
}

// orNever returns a time, or less than none for 0, which is never in the configuration
// and the default elsewhere.
func orNever(d conf.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return time.Duration(d)
}

// codeNamed returns the code of a valid name.
func codeNamed(name string) (c codes.Code) {
	_ = c.UnmarshalJSON([]byte(`"` + name + `"`))
	return c
}

// networks returns networks and addresses as net/netip has them. They are valid.
func networks(list []string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			all = append(all, p.Masked())
		} else if a, err := netip.ParseAddr(s); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return all
}

// handler returns what answers requests for functions.
func (f *functions) handler(c *conf.Functions, l *conf.HTTPListener) http.Handler {
	return function.New(function.Options{
		Resolver: f, Prefix: c.Prefix, Timeout: time.Duration(c.Timeout), GatewayErrors: c.GatewayErrors,
		TrustedProxies: networks(l.TrustedProxies), Transport: functionTransport{f.relay.functions.Transport}, Logger: f.relay.log,
	})
}

// functionClient returns who has the connections to functions, which generations share.
func functionClient(connect conf.Duration) *http.Client {
	c := function.NewProxyClient(time.Duration(connect), function.DefaultMaxConns, function.DefaultMaxConns)
	c.Timeout = 0 // which is the handler's to keep
	return c
}
