package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Options is what an Admin shows. All of it may be absent. The functions are called
// concurrently and should be quick, since somebody waits.
type Options struct {
	// Ready returns nil if the proxy takes calls, and otherwise why it does not.
	// Default is that it always does.
	Ready func() error
	// Health returns, by service, nil if the service can be called and otherwise why
	// it cannot, for grpc.health.v1. "" is the proxy as a whole, of which Ready
	// tells. Default is that there are no services.
	Health func() map[string]error
	// Refresh is how often Ready and Health are asked for those who watch
	// grpc.health.v1. Default 1 s.
	Refresh time.Duration
	// Metrics is /metrics; absent when nil.
	Metrics http.Handler
	// Views are shown as JSON, each at the path of its name: "clusters" at
	// /clusters. What they return must hold no secrets.
	Views map[string]func() any
	// Logger is told what goes wrong: with connections, at debug level, and with the
	// functions above. Default slog.Default().
	Logger *slog.Logger
}

// Admin answers those who run the proxy. It is an http.Handler that may be used on its
// own; then it neither guards the host nor follows Ready by itself, as Serve does.
type Admin struct {
	opts     Options
	mux      *http.ServeMux
	pages    []page
	health   *health
	grpc     *grpc.Server
	draining atomic.Bool
}

// errDraining is why a proxy that drains is not ready.
var errDraining = errors.New("draining: running calls may finish, new ones are not taken")

// New returns an Admin. It panics if the name of a view is that of a page that there
// is already, or cannot be a path.
func New(opts Options) *Admin {
	opts.Refresh = cmp.Or(opts.Refresh, time.Second)
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	if opts.Health == nil {
		opts.Health = func() map[string]error { return nil }
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	a := &Admin{opts: opts, mux: http.NewServeMux()}
	a.health = newHealth(a.ready, opts.Health, opts.Logger)
	a.grpc = a.health.server()
	a.addPages()
	return a
}

// Drain has the proxy be no longer ready, whatever Ready says. Watchers of
// grpc.health.v1 are told. There is no way back.
func (a *Admin) Drain() {
	a.draining.Store(true)
	a.health.refresh()
}

func (a *Admin) ready() (err error) {
	if a.draining.Load() {
		return errDraining
	}
	defer recovered(&err)
	return a.opts.Ready()
}

// recovered makes an error of a panic: no question about the proxy may end it.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// ServeHTTP implements http.Handler.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isGRPC(r) {
		a.grpc.ServeHTTP(w, r)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the admin address can be read, and no more: use GET", http.StatusMethodNotAllowed)
		return
	}
	a.mux.ServeHTTP(w, r)
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// up answers /healthz: whoever answers is up.
func up(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(text(w), "ok") }

// isReady answers /readyz.
func (a *Admin) isReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(text(w), "ok")
}

func text(w http.ResponseWriter) http.ResponseWriter {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return w
}

// show answers with what a view returns.
func show(view func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.MarshalIndent(view(), "", "  ")
		if err != nil {
			http.Error(w, fmt.Sprintf("it cannot be shown as JSON: %v", err), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(b, '\n')) // whoever asked may be gone
	}
}
