package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/kitexhost"
)

// servers are the Kitex servers of a proxy, one for each listener.
type servers struct {
	list    []server.Server
	exit    chan error // closed to make them drain and stop
	once    sync.Once
	running sync.WaitGroup
}

func newServers(r *Relay, listeners []net.Listener) *servers {
	s := &servers{exit: make(chan error)}
	for _, ln := range listeners {
		s.list = append(s.list, newServer(r, ln, s.exit))
	}
	return s
}

// newServer returns a Kitex server on ln that hands every call to the relay. It
// stops when exit is closed.
func newServer(r *Relay, ln net.Listener, exit <-chan error) server.Server {
	svr := server.NewServer(append(r.ServerOptions(),
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return exit }),
	)...)
	registerPlaceholder(svr)
	return svr
}

// ServerOptions returns the options that make a Kitex server take calls as
// kitexproxy does: the relay's Unknown as its handler of unknown services, the
// configuration's transport, limits, windows and keepalive, and an exit wait
// time that lets the relay end the calls. Kitex services registered with it are
// served as ever. A server with options of its own needs none but
// WithGRPCUnknownServiceHandler.
func (r *Relay) ServerOptions() []server.Option {
	common := []server.Option{
		server.WithGRPCUnknownServiceHandler(r.Unknown),
		// The relay ends the calls in time; Kitex would only cut them off.
		server.WithExitWaitTime(time.Duration(r.cfg.Timeouts.Shutdown) + kitexExitMargin),
	}
	if r.native != nil {
		return append(common, r.nativeOptions()...)
	}
	return append(common, r.kitexOptions()...)
}

func (r *Relay) transServer() *kitexhost.TransServer {
	return &kitexhost.TransServer{
		MaxConnections:   r.cfg.Limits.Connections,
		HandshakeTimeout: time.Duration(r.cfg.Timeouts.Keepalive),
		Logger:           r.log,
	}
}

// nativeOptions are those for the proxy's own transport.
func (r *Relay) nativeOptions() []server.Option {
	return []server.Option{
		server.WithTransServerFactory(r.transServer()),
		server.WithTransHandlerFactory(&kitexhost.Factory{Config: r.native.config(), Broken: r.native.broken.note}),
	}
}

// kitexOptions are those for Kitex's transport.
func (r *Relay) kitexOptions() []server.Option {
	limits, timeouts := &r.cfg.Limits, &r.cfg.Timeouts
	conns := r.transServer()
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

// start runs the servers. The returned channel gets the error of the first one
// that ends by itself.
func (s *servers) start() <-chan error {
	failed := make(chan error, len(s.list))
	for _, svr := range s.list {
		s.running.Go(func() { // ends with stop
			err := svr.Run()
			select {
			case <-s.exit:
			default:
				if err == nil {
					err = errors.New("a listener stopped serving")
				}
				failed <- err
			}
		})
	}
	return failed
}

// stop makes the servers send GOAWAY and waits until they have ended: when
// all calls have, at the latest after timeouts.shutdown.
func (s *servers) stop() {
	s.once.Do(func() { close(s.exit) })
	s.running.Wait()
}
