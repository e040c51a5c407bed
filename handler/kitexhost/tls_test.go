package kitexhost_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kitexproxy/kitexproxy/handler/kitexhost"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// transports are the servers that connections with TLS end at.
var transports = map[string]func() []server.Option{"native": engine, "kitex": kitexOwn}

// kitexOwn are the options of a Kitex server that serves with Kitex's transport.
func kitexOwn() []server.Option {
	return []server.Option{server.WithTransHandlerFactory(nphttp2.NewSvrTransHandlerFactory())}
}

// serveTLS runs a Kitex server with TLS until the test ends, and returns its address.
func serveTLS(t *testing.T, transport []server.Option, cfg *tls.Config, patience time.Duration) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit := make(chan error)
	svr := echosvc.NewServer(&who{}, append(transport,
		server.WithTransServerFactory(&kitexhost.TransServer{TLS: cfg, HandshakeTimeout: patience, Logger: slog.New(slog.DiscardHandler)}),
		server.WithListener(lis), server.WithExitWaitTime(safety), server.WithExitSignal(func() <-chan error { return exit }))...)
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }() // ends with the test
	t.Cleanup(func() {
		close(exit)
		require.NoError(t, <-ran)
	})
	return lis.Addr().String()
}

func invoke(t *testing.T, address string, creds credentials.TransportCredentials) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), safety)
	defer cancel()
	return conn.Invoke(ctx, "/echo.Echo/Unary", &emptypb.Empty{}, &emptypb.Empty{})
}

func TestTLS(t *testing.T) {
	ca, stranger := securetest.NewAuthority(t), securetest.NewAuthority(t)
	cert := ca.Issue(t, "localhost").TLS(t)
	expired := ca.IssueUntil(t, time.Now().Add(-time.Minute), "localhost").TLS(t)
	own, foreign := ca.Issue(t, "client").TLS(t), stranger.Issue(t, "client").TLS(t)
	trust := func(pool *x509.CertPool, certs ...tls.Certificate) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs})
	}
	for name, test := range map[string]struct {
		cert  tls.Certificate
		auth  tls.ClientAuthType
		creds credentials.TransportCredentials
		want  string // in the error; "" for none
	}{
		"good":                        {cert, tls.NoClientCert, trust(ca.Pool()), ""},
		"client certificate":          {cert, tls.RequireAndVerifyClientCert, trust(ca.Pool(), own), ""},
		"no client certificate":       {cert, tls.RequireAndVerifyClientCert, trust(ca.Pool()), "rpc error"}, // which one is up to how fast it writes,
		"another's client":            {cert, tls.RequireAnyClientCert, trust(ca.Pool(), foreign), ""},
		"unknown authority":           {cert, tls.NoClientCert, trust(stranger.Pool()), "unknown authority"},
		"expired":                     {expired, tls.NoClientCert, trust(ca.Pool()), "expired"},
		"a client without encryption": {cert, tls.NoClientCert, insecure.NewCredentials(), "rpc error"},
	} {
		for transport, options := range transports {
			t.Run(name+"/"+transport, func(t *testing.T) {
				address := serveTLS(t, options(), &tls.Config{
					Certificates: []tls.Certificate{test.cert}, NextProtos: []string{"h2"}, ClientAuth: test.auth, ClientCAs: ca.Pool(),
				}, safety)
				err := invoke(t, address, test.creds)
				if test.want == "" {
					require.NoError(t, err)
					return
				}
				require.Equal(t, codes.Unavailable, status.Code(err))
				require.ErrorContains(t, err, test.want)
			})
		}
	}
}

func TestTLSClientOnAPlaintextPort(t *testing.T) {
	address := serveTLS(t, engine(), nil, safety)
	err := invoke(t, address, credentials.NewTLS(&tls.Config{ServerName: "localhost"}))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NoError(t, invoke(t, address, insecure.NewCredentials()))
}

func TestClientThatDoesNotChooseH2IsToldSo(t *testing.T) {
	ca := securetest.NewAuthority(t)
	address := serveTLS(t, engine(), &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "localhost").TLS(t)}, NextProtos: []string{"h2"}}, safety)
	for name, protocols := range map[string][]string{"no ALPN": nil, "HTTP/1": {"http/1.1"}} {
		t.Run(name, func(t *testing.T) {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
				RootCAs: ca.Pool(), ServerName: "localhost", NextProtos: protocols,
			}}}
			defer client.CloseIdleConnections()
			res, err := client.Get("https://" + address)
			require.NoError(t, err)
			defer res.Body.Close()
			require.Equal(t, http.StatusUpgradeRequired, res.StatusCode)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Contains(t, string(body), "ALPN")
		})
	}
}

// A client that says nothing keeps nobody else from being served, and not for long.
func TestSlowHandshake(t *testing.T) {
	ca := securetest.NewAuthority(t)
	address := serveTLS(t, engine(), &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "localhost").TLS(t)}, NextProtos: []string{"h2"}}, time.Second)
	silent, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer silent.Close()
	require.NoError(t, invoke(t, address, credentials.NewTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})))
	require.NoError(t, silent.SetReadDeadline(time.Now().Add(safety)))
	_, err = silent.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}
