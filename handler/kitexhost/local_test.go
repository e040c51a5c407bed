package kitexhost_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // as the suite asks for
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/kitexhost"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

const safety = 60 * time.Second

// engine are the options of a Kitex server that serves with the engine. Methods
// it has no service for are answered with UNIMPLEMENTED.
func engine() []server.Option {
	return []server.Option{
		server.WithTransServerFactory(&kitexhost.TransServer{HandshakeTimeout: safety, Logger: slog.New(slog.DiscardHandler)}),
		server.WithTransHandlerFactory(&kitexhost.Factory{Config: h2.Config{
			StreamWindow: 256 << 10, ConnWindow: 1 << 20, MaxHeaderList: 1 << 20, MaxStreams: 1000,
			HandshakeTimeout: safety, Keepalive: safety,
			Begin: func(s *h2.Stream, _ []hpack.HeaderField, _ bool) {
				_ = s.WriteHeaders([]hpack.HeaderField{
					{Name: ":status", Value: "200"},
					{Name: "content-type", Value: "application/grpc"},
					{Name: "grpc-status", Value: "12"},
					{Name: "grpc-message", Value: "not here"},
				}, true)
				s.Stop()
			},
		}}),
	}
}

// Services that are registered with a Kitex server behave as they do on Kitex's
// own transport: the suite that shows it for a proxy shows it for the server.
func TestLocalServices(t *testing.T) {
	handlertest.QuietKitex()
	handlertest.SuiteKitex(t, handlertest.Direct, handlertest.Options{KitexServer: engine})
}

// who is an echo service of which one method is asked for.
type who struct{ echo.Echo }

func (*who) Unary(_ context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	return &echo.EchoReply{Message: req.Message}, nil
}

// serve runs a Kitex server with the engine on lis until the test ends.
func serve(t *testing.T, lis net.Listener) {
	exit := make(chan error)
	svr := echosvc.NewServer(&who{}, append(engine(), server.WithListener(lis),
		server.WithExitWaitTime(safety), server.WithExitSignal(func() <-chan error { return exit }))...)
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }() // ends with the test
	t.Cleanup(func() {
		close(exit)
		require.NoError(t, <-ran)
	})
}

// Without a Begin the server's own handler of unknown services gets them.
func TestUnknownServiceHandlerGetsKitexStreams(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	methods := make(chan string, 1)
	exit := make(chan error)
	svr := echosvc.NewServer(&who{},
		server.WithTransServerFactory(&kitexhost.TransServer{HandshakeTimeout: safety, Logger: slog.New(slog.DiscardHandler)}),
		server.WithTransHandlerFactory(&kitexhost.Factory{Config: h2.Config{
			StreamWindow: 64 << 10, ConnWindow: 1 << 20, MaxHeaderList: 1 << 20, MaxStreams: 10,
		}}),
		server.WithGRPCUnknownServiceHandler(func(_ context.Context, method string, _ streaming.Stream) error {
			methods <- method
			return nil
		}),
		server.WithListener(lis), server.WithExitWaitTime(safety),
		server.WithExitSignal(func() <-chan error { return exit }))
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }() // ends with the test
	t.Cleanup(func() {
		close(exit)
		require.NoError(t, <-ran)
	})
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), safety)
	defer cancel()
	call, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/other.Service/Method")
	require.NoError(t, err)
	require.NoError(t, call.CloseSend())
	require.ErrorIs(t, call.RecvMsg(&emptypb.Empty{}), io.EOF, "it has ended the call with OK")
	require.Equal(t, "Method", <-methods)
}

func callLocal(t *testing.T, target string, creds credentials.TransportCredentials) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), safety)
	defer cancel()
	var from peer.Peer
	var trailer metadata.MD
	err = conn.Invoke(ctx, "/echo.Echo/Unary", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Peer(&from))
	require.NoError(t, err)
	err = conn.Invoke(ctx, "/other.Service/Method", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&trailer))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.Equal(t, "not here", status.Convert(err).Message())
}

func TestOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	lis, err := net.Listen("unix", path)
	require.NoError(t, err)
	serve(t, lis)
	callLocal(t, "unix://"+path, insecure.NewCredentials())
}

func TestOverTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	serve(t, lis)
	callLocal(t, lis.Addr().String(), credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"}))
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
