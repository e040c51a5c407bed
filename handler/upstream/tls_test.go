package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
)

// acceptOne has the next connection served until the test ends, and returns where.
func acceptOne(t *testing.T, serve func(net.Conn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() { // ends with the listener, or its one connection
		defer close(ended)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		serve(nc)
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
	})
	return ln.Addr().String()
}

// speaking serves connections with TLS, until the client goes.
func speaking(cfg *tls.Config) func(net.Conn) {
	return func(nc net.Conn) { _, _ = io.Copy(io.Discard, tls.Server(nc, cfg)) }
}

func TestDialTLS(t *testing.T) {
	ca, stranger := securetest.NewAuthority(t), securetest.NewAuthority(t)
	cert := ca.Issue(t, "127.0.0.1", "name.test").TLS(t)
	h2 := []string{"h2"}
	good := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: h2}
	trusting := &tls.Config{RootCAs: ca.Pool()}
	named := &tls.Config{RootCAs: ca.Pool(), ServerName: "other.test"}
	fresh := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return trusting, nil }}
	expired := ca.IssueUntil(t, time.Now().Add(-time.Minute), "127.0.0.1").TLS(t)
	for name, test := range map[string]struct {
		serve  func(net.Conn)
		client *tls.Config
		want   string // in the error; "" for none
	}{
		"good":                {speaking(good), trusting, ""},
		"what holds now":      {speaking(good), fresh, ""},
		"another name":        {speaking(good), named, "certificate is not valid for name other.test"},
		"unknown authority":   {speaking(good), &tls.Config{RootCAs: stranger.Pool()}, "unknown authority"},
		"expired":             {speaking(&tls.Config{Certificates: []tls.Certificate{expired}, NextProtos: h2}), trusting, "expired"},
		"no ALPN":             {speaking(&tls.Config{Certificates: []tls.Certificate{cert}}), trusting, "does not speak h2 over TLS"},
		"another protocol":    {speaking(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"x"}}), trusting, "no application protocol"},
		"plaintext":           {func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n") }, trusting, "does not speak TLS"},
		"closes at once":      {func(nc net.Conn) { _, _ = nc.Read(make([]byte, 1000)) }, trusting, "TLS: "},
		"wants a certificate": {speaking(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: h2, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}), trusting, "the backend refused the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			nc, err := DialNet(ctx, Peer{Address: acceptOne(t, test.serve), TLS: test.client})
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, nc.Close())
		})
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	silent := acceptOne(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errConnectTimeout)
	defer cancel()
	_, err := DialNet(ctx, Peer{Address: silent, TLS: &tls.Config{}})
	require.ErrorIs(t, err, errConnectTimeout)
}
