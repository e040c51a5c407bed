package kitexhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/utils"
)

// TransServer accepts the connections of a Kitex server on net.Conn: it is what
// server.WithTransServerFactory takes, together with a Factory or with Kitex's
// own nphttp2.NewSvrTransHandlerFactory().
//
// Kitex has two of its own, and neither will do for a proxy. The one on netpoll
// goes on reading what a client sends while its HTTP/2 transport holds back,
// which a client that floods it with PING or SETTINGS can fill the memory with.
// The one on net.Conn (gonet) never tells the gRPC handler that a connection
// has ended, and closes its buffers under the goroutine that reads them.
type TransServer struct {
	// MaxConnections is how many connections are served at a time; one more
	// is closed as it comes. 0 means no limit.
	MaxConnections int
	// TLS encrypts the connections; nil: plaintext. Clients that do not choose
	// "h2" by ALPN are turned away.
	TLS *tls.Config
	// HandshakeTimeout bounds what comes before the first call on a new
	// connection: TLS's handshake and the HTTP/2 preface together. It must be
	// set.
	HandshakeTimeout time.Duration
	// Prepare returns what a new connection is served through, nil for the
	// connection itself.
	Prepare func(net.Conn) net.Conn
	// Serving is told of each connection that is served, after TLS's handshake, and
	// returns what is called when it is over. What it puts into the context, those of
	// the connection's calls have. It may be nil.
	Serving func(ctx context.Context, conn net.Conn) (of context.Context, over func())
	// Begin is called with what the handler's OnActive has returned, before
	// the connection is read. An error ends it. It may be nil.
	Begin func(ctx context.Context) error
	// Logger gets what concerns no call. It must be set.
	Logger *slog.Logger
}

// NewTransServer implements remote.TransServerFactory.
func (f *TransServer) NewTransServer(opt *remote.ServerOption, h remote.ServerTransHandler) remote.TransServer {
	return &transServer{TransServer: f, exitWait: opt.ExitWaitTime, handler: h, conns: make(map[net.Conn]struct{})}
}

type transServer struct {
	*TransServer
	exitWait time.Duration
	handler  remote.ServerTransHandler
	serving  sync.WaitGroup // a goroutine for each connection

	mu     sync.Mutex
	ln     net.Listener
	conns  map[net.Conn]struct{}
	closed bool
}

var _ remote.TransServer = (*transServer)(nil)

// CreateListener implements remote.TransServer, for servers without a listener
// of their own.
func (s *transServer) CreateListener(addr net.Addr) (net.Listener, error) {
	return net.Listen(addr.Network(), addr.String())
}

// acceptPause is how long accepting rests after an error that may pass, such as
// having no file descriptor left.
const acceptPause = 50 * time.Millisecond

// BootstrapServer accepts connections until Shutdown.
func (s *transServer) BootstrapServer(ln net.Listener) error {
	if !s.adopt(ln) {
		return nil
	}
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			s.begin(conn)
		case s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.Logger.Warn("a connection could not be accepted", "listener", ln.Addr().String(), "error", err)
			time.Sleep(acceptPause)
		}
	}
}

// adopt makes ln the one that Shutdown closes. It reports false if Shutdown has
// been before.
func (s *transServer) adopt(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = ln.Close()
		return false
	}
	s.ln = ln
	return true
}

// begin serves a connection in a goroutine that ends with it, unless there are
// too many.
func (s *transServer) begin(socket net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.MaxConnections > 0 && len(s.conns) >= s.MaxConnections {
		_ = socket.Close()
		return
	}
	s.conns[socket] = struct{}{}
	s.serving.Go(func() { s.serve(socket) })
}

func (s *transServer) serve(socket net.Conn) {
	defer s.end(socket)
	defer s.recoverPanic(socket)
	impatient := time.AfterFunc(s.HandshakeTimeout, func() { _ = socket.Close() })
	defer impatient.Stop()
	conn, err := s.encrypt(socket)
	if err != nil {
		s.Logger.Debug("a TLS handshake failed", "peer", socket.RemoteAddr().String(), "error", err)
		return
	}
	defer conn.Close() // unlike its socket it says goodbye
	ctx := context.Background()
	if s.Serving != nil {
		var over func()
		ctx, over = s.Serving(ctx, conn)
		defer over()
	}
	if s.Prepare != nil {
		conn = s.Prepare(conn)
	}
	ctx, err = s.handler.OnActive(ctx, conn)
	impatient.Stop()
	if err != nil {
		s.Logger.Debug("a connection did not begin with HTTP/2", "peer", conn.RemoteAddr().String(), "error", err)
		return
	}
	s.serveActive(ctx, conn)
}

// serveActive serves a connection that the handler has taken.
func (s *transServer) serveActive(ctx context.Context, conn net.Conn) {
	defer s.handler.OnInactive(ctx, conn)
	if s.Begin != nil {
		if err := s.Begin(ctx); err != nil {
			s.Logger.Error("a connection cannot be served", "peer", conn.RemoteAddr().String(), "error", err)
			return
		}
	}
	if s.isClosed() {
		s.serving.Go(s.sendGoAway) // Shutdown's came before this connection was known
	}
	if err := s.handler.OnRead(ctx, conn); err != nil { // returns when the connection is over
		s.Logger.Debug("a connection broke off", "peer", conn.RemoteAddr().String(), "error", err)
	}
}

func (s *transServer) end(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// recoverPanic ends the connection whose goroutine panicked, and nothing else.
func (s *transServer) recoverPanic(conn net.Conn) {
	if p := recover(); p != nil {
		s.Logger.Error("a connection panicked", "peer", conn.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

func (s *transServer) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Shutdown stops accepting, has the clients told to go (GOAWAY), and returns
// when all connections have ended, which they are made to after the server's
// exit wait time.
func (s *transServer) Shutdown() error {
	s.mu.Lock()
	s.closed = true
	if s.ln != nil {
		_ = s.ln.Close()
	}
	s.mu.Unlock()

	// The handler's part waits for writers, and those for clients.
	defer time.AfterFunc(s.exitWait, s.closeAll).Stop()
	s.sendGoAway()
	s.serving.Wait()
	return nil
}

// sendGoAway has the handler tell the clients that it has not told yet, and
// returns when their calls have ended, or exitWait is over.
func (s *transServer) sendGoAway() {
	ctx, cancel := context.WithTimeout(context.Background(), s.exitWait)
	defer cancel()
	if h, ok := s.handler.(remote.GracefulShutdown); ok {
		_ = h.GracefulShutdown(ctx) // it returns none
	}
}

func (s *transServer) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// ConnCount implements remote.TransServer.
func (s *transServer) ConnCount() utils.AtomicInt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return utils.AtomicInt(len(s.conns))
}
