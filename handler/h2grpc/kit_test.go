package h2grpc

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// safety ends what would otherwise hang; no test passes by waiting for it.
	safety = 60 * time.Second
	method = "/test.Service/Method"
	window = 64 << 10
)

func safe(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	t.Cleanup(cancel)
	return ctx
}

// serve has s take calls, for carry, until the test ends, and returns a client.
func serve(t testing.TB, s *Server, o rawh2.Options, carry func(in stream.Inbound)) *rawh2.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := &h2.Config{
		StreamWindow: window, ConnWindow: 4 * window, MaxHeaderList: 64 << 10, MaxStreams: 100, MaxQueued: 8 << 20,
		HandshakeTimeout: safety, Keepalive: safety,
		Begin: func(st *h2.Stream, fields []hpack.HeaderField, last bool) { s.Begin(st, fields, last, carry) },
	}
	var conn sync.WaitGroup
	conn.Go(func() { // ends with the client
		nc, err := ln.Accept()
		if err == nil {
			_ = h2.NewServer(nc, cfg).Serve()
		}
	})
	client, err := rawh2.Dial(safe(t), ln.Addr().String(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		conn.Wait()
		s.Wait()
		_ = ln.Close()
	})
	return client
}

func open(t testing.TB, c *rawh2.Conn, last bool, extra ...rawh2.Field) *rawh2.Stream {
	t.Helper()
	s, err := c.NewStream(rawh2.RequestFields(method, "test", extra...), last)
	require.NoError(t, err)
	return s
}

func reply(t testing.TB, s *rawh2.Stream) rawh2.Reply {
	t.Helper()
	r, err := s.AwaitReply(safe(t))
	require.NoError(t, err)
	return r
}

// call opens a call to a backend that does what script says.
func call(t testing.TB, ctx context.Context, o rawh2.Options, script func(*rawh2.Stream)) (stream.Outbound, *Backends, *rawh2.Server) {
	t.Helper()
	backend, err := rawh2.Listen("", o, script)
	require.NoError(t, err)
	t.Cleanup(backend.Close)
	b := NewBackends(Options{
		Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
		StreamWindow: window, ConnectionWindow: 4 * window, MaxHeaderList: 64 << 10,
	})
	t.Cleanup(b.Close)
	out, err := b.Open(ctx, "c", backend.Addr(), &stream.Request{Method: method, Authority: "test", ContentType: grpcContentType})
	require.NoError(t, err)
	return out, b, backend
}
