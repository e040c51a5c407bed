package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/function"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// functions says where the functions of a configuration are.
type functions struct {
	relay      *Relay
	generation *generation
	routes     map[string]*conf.Function
	methods    http.Handler // makes calls of POST /package.Service/Method; nil for none
}

var _ function.Picker = (*functions)(nil)

// Resolve implements function.BaseURLResolver, which Pick is asked instead of.
func (f *functions) Resolve(name string) (url.URL, error) {
	t, err := f.Pick(new(http.Request), name)
	if err == nil && t.Done != nil {
		t.Done(0, function.ErrClient)
	}
	return t.URL, err
}

// Pick implements function.Picker.
func (f *functions) Pick(req *http.Request, name string) (function.Target, error) {
	switch to := f.routes[name]; {
	case to == nil:
		return function.Target{}, functionError{http.StatusNotFound, "no function has that name"}
	case to.Method != "":
		return function.Target{URL: url.URL{Path: to.Method}, Handler: f.asCall(to.Method)}, nil
	case to.Cluster != "":
		return f.pick(req, to)
	default:
		return function.Target{URL: baseURL(to.URL), Done: func(_ int, err error) { noteFailure(req, err) }}, nil
	}
}

// functionError is an error with the status that the client gets.
type functionError struct {
	status  int
	problem string
}

// Error implements error.
func (e functionError) Error() string { return e.problem }

// HTTPStatus is asked for by package function.
func (e functionError) HTTPStatus() int { return e.status }

// baseURL returns the URL of a function, which is valid, with its port: package function
// takes 8080 for one that is missing, as OpenFaaS does.
func baseURL(written string) url.URL {
	u, err := url.Parse(written)
	if err != nil {
		return url.URL{}
	}
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return *u
}

// pick returns an instance of a cluster, and counts the request in there.
func (f *functions) pick(req *http.Request, to *conf.Function) (function.Target, error) {
	c := f.generation.clusters[to.Cluster].Cluster
	if busy := tries.Enter(c); busy != nil {
		return function.Target{}, functionError{http.StatusServiceUnavailable, busy.Message}
	}
	var t tries.Tries
	t.Begin(c, tries.Affinity(c, peerOf(req), req.Header.Get))
	instance, none := t.Next(func(string) bool { return false })
	if none != nil {
		c.Leave()
		return function.Target{}, functionError{http.StatusServiceUnavailable, none.Message}
	}
	instance.Begin()
	return function.Target{
		URL: url.URL{Scheme: "http", Host: instance.Address(), Path: to.Path},
		Done: func(status int, err error) {
			instance.End(functionResult(status, err))
			c.Leave()
			noteFailure(req, err)
		},
	}, nil
}

// noteFailure has a request that has ended by err be told of as what that says, which the
// status that the client gets may not.
func noteFailure(req *http.Request, err error) {
	call := intercept.FromContext(req.Context())
	if call == nil || err == nil {
		return
	}
	call.Failed(functionFailure(err))
}

// functionFailure returns what the error of a request is in a call.
func functionFailure(err error) *stream.Failure {
	var dial *net.OpError
	f := &stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable, Message: err.Error()}
	switch {
	case errors.Is(err, errHTTPShutdown):
		f.Reason = stream.Shutdown
	case errors.Is(err, function.ErrClient):
		f.Reason, f.Code = stream.ClientCanceled, stream.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		f.Reason, f.Code = stream.RouteTimeout, stream.DeadlineExceeded
	case errors.As(err, &dial) && dial.Op == "dial":
		f.Reason = stream.BackendUnreachable
	}
	return f
}

// functionResult says what the end of a request tells of its instance.
func functionResult(status int, err error) cluster.Result {
	switch {
	case errors.Is(err, function.ErrClient), errors.Is(err, errHTTPShutdown):
		return cluster.Unknown
	case err != nil, status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return cluster.Failed
	default:
		return cluster.Succeeded
	}
}

// functionTransport has each request to a function be told of as an attempt of its call,
// until the head of the response is there.
type functionTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t functionTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	call := intercept.FromContext(req.Context())
	if call == nil { // nothing is around it
		return t.RoundTripper.RoundTrip(req)
	}
	a := call.BeginAttempt(call.Cluster(), req.URL.Host)
	resp, err := t.RoundTripper.RoundTrip(withAttempt(req, a))
	result := cluster.Unknown // which it stays for who has gone away
	switch {
	case err == nil:
		result = functionResult(resp.StatusCode, nil)
	case !errors.Is(req.Context().Err(), context.Canceled):
		result = cluster.Failed
	}
	a.End(result)
	return resp, err
}

// withAttempt returns a request with what observers have added, by an attempt that may be
// nil.
func withAttempt(req *http.Request, a *intercept.Attempt) *http.Request {
	if a == nil || len(a.Header) == 0 {
		return req
	}
	changed := *req
	changed.Header = req.Header.Clone()
	for _, f := range a.Header {
		changed.Header.Del(f.Key)
	}
	for _, f := range a.Header {
		changed.Header.Add(f.Key, f.Value)
	}
	return &changed
}

// internalHeader says that it is not a function that answers, as package function does.
const internalHeader = "X-OpenFaaS-Internal"

// asCall makes a gRPC call of a request for a function: JSON in and out. What has no
// body is the empty message; streams and WebSockets are as the gateway has them.
func (f *functions) asCall(method string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if rest := strings.TrimPrefix(req.URL.Path, method); rest != "" && rest != "/" {
			w.Header().Set(internalHeader, "proxy")
			http.Error(w, "A function that is a gRPC method has nothing below it", http.StatusNotFound)
			return
		}
		call := *req
		call.URL = &url.URL{Path: method}
		if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") { // but HTTP/2, as curl --http2 does
			call.Method = http.MethodPost
		}
		f.methods.ServeHTTP(w, &call)
	})
}

// around has requests for functions that are no gRPC methods go through what is around
// calls: those that are go through it as calls.
func (e *entry) around(next http.Handler, c *conf.Functions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, c.Prefix), "/")
		observers, links := e.relay.observers.get(), e.relay.current.Load().around.of(e.listener)
		to := c.Routes[name]
		if observers == nil && len(links) == 0 || to != nil && to.Method != "" {
			next.ServeHTTP(w, req)
			return
		}
		info := intercept.Info{Request: requestOf(req, c.Prefix, name, to), Peer: peerOf(req), TLS: req.TLS, Listener: e.listener, Logger: e.relay.log}
		call := intercept.Begin(observers, info)
		if to != nil {
			call.Routed("function "+name, to.Cluster, intercept.ModeHTTP)
		}
		o := &observed{ResponseWriter: w}
		err := intercept.Run(req.Context(), call, links, func(ctx context.Context) error {
			if err := call.Message(intercept.Message{Direction: filter.Request, Length: int(max(0, req.ContentLength))}); err != nil {
				return err
			}
			next.ServeHTTP(o, o.prepare(req.WithContext(ctx), call))
			return o.end(call)
		})
		if !o.begun && err != nil {
			o.refuse(err, call.ResponseHeader())
		}
		call.End(intercept.TrailerOf(err))
	})
}

// requestOf returns a request for a function as links see it: headers are metadata.
func requestOf(req *http.Request, prefix, name string, to *conf.Function) *stream.Request {
	r := &stream.Request{Method: prefix + "unknown", Authority: req.Host, ContentType: req.Header.Get("Content-Type")}
	if to != nil {
		r.Method = prefix + name // others could be any number
	}
	for key, values := range req.Header {
		for _, v := range values {
			r.Metadata = append(r.Metadata, stream.Field{Key: strings.ToLower(key), Value: v})
		}
	}
	return r
}

// observed is the response to a request for a function. http.ResponseController sees
// through it.
type observed struct {
	http.ResponseWriter
	added  bool // what links have added to the header is there
	begun  bool
	status int
	sent   int64
	got    countingBody
}

// Unwrap is what http.ResponseController asks for.
func (o *observed) Unwrap() http.ResponseWriter {
	o.begun = true // whoever takes the connection answers on it
	return o.ResponseWriter
}

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		o.begun, o.status = true, status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (o *observed) Write(b []byte) (int, error) {
	o.begun = true
	n, err := o.ResponseWriter.Write(b)
	o.sent += int64(n)
	return n, err
}

// prepare returns the request as links have left it.
func (o *observed) prepare(req *http.Request, c *intercept.Call) *http.Request {
	if md, changed := c.ChangedHeader(); changed {
		req.Header = make(http.Header, len(md))
		for _, f := range md {
			req.Header.Add(f.Key, f.Value)
		}
	}
	o.add(c.ResponseHeader())
	o.added = true
	if req.Body != nil && req.Body != http.NoBody {
		o.got.ReadCloser = req.Body
		req.Body = &o.got
	}
	return req
}

// end says how the request has ended, as a call.
func (o *observed) end(c *intercept.Call) error {
	_ = c.Message(intercept.Message{Direction: filter.Response, Length: int(o.sent)}) // it is too late to refuse it
	c.Crossed(filter.Request, 1, o.got.n)
	c.Crossed(filter.Response, 1, o.sent)
	code := codeOfStatus(o.status)
	if code == codes.OK {
		return nil
	}
	return &stream.Failure{Code: stream.Code(code), Message: fmt.Sprintf("status %d", o.status)}
}

// add adds metadata to the response's header.
func (o *observed) add(md stream.Metadata) {
	for _, f := range md {
		o.Header().Add(f.Key, f.Value)
	}
}

// refuse answers a request that a link has ended. header is what links have added.
func (o *observed) refuse(err error, header stream.Metadata) {
	t := intercept.TrailerOf(err)
	if !o.added {
		o.add(header)
	}
	o.add(t.Metadata)
	o.Header().Set(internalHeader, "proxy")
	http.Error(o, t.Status.Message, runtime.HTTPStatusFromCode(codes.Code(t.Status.Code)))
}

// codeOfStatus returns the gRPC code that says the most of what an HTTP status does.
func codeOfStatus(status int) codes.Code {
	switch status {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.Aborted
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	}
	switch {
	case status < 400: // 0 is 200 that nobody has written
		return codes.OK
	case status < 500:
		return codes.FailedPrecondition
	default:
		return codes.Internal
	}
}

// countingBody counts what is read of a request.
type countingBody struct {
	io.ReadCloser
	n int64
}

// Read implements io.Reader.
func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
