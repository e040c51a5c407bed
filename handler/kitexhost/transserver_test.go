package kitexhost

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudwego/kitex/pkg/remote"
)

// connHandler stands for Kitex's gRPC handler: it reads one byte for a
// handshake, and then until the connection ends.
type connHandler struct {
	remote.ServerTransHandler
	active   chan struct{}
	inactive chan struct{}
	panics   bool
	goAway   func() // what a graceful shutdown does
}

func newConnHandler() *connHandler {
	return &connHandler{active: make(chan struct{}, 10), inactive: make(chan struct{}, 10), goAway: func() {}}
}

func (h *connHandler) OnActive(ctx context.Context, conn net.Conn) (context.Context, error) {
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return nil, errors.New("no preface")
	}
	h.active <- struct{}{}
	return ctx, nil
}

func (h *connHandler) OnRead(_ context.Context, conn net.Conn) error {
	if h.panics {
		panic("in a handler")
	}
	_, err := io.Copy(io.Discard, conn)
	return err
}

func (h *connHandler) OnInactive(context.Context, net.Conn) { h.inactive <- struct{}{} }

func (h *connHandler) GracefulShutdown(context.Context) error {
	h.goAway()
	return nil
}

// serveConns runs a TransServer until the test ends.
func serveConns(t *testing.T, f *TransServer, h *connHandler, exitWait time.Duration) (remote.TransServer, string) {
	f.Logger = slog.New(slog.DiscardHandler)
	if f.HandshakeTimeout == 0 {
		f.HandshakeTimeout = safety
	}
	s := f.NewTransServer(&remote.ServerOption{ExitWaitTime: exitWait}, h)
	ln, err := s.CreateListener(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.BootstrapServer(ln) }() // ends with Shutdown
	t.Cleanup(func() {
		require.NoError(t, s.Shutdown())
		require.NoError(t, <-ended)
		require.Zero(t, connCount(s))
	})
	return s, ln.Addr().String()
}

func dialTo(t *testing.T, address, greeting string) net.Conn {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(safety)))
	_, err = io.WriteString(c, greeting)
	require.NoError(t, err)
	return c
}

func connCount(s remote.TransServer) int {
	count := s.ConnCount()
	return count.Value()
}

func requireClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	require.Error(t, err)
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
}

func TestHandlerHearsOfEachConnectionsEnd(t *testing.T) {
	h := newConnHandler()
	_, address := serveConns(t, &TransServer{}, h, safety)
	for range 3 {
		c := dialTo(t, address, "x")
		<-h.active
		require.NoError(t, c.Close())
		<-h.inactive
	}
}

func TestConnectionLimitIsHeldAndGivenBack(t *testing.T) {
	h := newConnHandler()
	s, address := serveConns(t, &TransServer{MaxConnections: 1}, h, safety)
	first := dialTo(t, address, "x")
	<-h.active
	requireClosed(t, dialTo(t, address, ""))
	require.NoError(t, first.Close())
	<-h.inactive
	require.Eventually(t, func() bool { return connCount(s) == 0 }, safety, tick)
	dialTo(t, address, "x")
	<-h.active
}

func TestHandshakeThatNeverFinishesIsCutOff(t *testing.T) {
	_, address := serveConns(t, &TransServer{HandshakeTimeout: 10 * time.Millisecond}, newConnHandler(), safety)
	requireClosed(t, dialTo(t, address, ""))
}

func TestPanicEndsItsConnectionOnly(t *testing.T) {
	h := newConnHandler()
	h.panics = true
	_, address := serveConns(t, &TransServer{}, h, safety)
	for range 2 {
		requireClosed(t, dialTo(t, address, "x"))
		<-h.inactive
	}
}

func TestShutdownEndsConnectionsThatStay(t *testing.T) {
	h := newConnHandler()
	s, address := serveConns(t, &TransServer{}, h, 10*time.Millisecond)
	c := dialTo(t, address, "x")
	<-h.active
	require.NoError(t, s.Shutdown())
	requireClosed(t, c)
	_, err := net.Dial("tcp", address)
	require.Error(t, err)
}

// TestConnectionThatBeginsDuringShutdownIsToldToo: its handshake was under way
// when the others were told.
func TestConnectionThatBeginsDuringShutdownIsToldToo(t *testing.T) {
	h := newConnHandler()
	told := make(chan struct{}, 2)
	h.goAway = func() { told <- struct{}{} }
	s, address := serveConns(t, &TransServer{}, h, safety)
	c := dialTo(t, address, "")
	require.Eventually(t, func() bool { return connCount(s) == 1 }, safety, tick)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown() }() // ends with c
	<-told
	_, err := io.WriteString(c, "x")
	require.NoError(t, err)
	<-h.active
	<-told
	require.NoError(t, c.Close())
	require.NoError(t, <-stopped)
}

func TestShutdownBeforeStart(t *testing.T) {
	s := (&TransServer{Logger: slog.New(slog.DiscardHandler)}).NewTransServer(&remote.ServerOption{ExitWaitTime: safety}, newConnHandler())
	require.NoError(t, s.Shutdown())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, s.BootstrapServer(ln))
	_, err = net.Dial("tcp", ln.Addr().String())
	require.Error(t, err, "the listener was taken over, and closed")
}
