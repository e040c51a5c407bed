package auth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// connected is the server's side of a TLS connection of a client with certificates.
func connected(t testing.TB, ca *securetest.Authority, mode tls.ClientAuthType, certs ...tls.Certificate) *tls.ConnectionState {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS(t)}, ClientAuth: mode, ClientCAs: ca.Pool(),
	})
	require.NoError(t, err)
	defer ln.Close()
	ended := make(chan error, 1)
	go func() { // ends with the handshake
		client, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{
			RootCAs: ca.Pool(),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certs[0], nil
			},
		})
		if err == nil {
			_ = client.Close()
		}
		ended <- err
	}()
	accepted, err := ln.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	require.NoError(t, accepted.SetDeadline(time.Now().Add(safety)))
	server := accepted.(*tls.Conn)
	require.NoError(t, server.Handshake())
	require.NoError(t, <-ended)
	state := server.ConnectionState()
	return &state
}

func callBy(state *tls.ConnectionState) *intercept.Call {
	return intercept.Begin(nil, intercept.Info{
		Request: &stream.Request{Method: "/echo.Echo/Say"}, Peer: &net.TCPAddr{}, TLS: state, Logger: quiet,
	})
}

func mtls(t testing.TB, o MTLS) intercept.Guard {
	t.Helper()
	guard, err := NewMTLS(o)
	require.NoError(t, err)
	return guard
}

func TestVerifiedCertificates(t *testing.T) {
	ca := securetest.NewAuthority(t)
	pair := ca.Issue(t, "first.test", "second.test").TLS(t)
	state := connected(t, ca, tls.RequireAndVerifyClientCert, pair)

	c := callBy(state)
	require.NoError(t, mtls(t, MTLS{Identity: SANDNS})(c))
	require.Equal(t, intercept.Identity{Kind: KindMTLS, Name: "first.test"}, c.Identity())

	require.NoError(t, mtls(t, MTLS{Identity: Fingerprint})(c))
	sum := sha256.Sum256(pair.Certificate[0])
	require.Equal(t, hex.EncodeToString(sum[:]), c.Identity().Name)

	for _, optional := range []bool{false, true} {
		c = callBy(state)
		err := mtls(t, MTLS{Identity: SANURI, Optional: optional})(c)
		isUnauthenticated(t, err, "the client certificate has no usable san-uri")
		require.Zero(t, c.Identity())
	}
}

func TestNamesOfCertificates(t *testing.T) {
	spiffe, err := url.Parse("spiffe://prod/ns/a/sa/b")
	require.NoError(t, err)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "Alice"}, URIs: []*url.URL{spiffe, {Scheme: "x"}}}
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert, {}}}}
	for identity, want := range map[string]string{SANURI: "spiffe://prod/ns/a/sa/b", CommonName: "Alice"} {
		c := callBy(state)
		require.NoError(t, mtls(t, MTLS{Identity: identity})(c))
		require.Equal(t, want, c.Identity().Name)
	}
	for _, name := range []string{"", "a\nlevel=ERROR", "\xff"} {
		cert.Subject.CommonName = name
		isUnauthenticated(t, mtls(t, MTLS{Identity: CommonName})(callBy(state)), "no usable common-name")
	}
}

// TestUnverifiedCertificates: what a client shows is nothing until somebody vouches for
// it.
func TestUnverifiedCertificates(t *testing.T) {
	ca, stranger := securetest.NewAuthority(t), securetest.NewAuthority(t)
	forged := stranger.Issue(t, "admin.test").TLS(t)
	asked := connected(t, ca, tls.RequireAnyClientCert, forged)
	require.NotEmpty(t, asked.PeerCertificates, "it was shown")
	for name, state := range map[string]*tls.ConnectionState{
		"of a stranger":           asked,
		"of a stranger, wished":   connected(t, ca, tls.RequestClientCert, forged),
		"good, but nobody looked": connected(t, ca, tls.RequireAnyClientCert, ca.Issue(t, "a.test").TLS(t)),
		"none":                    connected(t, ca, tls.VerifyClientCertIfGiven),
		"plaintext":               nil,
		"an empty chain":          {VerifiedChains: [][]*x509.Certificate{{}}, PeerCertificates: asked.PeerCertificates},
	} {
		t.Run(name, func(t *testing.T) {
			c := callBy(state)
			isUnauthenticated(t, mtls(t, MTLS{Identity: SANDNS})(c), "no client certificate that was verified")
			require.NoError(t, mtls(t, MTLS{Identity: SANDNS, Optional: true})(c))
			require.Zero(t, c.Identity())
		})
	}
}

func TestMTLSThatCannotBe(t *testing.T) {
	_, err := NewMTLS(MTLS{Identity: "cn"})
	require.EqualError(t, err, `identity: "cn" names nothing of a certificate; write san-uri, san-dns, common-name or fingerprint`)
}

func BenchmarkMTLS(b *testing.B) {
	ca := securetest.NewAuthority(b)
	state := connected(b, ca, tls.RequireAndVerifyClientCert, ca.Issue(b, "a.test").TLS(b))
	for _, identity := range []string{SANDNS, Fingerprint} {
		b.Run(identity, func(b *testing.B) {
			benchmarkGuard(b, mtls(b, MTLS{Identity: identity}), func() *intercept.Call { return callBy(state) })
		})
	}
}
