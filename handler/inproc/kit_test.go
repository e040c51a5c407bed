package inproc_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/inproc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

const method = "/test.Service/Method"

var (
	quiet        = slog.New(slog.DiscardHandler)
	clientStream = &grpc.StreamDesc{ClientStreams: true}
	serverStream = &grpc.StreamDesc{ServerStreams: true}
	bidi         = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
)

func safe(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	t.Cleanup(cancel)
	return ctx
}

// relay returns a Conn whose calls a Handler of this process carries to an official
// interop server over a socket, and the server's address.
func relay(t testing.TB) (*inproc.Conn, string) {
	address := loopback.Serve(t, func(s *grpc.Server) { testgrpc.RegisterTestServiceServer(s, interop.NewTestServer()) })
	backends := h2grpc.NewBackends(h2grpc.Options{
		Options:      upstream.Options{ConnectTimeout: safety, Logger: quiet},
		StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, MaxHeaderList: 64 << 10,
	})
	cfg := &conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: []string{address}}},
		Default:  &conf.Action{Cluster: "c"},
	}
	clusters := map[string]*cluster.Cluster{"c": cluster.New("c", cfg.Clusters["c"], cluster.Options{})}
	h := handler.New(handler.Options{Resolver: resolver.New(cfg, clusters, nil), Backends: backends, Logger: quiet})
	t.Cleanup(func() {
		h.Shutdown(safe(t))
		backends.Close()
	})
	return inproc.New(h.Serve, inproc.WithLogger(quiet)), address
}

// frame returns m in gRPC's wire form.
func frame(t testing.TB, m proto.Message) []byte {
	t.Helper()
	payload, err := proto.Marshal(m)
	require.NoError(t, err)
	return framed(0, payload)
}

func framed(flags byte, payload []byte) []byte {
	n := len(payload)
	return append([]byte{flags, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}

// finish ends a call with a code.
func finish(in stream.Inbound, code stream.Code) {
	in.Finish(&stream.Trailer{Status: stream.Status{Code: code}})
}

// answer returns what answers every call with the same response, and OK.
func answer(response ...[]byte) func(stream.Inbound) {
	return func(in stream.Inbound) {
		_ = readAll(in)
		_ = in.WriteHeader(&stream.Header{})
		for _, b := range response {
			_ = in.Write(b)
		}
		finish(in, stream.OK)
	}
}

// readAll reads a request to its end, for which it returns io.EOF.
func readAll(in stream.Inbound) error {
	for {
		if _, err := readFrame(in); err != nil {
			return err
		}
	}
}

func readFrame(in stream.Inbound) ([]byte, error) {
	prefix := make([]byte, stream.PrefixLen)
	if err := in.Read(prefix); err != nil {
		return nil, err
	}
	payload := make([]byte, int(prefix[1])<<24|int(prefix[2])<<16|int(prefix[3])<<8|int(prefix[4]))
	if err := in.Read(payload); err != nil {
		return nil, err
	}
	return append(prefix, payload...), nil
}

// echo sends every message back as it comes.
func echo(in stream.Inbound) {
	_ = in.WriteHeader(&stream.Header{Metadata: stream.Metadata{{Key: "echoed", Value: "yes"}}})
	for {
		b, err := readFrame(in)
		if err == io.EOF {
			finish(in, stream.OK)
			return
		}
		if err != nil {
			finish(in, stream.Canceled)
			return
		}
		if in.Write(b) != nil {
			return
		}
		in.Flush()
	}
}

func connTo(serve func(stream.Inbound), opts ...inproc.Option) *inproc.Conn {
	return inproc.New(serve, append([]inproc.Option{inproc.WithLogger(quiet)}, opts...)...)
}

// dial returns grpc-go's own client for a server.
func dial(t testing.TB, address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
