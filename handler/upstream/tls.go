package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// http2Protocol is the name of HTTP/2 over TLS in ALPN (RFC 9113 section 3.2).
const http2Protocol = "h2"

// handshake begins TLS on a connection, which it closes when that fails. ctx bounds
// it.
func handshake(ctx context.Context, nc net.Conn, to Peer) (net.Conn, error) {
	conn, err := beginTLS(ctx, nc, to)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return &tlsConn{Conn: conn}, nil
}

// tlsConn is a TLS connection that remembers what reading it has ended with.
//
// With TLS 1.3 a client learns what is wrong with its certificate once the
// handshake is over for it (RFC 8446 section 4.4.2.4). A transport that has begun
// to write by then often ends for that reason, and not for the alert.
type tlsConn struct {
	*tls.Conn
	ended atomic.Pointer[error]
}

// Read implements net.Conn.
func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended.Store(&err)
	}
	return n, err
}

func beginTLS(ctx context.Context, nc net.Conn, to Peer) (*tls.Conn, error) {
	cfg, err := to.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	conn := tls.Client(nc, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, handshakeError(err)
	}
	if conn.ConnectionState().NegotiatedProtocol != http2Protocol {
		return nil, errNoALPN
	}
	return conn, nil
}

// tlsConfig returns what holds for the connection at present.
func (p *Peer) tlsConfig() (*tls.Config, error) {
	cfg := p.TLS
	if cfg.GetConfigForClient != nil {
		var err error
		if cfg, err = cfg.GetConfigForClient(nil); err != nil {
			return nil, err
		}
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{http2Protocol}
	if network, address := networkOf(p.Address); cfg.ServerName == "" && network == "tcp" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		cfg.ServerName = host
	}
	return cfg, nil
}

var errNoALPN = errors.New("the backend does not speak h2 over TLS: it chose no protocol by ALPN")

// handshakeError says what was wrong with a handshake in words that help whoever
// wrote the configuration.
func handshakeError(err error) error {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("TLS: the backend's certificate is not valid for name %s: %w", name.Host, name)
	case errors.As(err, &unknown):
		return fmt.Errorf("TLS: the backend's certificate is of an unknown authority: %w", unknown)
	case errors.As(err, &invalid):
		return fmt.Errorf("TLS: the backend's certificate is not valid: %w", invalid)
	case errors.As(err, &record):
		return fmt.Errorf("TLS: the backend does not speak TLS: %w", err)
	case errors.Is(err, io.EOF):
		return errors.New("TLS: the backend closed the connection during the handshake, or does not speak TLS")
	case isAlert(err):
		return refused(err)
	default:
		return fmt.Errorf("TLS: %w", err)
	}
}

// refused is the error for a backend that ended the connection with an alert, one
// without "h2" among its protocols included.
func refused(alert error) error {
	return fmt.Errorf("TLS: the backend refused the connection: %w", alert)
}

// isAlert reports whether err is an alert of the other end.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// NoHTTP2 is what a Dial returns for a backend that ended a new connection of
// DialNet's, or that began it with what is not HTTP/2. The transport does not read
// the connection any more.
func NoHTTP2(nc net.Conn) error {
	conn, ok := nc.(*tlsConn)
	if !ok {
		return errNoHTTP2
	}
	if ended := conn.ended.Load(); ended != nil && isAlert(*ended) {
		return refused(*ended)
	}
	return errNoHTTP2InTLS
}

var (
	errNoHTTP2 = errors.New("the backend closed the connection, or does not speak HTTP/2 without TLS")
	// A backend's alert about a certificate that it does not want can get lost: a
	// socket that is closed while something comes in takes back what it has sent.
	errNoHTTP2InTLS = errors.New("the backend refused the connection: it wants another certificate, or does not speak HTTP/2")
)
