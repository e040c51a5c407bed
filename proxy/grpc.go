package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
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

	mu   sync.Mutex
	list []*front
}

// front is one listener with its server.
type front struct {
	cfg  conf.Listener
	ln   net.Listener
	svr  server.Server
	exit chan error // closed to make it drain and stop
}

// wantsCertificate reports whether clients without a certificate are refused.
func (f *front) wantsCertificate() bool {
	t := f.cfg.TLS
	return t != nil && t.ClientCA != "" && t.ClientCertificate != conf.ClientCertificateOptional
}

func newServers(r *Relay) *servers { return &servers{relay: r, failed: make(chan error, 1)} }

// open binds a listener. Nobody serves it yet.
func (s *servers) open(l conf.Listener) (*front, error) {
	encryption, err := listenerTLS(l, s.relay.log)
	if err != nil {
		return nil, err
	}
	ln, err := listen(l.Address)
	if err != nil {
		return nil, err
	}
	f := &front{cfg: l, ln: ln, exit: make(chan error)}
	f.svr = server.NewServer(append(s.relay.serverOptions(encryption),
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return f.exit }),
	)...)
	registerPlaceholder(f.svr)
	return f, nil
}

// listenerTLS returns how a listener encrypts, nil for plaintext.
func listenerTLS(l conf.Listener, log *slog.Logger) (*tls.Config, error) {
	if l.TLS == nil {
		return nil, nil
	}
	c, err := secure.Server(l.TLS, log)
	if err != nil {
		return nil, fmt.Errorf("listener %s: tls: %w", l.Address, err)
	}
	return c, nil
}

// openAll binds listeners, all or none.
func (s *servers) openAll(listeners []conf.Listener) ([]*front, error) {
	var opened []*front
	for _, l := range listeners {
		f, err := s.open(l)
		if err != nil {
			for _, f := range opened {
				_ = f.ln.Close()
			}
			return nil, err
		}
		opened = append(opened, f)
	}
	return opened, nil
}

// ServerOptions returns the options that make a Kitex server take calls as
// kitexproxy does: the relay's Unknown as its handler of unknown services, the
// configuration's transport, limits, windows and keepalive, and an exit wait
// time that lets the relay end the calls. Kitex services registered with it are
// served as ever. A server with options of its own needs none but
// WithGRPCUnknownServiceHandler.
func (r *Relay) ServerOptions() []server.Option { return r.serverOptions(nil) }

// serverOptions is ServerOptions for a listener that encrypts, unless encryption is
// nil.
func (r *Relay) serverOptions(encryption *tls.Config) []server.Option {
	common := []server.Option{
		server.WithGRPCUnknownServiceHandler(r.Unknown),
		// The relay ends the calls in time; Kitex would only cut them off.
		server.WithExitWaitTime(time.Duration(r.cfg.Timeouts.Shutdown) + kitexExitMargin),
	}
	if r.native != nil {
		return append(common, r.nativeOptions(encryption)...)
	}
	return append(common, r.kitexOptions(encryption)...)
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
func (r *Relay) nativeOptions(encryption *tls.Config) []server.Option {
	return []server.Option{
		server.WithTransServerFactory(r.transServer(encryption)),
		server.WithTransHandlerFactory(&kitexhost.Factory{Config: r.native.config(), Broken: r.native.broken.note}),
	}
}

// kitexOptions are those for Kitex's transport.
func (r *Relay) kitexOptions(encryption *tls.Config) []server.Option {
	limits, timeouts := &r.cfg.Limits, &r.cfg.Timeouts
	conns := r.transServer(encryption)
	// A block is shorter than its list, but for long runs of characters that
	// Huffman coding makes longer.
	conns.Prepare = kitexgrpc.Prepare(2 * int(limits.HeaderList))
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

// start serves listeners that are open.
func (s *servers) start(fronts []*front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fronts {
		s.list = append(s.list, f)
		s.running.Go(func() { s.run(f) }) // ends with f.exit
	}
}

func (s *servers) run(f *front) {
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

// change serves other listeners: those that are new are opened first, and if one of
// them cannot be, nothing changes. Those that are gone close, and their connections
// are drained in the background. It returns the fronts that are new.
func (s *servers) change(listeners []conf.Listener) ([]*front, error) {
	wanted := make(map[string]bool)
	var added []conf.Listener
	for _, l := range listeners {
		wanted[l.Address] = true
		if !s.listens(l.Address) {
			added = append(added, l)
		}
	}
	opened, err := s.openAll(added)
	if err != nil {
		return nil, err
	}
	s.start(opened)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(f *front) bool {
		if wanted[f.cfg.Address] {
			return false
		}
		close(f.exit)
		return true
	})
	return opened, nil
}

func (s *servers) listens(address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.list, func(f *front) bool { return f.cfg.Address == address })
}

// stop makes the servers send GOAWAY and waits until they have ended: when
// all calls have, at the latest after timeouts.shutdown.
func (s *servers) stop() {
	s.mu.Lock()
	for _, f := range s.list {
		close(f.exit)
	}
	s.list = nil
	s.mu.Unlock()
	s.running.Wait()
}
