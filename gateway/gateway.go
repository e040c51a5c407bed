package gateway

import (
	"errors"
	"net/http"
	"runtime/debug"
	"sync/atomic"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Gateway is an http.Handler that makes gRPC calls. Its methods may be called
// concurrently.
type Gateway struct {
	opts    Options
	headers *headers
	current atomic.Pointer[routes]
}

// New returns a gateway that answers with UNAVAILABLE until Use has been called.
func New(opts Options) *Gateway {
	g := &Gateway{opts: opts.withDefaults()}
	g.headers = newHeaders(&g.opts)
	return g
}

// Use replaces the services that there are. Requests that are running go on with
// those they began with. An error, one to a line with the method and the template
// that is wrong, leaves everything as it was. Where two methods are bound to the same
// paths the first one has them, and a warning names both.
func (g *Gateway) Use(services []protoreflect.ServiceDescriptor) error {
	r, err := g.newRoutes(services)
	if err != nil {
		return err
	}
	g.current.Store(r)
	return nil
}

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	w := &response{ResponseWriter: rw}
	routes := g.current.Load()
	if routes == nil {
		g.unready(w, req)
		return
	}
	req = g.headers.clean(req)
	defer g.recover(w, req, routes)
	if err := g.headers.checkCookies(req); err != nil {
		g.refuse(w, req, routes, err)
		return
	}
	routes.serve(w, req)
}

// refuse ends a request that no method has got.
func (g *Gateway) refuse(w *response, req *http.Request, routes *routes, err error) {
	_, outbound := runtime.MarshalerForRequest(routes.mux, req)
	g.handleError(req.Context(), routes.mux, outbound, w, req, err)
}

var errUnready = status.Error(codes.Unavailable, "the gateway has no schema yet")

func (g *Gateway) unready(w http.ResponseWriter, req *http.Request) {
	mux := g.newMux(newCodec(&g.opts, newTypes(nil)))
	_, outbound := runtime.MarshalerForRequest(mux, req)
	runtime.HTTPError(req.Context(), mux, outbound, w, req, errUnready)
}

// recover ends the request whose handler has panicked. It tells the client as long as
// that has got nothing yet, and otherwise breaks the response off.
func (g *Gateway) recover(w *response, req *http.Request, routes *routes) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // that is how a handler breaks off
	}
	g.opts.Logger.Error("a request of the gateway has panicked", "method", req.Method, "path", req.URL.Path,
		"panic", p, "stack", string(debug.Stack()))
	if w.wrote {
		panic(http.ErrAbortHandler)
	}
	g.refuse(w, req, routes, errPanic)
}

var errPanic = status.Error(codes.Internal, "the request has made the gateway panic")

// response is a ResponseWriter that knows whether the response has begun.
type response struct {
	http.ResponseWriter
	wrote bool
}

// WriteHeader writes the first of the final statuses.
func (w *response) WriteHeader(code int) {
	if w.wrote {
		return // it has been decided
	}
	w.wrote = code >= http.StatusOK || code == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
