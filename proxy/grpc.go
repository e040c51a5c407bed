package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/kitexhost"
	"github.com/kitexproxy/kitexproxy/handler/secure"
)

// servers are the Kitex servers of a proxy, one for each listener.
type servers struct {
	relay   *Relay
	failed  chan error // gets the error of a server that ends by itself
	running sync.WaitGroup

	changing sync.Mutex // held by whoever has other listeners served

	mu   sync.Mutex
	list []*front
	life context.Context // ends with stop
	end  context.CancelFunc
}

// front is one listener with its server.
type front struct {
	cfg  conf.Listener
	ln   *listener
	svr  server.Server
	exit chan error                 // closed to make it drain and stop
	tls  atomic.Pointer[tls.Config] // in force for new connections; nil: plaintext
}

// wantsCertificate reports whether clients without a certificate are refused.
func (f *front) wantsCertificate() bool {
	t := f.cfg.TLS
	return t != nil && t.ClientCA != "" && t.ClientCertificate != conf.ClientCertificateOptional
}

// listener tells when it has been closed, so that its address can be bound again.
type listener struct {
	net.Listener
	closed chan struct{}
	once   sync.Once
}

// Close implements net.Listener.
func (l *listener) Close() error {
	defer l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// encryption returns what the listener's TLS begins with, nil for plaintext.
func (f *front) encryption() *tls.Config {
	if f.tls.Load() == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return f.tls.Load().GetConfigForClient(hello)
	}}
}

func newServers(r *Relay) *servers {
	s := &servers{relay: r, failed: make(chan error, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// open binds a listener. Nobody serves it yet.
func (s *servers) open(l conf.Listener) (*front, error) {
	encryption, err := listenerTLS(l.Address, l.TLS, s.relay.log)
	if err != nil {
		return nil, err
	}
	ln, err := listen(l.Address, grpcListeners)
	if err != nil {
		return nil, err
	}
	f := &front{cfg: l, ln: &listener{Listener: ln, closed: make(chan struct{})}, exit: make(chan error)}
	f.tls.Store(encryption)
	f.svr = server.NewServer(append(s.relay.serverOptions(newEntry(s.relay, l.Address), f.encryption()),
		server.WithListener(f.ln),
		server.WithExitSignal(func() <-chan error { return f.exit }),
	)...)
	registerPlaceholder(f.svr)
	return f, nil
}

// listenerTLS returns how a listener encrypts, nil for plaintext.
func listenerTLS(address string, cfg *conf.ListenerTLS, log *slog.Logger) (*tls.Config, error) {
	if cfg == nil {
		return nil, nil
	}
	c, err := secure.Server(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("listener %s: tls: %w", address, err)
	}
	return c, nil
}

// openAll binds listeners, all or none.
func (s *servers) openAll(listeners []conf.Listener) ([]*front, error) {
	return openEach(listeners, s.open, closeAll)
}

// openEach opens listeners of a kind, all or none.
func openEach[L, F any](listeners []L, open func(L) (F, error), closeAll func([]F)) ([]F, error) {
	var opened []F
	for _, l := range listeners {
		f, err := open(l)
		if err != nil {
			closeAll(opened)
			return nil, err
		}
		opened = append(opened, f)
	}
	return opened, nil
}

// closeAll lets go of listeners that are not served.
func closeAll(fronts []*front) {
	for _, f := range fronts {
		_ = f.ln.Close()
	}
}

// ServerOptions returns the options that make a Kitex server take calls as
// kitexproxy does: the relay's Unknown as its handler of unknown services, the
// configuration's transport, limits, windows and keepalive, and an exit wait
// time that lets the relay end the calls. Kitex services registered with it are
// served as ever. A server with options of its own needs none but
// WithGRPCUnknownServiceHandler.
func (r *Relay) ServerOptions() []server.Option { return r.serverOptions(newEntry(r, ""), nil) }

// serverOptions is ServerOptions for what comes in at e, encrypted unless encryption is
// nil.
func (r *Relay) serverOptions(e *entry, encryption *tls.Config) []server.Option {
	common := []server.Option{
		server.WithGRPCUnknownServiceHandler(r.kitexServer(e).Unknown),
		// The relay ends the calls in time; Kitex would only cut them off.
		server.WithExitWaitTime(time.Duration(r.cfg.Timeouts.Shutdown) + kitexExitMargin),
	}
	if r.native != nil {
		return append(common, r.nativeOptions(e, encryption)...)
	}
	return append(common, r.kitexOptions(e, encryption)...)
}

func (r *Relay) transServer(encryption *tls.Config) *kitexhost.TransServer {
	return &kitexhost.TransServer{
		TLS:              encryption,
		MaxConnections:   r.cfg.Limits.Connections,
		HandshakeTimeout: time.Duration(r.cfg.Timeouts.Keepalive),
		Logger:           r.log,
	}
}

// nativeOptions are those for the proxy's own transport.
func (r *Relay) nativeOptions(e *entry, encryption *tls.Config) []server.Option {
	return []server.Option{
		server.WithTransServerFactory(r.transServer(encryption)),
		server.WithTransHandlerFactory(&kitexhost.Factory{
			Config: r.native.config(), Connection: r.native.connections(e), Broken: r.native.broken.note,
		}),
	}
}

// kitexOptions are those for Kitex's transport.
func (r *Relay) kitexOptions(e *entry, encryption *tls.Config) []server.Option {
	limits, timeouts := &r.cfg.Limits, &r.cfg.Timeouts
	conns := r.transServer(encryption)
	// A block is shorter than its list, but for long runs of characters that
	// Huffman coding makes longer.
	conns.Prepare = kitexgrpc.Prepare(2 * int(limits.HeaderList))
	conns.Serving = e.serving
	conns.Begin = func(ctx context.Context) error {
		return kitexgrpc.LimitStreams(ctx, uint32(limits.StreamsPerConnection))
	}
	return []server.Option{
		server.WithTransServerFactory(conns),
		server.WithTransHandlerFactory(nphttp2.NewSvrTransHandlerFactory()),
		server.WithGRPCMaxConcurrentStreams(uint32(limits.StreamsPerConnection)),
		server.WithGRPCMaxHeaderListSize(uint32(limits.HeaderList)),
		server.WithGRPCInitialWindowSize(kitexStreamWindow(limits)),
		server.WithGRPCInitialConnWindowSize(kitexConnWindow(limits)),
		// It also frees what a client holds that floods the proxy, reads
		// nothing and goes: Kitex's reader then waits for a writer that has
		// ended.
		server.WithGRPCKeepaliveParams(grpc.ServerKeepalive{
			Time:    time.Duration(timeouts.Keepalive),
			Timeout: time.Duration(timeouts.Keepalive),
		}),
		server.WithGRPCKeepaliveEnforcementPolicy(grpc.EnforcementPolicy{
			// Clients ping as often as their backends allow; the proxy
			// must not be the stricter one.
			MinTime:             clientPingInterval,
			PermitWithoutStream: true,
		}),
	}
}

// Kitex's windows are as large from the beginning as they ever will be, and each
// is memory that a slow receiver makes the proxy hold.
func kitexStreamWindow(l *conf.Limits) uint32 { return uint32(min(l.StreamWindow, 512<<10)) }
func kitexConnWindow(l *conf.Limits) uint32   { return uint32(min(l.ConnectionWindow, 2<<20)) }

// kitexExitMargin is how much longer than the relay Kitex waits for calls.
const kitexExitMargin = time.Second

// clientPingInterval is how often a client may ping before it is cut off.
const clientPingInterval = time.Second

// registerPlaceholder registers a service without methods, because Kitex
// refuses to run without any. Kitex looks services up by what follows the last
// dot of their name, so a name with a dot in it is never asked for.
func registerPlaceholder(svr server.Server) {
	info := &serviceinfo.ServiceInfo{
		ServiceName:  "kitexproxy.placeholder",
		Methods:      map[string]serviceinfo.MethodInfo{},
		PayloadCodec: serviceinfo.Protobuf,
		Extra:        map[string]any{},
	}
	if err := svr.RegisterService(info, &struct{}{}); err != nil {
		panic(err) // the arguments are constant
	}
}

// start serves listeners that are open. After stop it closes them.
func (s *servers) start(fronts []*front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		closeAll(fronts)
		return
	}
	for _, f := range fronts {
		s.list = append(s.list, f)
		s.running.Go(func() { s.run(f) }) // ends with f.exit
	}
}

func (s *servers) run(f *front) {
	defer f.ln.Close() // the server does so, unless it has not even begun
	err := f.svr.Run()
	select {
	case <-f.exit:
		return
	default:
	}
	if err == nil {
		err = errors.New("a listener stopped serving")
	}
	select {
	case s.failed <- err:
	default: // another one has told
	}
}

// addrs returns where the servers listen.
func (s *servers) addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []net.Addr
	for _, f := range s.list {
		all = append(all, f.ln.Addr())
	}
	return all
}

// change is how the listeners of a proxy are to become others.
type change struct {
	opened  []*front                 // that are new, and not served yet
	renewed map[*front]conf.Listener // that stay, and encrypt in another way
	tls     map[*front]*tls.Config   // in which
	gone    []*front
}

// prepare does what can fail of a change: it binds listeners that are new, and reads
// the TLS files of those that have others. Nothing is served yet. It needs changing.
func (s *servers) prepare(listeners []conf.Listener) (*change, error) {
	c := &change{renewed: make(map[*front]conf.Listener), tls: make(map[*front]*tls.Config), gone: s.fronts()}
	var added []conf.Listener
	for _, l := range listeners {
		i := slices.IndexFunc(c.gone, func(f *front) bool { return f.cfg.Address == l.Address })
		if i < 0 {
			added = append(added, l)
			continue
		}
		if err := c.renew(c.gone[i], l, s.relay.log); err != nil {
			return nil, err
		}
		c.gone = slices.Delete(c.gone, i, i+1)
	}
	var err error
	c.opened, err = s.openAll(added)
	return c, err
}

// renew has a listener encrypt as another one of its address does. One that is to
// begin with it, or to end it, is left as it is; see NeedsRestart.
func (c *change) renew(f *front, l conf.Listener, log *slog.Logger) error {
	switch {
	case (f.cfg.TLS == nil) != (l.TLS == nil):
		log.Warn("to begin or end TLS on a listener takes another start", "listener", l.Address)
		return nil
	case reflect.DeepEqual(f.cfg.TLS, l.TLS):
		return nil
	}
	encryption, err := listenerTLS(l.Address, l.TLS, log)
	c.renewed[f], c.tls[f] = l, encryption
	return err
}

// apply makes a change, which cannot fail. Listeners that are gone have been closed when
// it returns; what is under way on their connections is drained in the background.
func (s *servers) apply(c *change) {
	s.start(c.opened)
	for _, f := range s.replace(c) {
		<-f.ln.closed
	}
}

// replace makes a change of the listeners that are served, and returns those that have
// been told to stop.
func (s *servers) replace(c *change) (stopped []*front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f, l := range c.renewed {
		f.cfg = l
		f.tls.Store(c.tls[f])
	}
	s.list = slices.DeleteFunc(s.list, func(f *front) bool { // which is empty after stop
		if !slices.Contains(c.gone, f) {
			return false
		}
		close(f.exit)
		stopped = append(stopped, f)
		return true
	})
	return stopped
}

// fronts returns those that are served.
func (s *servers) fronts() []*front {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// stop makes the servers send GOAWAY and waits until they have ended: when
// all calls have, at the latest after timeouts.shutdown. No other ones are served
// after it.
func (s *servers) stop() {
	s.mu.Lock()
	s.end()
	for _, f := range s.list {
		close(f.exit)
	}
	s.list = nil
	s.mu.Unlock()
	s.running.Wait()
}
