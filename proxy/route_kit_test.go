package proxy_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// The route tests put a whole proxy between ends of grpc-go, and give its route what
// routes can have: retries, copies, limits on time, changes of metadata.

// onTransports runs a test on each transport.
func onTransports(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range []string{conf.TransportNative, conf.TransportKitex} {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

// startRoute runs a proxy whose calls go to some backends, by a route that adapt has
// the last word on.
func startRoute(t *testing.T, transport string, adapt func(*conf.Config), backends ...*routeBackend) *faultProxy {
	t.Helper()
	var addresses []string
	for _, b := range backends {
		addresses = append(addresses, b.addr)
	}
	cfg := faultConfig(addresses...)
	cfg.Transport = transport
	if adapt != nil {
		adapt(cfg)
	}
	return startFaultProxy(t, cfg)
}

// retrying gives the route a retry policy for UNAVAILABLE without pauses, and what
// adapt makes of it.
func retrying(adapt func(*conf.Retry)) func(*conf.Config) {
	return func(cfg *conf.Config) {
		cfg.Default.Retry = &conf.Retry{
			Codes: []conf.Code{"UNAVAILABLE"}, Attempts: 3, Buffer: 64 << 10, BudgetPercent: 100,
		}
		if adapt != nil {
			adapt(cfg.Default.Retry)
		}
	}
}

// routeBackend is a grpc-go server that answers each call as its test wants.
type routeBackend struct {
	addr   string
	server *grpc.Server

	mu   sync.Mutex
	seen []metadata.MD // of the calls, in order
}

// answer is told how many calls have come before.
type answer func(before int, ss grpc.ServerStream) error

func startRouteBackend(t *testing.T, respond answer) *routeBackend {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &routeBackend{addr: lis.Addr().String()}
	b.server = grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return respond(b.note(ss), ss) }))
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(lis) }() // ends with Stop
	t.Cleanup(func() { b.server.Stop(); <-served })
	return b
}

func (b *routeBackend) note(ss grpc.ServerStream) (before int) {
	md, _ := metadata.FromIncomingContext(ss.Context())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, md)
	return len(b.seen) - 1
}

func (b *routeBackend) calls() int { return len(b.all()) }

// all returns the metadata of the calls that have come.
func (b *routeBackend) all() []metadata.MD {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]metadata.MD(nil), b.seen...)
}

// await waits until n calls have come.
func (b *routeBackend) await(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return b.calls() >= n }, faultSafety, time.Millisecond, "%d calls", n)
}

// echoes sends each message back.
func echoes(_ int, ss grpc.ServerStream) error {
	for {
		var m []byte
		if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(&m); err != nil {
			return err
		}
	}
}

// failsFirst answers the first n calls with UNAVAILABLE, and echoes the others.
func failsFirst(n int) answer {
	return func(before int, ss grpc.ServerStream) error {
		if before < n {
			return errBusy
		}
		return echoes(before, ss)
	}
}

var errBusy = status.Error(codes.Unavailable, "busy")

// never answers.
func never(_ int, ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

// bidi is the description of a call of which the client decides each step.
var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// stream begins a call.
func (f *faultProxy) stream() grpc.ClientStream {
	f.t.Helper()
	s, err := f.client.NewStream(f.safe(), bidi, faultMethod)
	require.NoError(f.t, err)
	return s
}

func sendOn(t *testing.T, s grpc.ClientStream, messages ...string) {
	t.Helper()
	for _, m := range messages {
		b := []byte(m)
		require.NoError(t, s.SendMsg(&b))
	}
}

// receiveAll returns the messages of a response, and its end.
func receiveAll(s grpc.ClientStream) ([]string, error) {
	var all []string
	for {
		var m []byte
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all = append(all, string(m))
	}
}

// startSwallowing is an address that takes connections and says nothing on them.
func startSwallowing(t *testing.T) *rawh2.TCPServer {
	t.Helper()
	s, err := rawh2.ListenTCP("", func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}
