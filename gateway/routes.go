package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/gateway/binding"
	"github.com/kitexproxy/kitexproxy/gateway/openapi"
)

// routes are the ways to the methods of one set of services. They are not changed.
type routes struct {
	opts *Options
	// mux has the bindings of annotations.
	mux *runtime.ServeMux
	// sockets has those of them that a WebSocket can be opened for.
	sockets *runtime.ServeMux
	// defaults has a mux for each /package.Service/Method, so that finding one does
	// not take longer the more there are.
	defaults map[string]*runtime.ServeMux
	document []byte
}

// anyVerbs are the verbs of binding.AnyMethod.
var anyVerbs = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func (g *Gateway) newRoutes(services []protoreflect.ServiceDescriptor) (*routes, error) {
	b := &builder{g: g, codec: newCodec(&g.opts, newTypes(services)), taken: make(map[string]protoreflect.FullName)}
	b.routes = &routes{
		opts: &g.opts, mux: g.newMux(b.codec), sockets: g.newMux(b.codec), defaults: make(map[string]*runtime.ServeMux),
	}
	for _, s := range services {
		for i := range s.Methods().Len() {
			b.add(s.Methods().Get(i))
		}
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err // of which the document would say the same again
	}
	return b.routes, b.describe(services)
}

// builder puts routes together.
type builder struct {
	g      *Gateway
	codec  *codec
	routes *routes
	taken  map[string]protoreflect.FullName // by verb and shape of the template
	errs   []error
}

// describe makes the OpenAPI document. A gateway is there for calls: what the document
// has no room for can be called all the same.
func (b *builder) describe(services []protoreflect.ServiceDescriptor) (err error) {
	o := b.routes.opts
	if o.OpenAPIPath == "" {
		return nil
	}
	info := o.OpenAPI
	info.Marshal, info.Envelope, info.NoDefaultPOST = *o.Marshal, o.Envelope.described(), o.NoDefaultPOST
	document, left, err := openapi.Document(info, services)
	if len(left) > 0 {
		o.Logger.Warn("the OpenAPI document has no room for some services, which can be called all the same", "services", left)
	}
	b.routes.document = document
	return err
}

// add adds what a method is bound to.
func (b *builder) add(m protoreflect.MethodDescriptor) {
	bindings, err := binding.Of(m)
	if err != nil {
		b.errs = append(b.errs, err)
		return
	}
	for _, one := range bindings {
		verbs := []string{one.Verb}
		if one.Verb == binding.AnyMethod {
			verbs = anyVerbs
		}
		for _, verb := range verbs {
			b.addAnnotated(verb, one)
		}
	}
	if !b.g.opts.NoDefaultPOST {
		b.addDefault(binding.Default(m))
	}
}

func (b *builder) addAnnotated(verb string, one binding.Binding) {
	key := verb + " " + one.Template.Shape()
	if first, ok := b.taken[key]; ok {
		if first != one.Method.FullName() {
			b.g.opts.Logger.Warn("two methods are bound to the same paths, and the first one has them",
				"verb", verb, "template", one.Template.Text, "first", first, "second", one.Method.FullName())
		}
		return
	}
	b.taken[key] = one.Method.FullName()
	b.handle(verb, newEndpoint(b.g, b.routes.mux, b.codec, one))
	if verb == http.MethodGet {
		b.handle(webSocketVerb, newEndpoint(b.g, b.routes.sockets, b.codec, one))
	}
}

func (b *builder) addDefault(one binding.Binding) {
	path := one.Template.Text
	if b.routes.defaults[path] != nil {
		return // the service is there twice
	}
	mux := b.g.newMux(b.codec)
	b.routes.defaults[path] = mux
	e := newEndpoint(b.g, mux, b.codec, one)
	b.handle(http.MethodPost, e)
	b.handle(webSocketVerb, e)
}

func (b *builder) handle(verb string, e *endpoint) {
	serve := e.serve
	if verb == webSocketVerb {
		serve = e.serveWebSocket
	}
	if err := e.mux.HandlePath(verb, e.Template.Text, serve); err != nil {
		b.errs = append(b.errs, fmt.Errorf("method %s: %s %q: %w", e.Method.FullName(), verb, e.Template.Text, err))
	}
}

// serve finds the request's method.
func (r *routes) serve(w http.ResponseWriter, req *http.Request) {
	if r.opts.OpenAPIPath != "" && req.URL.Path == r.opts.OpenAPIPath && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		r.describe(w)
		return
	}
	req = asWebSocket(req)
	mux := r.defaults[req.URL.Path]
	switch {
	case mux != nil:
	case req.Method == webSocketVerb:
		mux = r.sockets
	default:
		mux = r.mux
	}
	mux.ServeHTTP(w, req)
}

func (r *routes) describe(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(r.document) // a client that does not want it is its own affair
}

// parser guards what SetQueryParameterParser sets: package runtime has it once for
// the whole process, and Use may come while requests are running.
var parser sync.RWMutex

// ourParser is set once, so that no gateway takes another's parser away.
var ourParser sync.Once

// newMux returns a ServeMux with all options, those of the user last.
func (g *Gateway) newMux(c *codec) *runtime.ServeMux {
	parser.Lock()
	defer parser.Unlock()
	options := []runtime.ServeMuxOption{
		runtime.WithMarshalerOption(runtime.MIMEWildcard, c),
		runtime.WithErrorHandler(g.handleError),
		runtime.WithStreamErrorHandler(streamError(c)),
		runtime.WithUnescapingMode(g.opts.UnescapingMode),
	}
	ourParser.Do(func() { options = append(options, runtime.SetQueryParameterParser(&queryParser{})) })
	options = append(options, g.headers.muxOptions()...)
	if !g.opts.MethodOverride {
		options = append(options, runtime.WithDisableHTTPMethodOverride(), runtime.WithDisablePathLengthFallback())
	}
	if g.opts.Envelope != nil {
		options = append(options, runtime.WithForwardResponseRewriter(g.opts.Envelope.rewriter(c)))
	}
	return runtime.NewServeMux(append(options, g.opts.Mux...)...)
}

// populateQuery is runtime.PopulateQueryParameters.
func populateQuery(e *endpoint, m protoreflect.Message, values map[string][]string) error {
	parser.RLock()
	defer parser.RUnlock()
	return runtime.PopulateQueryParameters(m.Interface(), values, e.filter)
}

// maxDepth is how many messages a query parameter may go through. Each one costs the
// client two bytes, and whoever encodes the message a piece of its stack.
const maxDepth = 100

func checkQuery(values map[string][]string) error {
	for name, list := range values {
		if strings.Count(name, ".") > maxDepth {
			return invalid("a query parameter goes through more than %d messages", maxDepth)
		}
		for _, v := range append([]string{name}, list...) {
			if err := checkText(v); err != nil {
				return invalid("query parameter %.100q: %v", name, err)
			}
		}
	}
	return nil
}
