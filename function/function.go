package function

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// What Options are by default.
const (
	DefaultPrefix   = "/function/"
	DefaultTimeout  = 10 * time.Second
	DefaultMaxConns = 1024
)

// Options is what a Handler works with. Only Resolver is required.
type Options struct {
	// Resolver says where functions are. It may be a Picker as well.
	Resolver BaseURLResolver
	// Prefix is what comes before the name in a path. Default DefaultPrefix.
	Prefix string
	// Timeout is how long a call may take that is not a stream, from the request's
	// header to the last byte of the response. Default DefaultTimeout; below 0 there
	// is no limit. It also bounds how long a connection may take to be opened.
	Timeout time.Duration
	// MaxIdleConns and MaxIdleConnsPerHost are how many connections are kept without
	// a call, for a few seconds. Defaults DefaultMaxConns, and as many per host.
	MaxIdleConns, MaxIdleConnsPerHost int
	// Transport carries the calls instead of connections of the handler's own, if it
	// is not nil. It must pass on redirects and compressed bodies as they come, as
	// http.Transport does with DisableCompression.
	Transport http.RoundTripper
	// GatewayErrors is for status 504 if a function does not answer in time, and 502
	// if it does not answer otherwise; and for 413 and 400 if that is because the
	// request's body is too long (http.MaxBytesReader) or breaks off. All are 500
	// without, as with OpenFaaS.
	GatewayErrors bool
	// TrustedProxies are the networks of proxies whose X-Forwarded-* are believed and
	// passed on. From anybody else these headers, Forwarded and X-Real-Ip are thrown
	// away, and X-Forwarded-For, -Host and -Proto say what the connection does.
	TrustedProxies []netip.Prefix
	// Logger gets errors, ten in a second on average, and at level debug how long calls took. Default
	// slog.Default().
	Logger *slog.Logger
}

// Handler calls functions. Its methods may be called concurrently.
type Handler struct {
	resolver      BaseURLResolver
	picker        Picker // the resolver, nil if it is none
	prefix        string
	timeout       time.Duration // 0 for none
	errTimeout    error
	transport     http.RoundTripper
	gatewayErrors bool

	// What NewHandlerFunc has otherwise.
	forward  func(out http.Header, in *http.Request)
	statusOf func(resolverErr error) int
	log      logger
	logTime  func(name string, status int, took time.Duration)
}

// New returns a Handler that is ready to serve. It panics if opts has no Resolver.
func New(opts Options) *Handler {
	if opts.Resolver == nil {
		panic("function: New needs Options with a Resolver, which is nil")
	}
	opts = opts.withDefaults()
	h := &Handler{
		resolver: opts.Resolver, prefix: opts.Prefix, timeout: max(opts.Timeout, 0), transport: opts.Transport,
		gatewayErrors: opts.GatewayErrors, forward: trusts(opts.TrustedProxies).forward, statusOf: statusOf, log: newLimited(opts.Logger),
	}
	h.picker, _ = opts.Resolver.(Picker)
	h.errTimeout = fmt.Errorf("no whole response within %s: %w", h.timeout, context.DeadlineExceeded)
	h.logTime = func(name string, status int, took time.Duration) {
		if opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
			opts.Logger.Debug("function called", "function", name, "status", status, "took", took)
		}
	}
	return h
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	o.Prefix = "/" + strings.Trim(o.Prefix, "/") + "/"
	if o.Prefix == "//" {
		o.Prefix = "/"
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxIdleConns <= 0 {
		o.MaxIdleConns = DefaultMaxConns
	}
	if o.MaxIdleConnsPerHost <= 0 {
		o.MaxIdleConnsPerHost = o.MaxIdleConns
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Transport == nil {
		o.Transport = newTransport(max(o.Timeout, 0), o.MaxIdleConns, o.MaxIdleConnsPerHost)
	}
	return o
}

// CloseIdleConnections closes the connections without a call. A handler that is not used
// any more has none left a few seconds later anyway.
func (h *Handler) CloseIdleConnections() {
	if t, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// ServeHTTP answers one call, in the caller's goroutine.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isAllowed(r.Method) {
		w.Header().Set("Allow", allowed)
		reply(w, http.StatusMethodNotAllowed, "Functions are called with "+allowed)
		return
	}
	name, sub, refused := split(r.URL, h.prefix)
	if refused != nil {
		reply(w, refused.status, refused.text)
		return
	}
	c := &call{h: h, w: w, r: r, name: name, sub: sub, streams: isStream(r.Header)}
	c.serve()
}

// allowed are the methods that functions are called with.
const allowed = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

func isAllowed(method string) bool {
	switch method {
	case http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut:
		return true
	}
	return false
}

// reply answers a request in place of a function.
func reply(w http.ResponseWriter, status int, text string) {
	w.Header().Set("X-OpenFaaS-Internal", "proxy")
	http.Error(w, text, status)
}
