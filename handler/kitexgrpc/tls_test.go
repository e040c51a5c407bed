package kitexgrpc

import (
	"crypto/tls"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// Backends of grpc-go, which knows no method, answer over TLS what they are sent.
// That one refuses the proxy's own certificate is not always said: Kitex's writer
// may find the connection closed before its reader gets to the alert.
func TestBackendsOverTLS(t *testing.T) {
	ca := securetest.NewAuthority(t)
	own := ca.Issue(t, "proxy").TLS(t)
	for name, test := range map[string]struct {
		auth   tls.ClientAuthType
		client *tls.Config
		want   string // in the failure; "" for none
	}{
		"good":                  {tls.NoClientCert, &tls.Config{RootCAs: ca.Pool()}, ""},
		"client certificate":    {tls.RequireAndVerifyClientCert, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{own}}, ""},
		"no client certificate": {tls.RequireAndVerifyClientCert, &tls.Config{RootCAs: ca.Pool()}, "the backend "},
		"another name":          {tls.NoClientCert, &tls.Config{RootCAs: ca.Pool(), ServerName: "other.test"}, "not valid for name other.test"},
		"plaintext to TLS":      {tls.NoClientCert, nil, "does not speak HTTP/2 without TLS"},
		"unknown authority":     {tls.NoClientCert, &tls.Config{RootCAs: securetest.NewAuthority(t).Pool()}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			address := loopback.Serve(t, func(*grpc.Server) {}, grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS(t)}, ClientAuth: test.auth, ClientCAs: ca.Pool(),
			})))
			b := NewBackends(Options{
				Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
				StreamWindow: 1 << 20, ConnectionWindow: 4 << 20, MaxHeaderList: 64 << 10,
			})
			t.Cleanup(b.Close)
			b.Configure("c", upstream.ClusterOptions{Connections: 1, Idle: -1, TLS: test.client})
			out, err := b.Open(t.Context(), "c", address, &stream.Request{Method: "/test.Service/Method", Authority: "test", ContentType: "application/grpc"})
			if test.want != "" {
				failure := stream.AsFailure(err)
				require.Equal(t, stream.BackendUnreachable, failure.Reason)
				require.Contains(t, failure.Message, test.want)
				return
			}
			require.NoError(t, err)
			defer out.Abort()
			_ = out.Write(nil, true) // the backend may have answered already
			out.Flush()
			_, err = out.Header()
			require.NoError(t, err)
			require.Error(t, out.Read(make([]byte, 1)))
			require.Equal(t, stream.Unimplemented, out.Trailer().Status.Code)
		})
	}
}
