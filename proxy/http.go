package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/kitexproxy/kitexproxy/conf"
)

// httpServers are the HTTP servers of a proxy, one for each listener of its http
// section.
type httpServers struct {
	relay   *Relay
	failed  chan error // gets the error of a server that ends by itself
	running sync.WaitGroup

	mu   sync.Mutex
	list []*httpFront
}

// httpFront is one listener with its server.
type httpFront struct {
	cfg    conf.HTTPListener
	ln     net.Listener
	server *http.Server
	calls  underWay
	tls    atomic.Pointer[tls.Config] // in force for new connections; nil: plaintext
	cut    func()                     // ends the contexts of all requests
}

const (
	// httpHeadTimeout is how long the head of a request may take to come.
	httpHeadTimeout = 10 * time.Second
	// httpIdleTimeout is how long a connection may be without a request.
	httpIdleTimeout = 2 * time.Minute
)

// errHTTPShutdown is why requests end that nobody but the proxy has ended.
var errHTTPShutdown = errors.New("the proxy is shutting down")

// open binds a listener. Nobody serves it yet.
func (s *httpServers) open(l conf.HTTPListener) (*httpFront, error) {
	encryption, err := listenerTLS(l.Address, l.TLS, s.relay.log)
	if err != nil {
		return nil, err
	}
	ln, err := listen(l.Address, httpListeners)
	if err != nil {
		return nil, err
	}
	f := &httpFront{cfg: l, ln: ln}
	f.tls.Store(encryption)
	ctx, cut := context.WithCancelCause(context.Background())
	f.cut = func() { cut(errHTTPShutdown) }
	f.server = &http.Server{
		Handler: f.calls.count(withoutStalls(s.handler(l.Address))), Protocols: httpProtocols(encryption != nil),
		BaseContext: func(net.Listener) context.Context { return ctx },
		TLSConfig:   f.encryption(), ReadHeaderTimeout: httpHeadTimeout, IdleTimeout: httpIdleTimeout,
		MaxHeaderBytes: int(s.relay.cfg.Limits.HeaderList),
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: s.relay.cfg.Limits.StreamsPerConnection},
		ErrorLog:       slog.NewLogLogger(s.relay.log.Handler(), slog.LevelDebug),
	}
	return f, nil
}

// httpProtocols are those that browsers and others speak.
func httpProtocols(encrypted bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	if encrypted {
		p.SetHTTP2(true)
	} else {
		p.SetUnencryptedHTTP2(true)
	}
	return p
}

// encryption returns the listener's TLS, which is that of gRPC's listeners but for the
// protocols; nil for plaintext.
func (f *httpFront) encryption() *tls.Config {
	if f.tls.Load() == nil {
		return nil
	}
	return &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := f.tls.Load().GetConfigForClient(hello)
			if err != nil {
				return nil, err
			}
			c = c.Clone()
			c.NextProtos = []string{"h2", "http/1.1"}
			return c, nil
		},
	}
}

// handler answers what comes in by a listener, by the configuration that is in use.
func (s *httpServers) handler(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := s.relay.current.Load().web.handlers[address]
		if h == nil { // a reload has just now taken the listener away
			http.Error(w, "the listener is gone", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// openAll binds listeners, all or none.
func (s *httpServers) openAll(listeners []conf.HTTPListener) ([]*httpFront, error) {
	return openEach(listeners, s.open, closeAllHTTP)
}

// closeAllHTTP lets go of listeners that are not served.
func closeAllHTTP(fronts []*httpFront) {
	for _, f := range fronts {
		f.cut()
		_ = f.ln.Close()
	}
}

// start serves listeners.
func (s *httpServers) start(fronts []*httpFront) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fronts {
		s.list = append(s.list, f)
		s.running.Go(func() { s.run(f) }) // ends with stop
	}
}

func (s *httpServers) run(f *httpFront) {
	ln := netutil.LimitListener(f.ln, s.relay.cfg.Limits.Connections)
	var err error
	if f.server.TLSConfig != nil {
		err = f.server.ServeTLS(ln, "", "")
	} else {
		err = f.server.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return
	}
	select {
	case s.failed <- fmt.Errorf("listener %s: %w", f.cfg.Address, err):
	default: // another one has told
	}
}

// httpChange is how the HTTP listeners of a proxy are to become others.
type httpChange struct {
	opened []*httpFront
	tls    map[*httpFront]*tls.Config
	gone   []*httpFront
}

// prepare does what can fail of a change. Nothing is served yet.
func (s *httpServers) prepare(cfg *conf.HTTP) (*httpChange, error) {
	s.mu.Lock()
	c := &httpChange{tls: make(map[*httpFront]*tls.Config), gone: slices.Clone(s.list)}
	s.mu.Unlock()
	var added []conf.HTTPListener
	for _, l := range listenersOf(cfg) {
		i := slices.IndexFunc(c.gone, func(f *httpFront) bool { return f.cfg.Address == l.Address })
		if i < 0 {
			added = append(added, l)
			continue
		}
		f := c.gone[i]
		c.gone = slices.Delete(c.gone, i, i+1)
		if (f.cfg.TLS == nil) != (l.TLS == nil) {
			s.relay.log.Warn("to begin or end TLS on a listener takes another start", "listener", l.Address)
			continue
		}
		encryption, err := listenerTLS(l.Address, l.TLS, s.relay.log)
		if err != nil {
			return nil, err
		}
		c.tls[f] = encryption
	}
	var err error
	c.opened, err = s.openAll(added)
	return c, err
}

func listenersOf(cfg *conf.HTTP) []conf.HTTPListener {
	if cfg == nil {
		return nil
	}
	return cfg.Listeners
}

// apply makes a change, which cannot fail. What is under way on listeners that are gone
// may go on for grace.
func (s *httpServers) apply(c *httpChange, grace time.Duration) {
	s.start(c.opened)
	s.mu.Lock()
	defer s.mu.Unlock()
	for f, encryption := range c.tls {
		f.tls.Store(encryption)
	}
	s.list = slices.DeleteFunc(s.list, func(f *httpFront) bool { return slices.Contains(c.gone, f) })
	for _, f := range c.gone {
		s.running.Go(func() { // ends after grace
			ctx, cancel := context.WithTimeout(context.Background(), grace)
			defer cancel()
			f.stop(ctx)
		})
	}
}

// stop takes no more requests, and returns when none is left, or once those that still
// run when ctx ends have been ended.
func (f *httpFront) stop(ctx context.Context) {
	defer f.cut()
	if f.settle(ctx) == nil {
		return
	}
	// The relay ends its calls now, and says why: no client is to think that it has
	// cancelled them itself.
	if f.stopWithin(flushTime/2) == nil {
		return
	}
	f.cut() // functions, and all that a listener has which goes alone
	if f.stopWithin(flushTime/2) != nil {
		_ = f.server.Close()
	}
}

func (f *httpFront) stopWithin(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.settle(ctx)
}

// settle takes no more requests, and returns when none is left, or the error of ctx.
func (f *httpFront) settle(ctx context.Context) error {
	if err := f.server.Shutdown(ctx); err != nil {
		return err
	}
	return f.calls.wait(ctx) // for WebSockets, whose connections are not the server's any more
}

// stop ends all servers; see httpFront.stop.
func (s *httpServers) stop(ctx context.Context) {
	s.mu.Lock()
	list := s.list
	s.list = nil
	s.mu.Unlock()
	for _, f := range list {
		s.running.Go(func() { f.stop(ctx) })
	}
	s.running.Wait()
}

// addrs returns where the servers listen.
func (s *httpServers) addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []net.Addr
	for _, f := range s.list {
		all = append(all, f.ln.Addr())
	}
	return all
}
