// Package upstreamtest has what holds of connections to backends on each transport.
package upstreamtest

import (
	"context"
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// Backends opens calls on a transport.
type Backends interface {
	Configure(cluster string, o upstream.ClusterOptions)
	Open(ctx context.Context, cluster, address string, req *stream.Request) (stream.Outbound, error)
}

// TLS is what becomes of calls to servers of grpc-go, which know no method, over TLS:
// they are answered, or refused for a reason. refused is how the transport tells that a
// backend has refused the proxy's own certificate.
func TLS(t *testing.T, refused string, start func(t *testing.T) Backends) {
	ca := securetest.NewAuthority(t)
	own := ca.Issue(t, "proxy").TLS(t)
	for name, test := range map[string]struct {
		auth   tls.ClientAuthType
		client *tls.Config
		want   string // in the failure; "" for none
	}{
		"good":                  {tls.NoClientCert, &tls.Config{RootCAs: ca.Pool()}, ""},
		"client certificate":    {tls.RequireAndVerifyClientCert, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{own}}, ""},
		"no client certificate": {tls.RequireAndVerifyClientCert, &tls.Config{RootCAs: ca.Pool()}, refused},
		"another name":          {tls.NoClientCert, &tls.Config{RootCAs: ca.Pool(), ServerName: "other.test"}, "not valid for name other.test"},
		"plaintext to TLS":      {tls.NoClientCert, nil, "does not speak HTTP/2 without TLS"},
		"unknown authority":     {tls.NoClientCert, &tls.Config{RootCAs: securetest.NewAuthority(t).Pool()}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			address := loopback.Serve(t, func(*grpc.Server) {}, grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS(t)}, ClientAuth: test.auth, ClientCAs: ca.Pool(),
			})))
			b := start(t)
			b.Configure("c", upstream.ClusterOptions{Connections: 1, Idle: -1, TLS: test.client})
			err := unimplemented(t, b, address)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			failure := stream.AsFailure(err)
			require.Equal(t, stream.BackendUnreachable, failure.Reason)
			require.Contains(t, failure.Message, test.want)
		})
	}
}

// unimplemented makes a call that the backend has to answer. Its error is that of opening
// the call.
func unimplemented(t *testing.T, b Backends, address string) error {
	out, err := b.Open(t.Context(), "c", address, &stream.Request{
		Method: "/test.Service/Method", Authority: "test", ContentType: "application/grpc",
	})
	if err != nil {
		return err
	}
	defer out.Abort()
	_ = out.Write(nil, true) // the backend may have answered already
	out.Flush()
	_, err = out.Header()
	require.NoError(t, err)
	require.Error(t, out.Read(make([]byte, 1)))
	require.Equal(t, stream.Unimplemented, out.Trailer().Status.Code)
	return nil
}
