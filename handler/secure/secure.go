package secure

import (
	"crypto/tls"
	"log/slog"

	"github.com/kitexproxy/kitexproxy/conf"
)

// http2Protocol is the name of HTTP/2 over TLS in ALPN (RFC 9113 section 3.2).
const http2Protocol = "h2"

// Server returns the TLS configuration of a listener. An error names the file and
// what is wrong with it. log is told, later, of files that have changed and of
// certificates out of date. The result may be used concurrently.
//
// A client that does not offer "h2" by ALPN may be let through by the handshake, as
// is usual in Go: whoever serves the connection looks at its NegotiatedProtocol.
func Server(cfg *conf.ListenerTLS, log *slog.Logger) (*tls.Config, error) {
	files := []string{cfg.ClientCA}
	for _, c := range cfg.Certificates {
		files = append(files, c.Cert, c.Key)
	}
	r, err := newReloader(files, log, func() (*tls.Config, error) { return server(cfg, log) })
	if err != nil {
		return nil, err
	}
	first := r.current().Clone()
	first.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.current(), nil }
	return first, nil
}

// server reads the files of a listener.
func server(cfg *conf.ListenerTLS, log *slog.Logger) (*tls.Config, error) {
	c := &tls.Config{MinVersion: minVersion(cfg.MinVersion), NextProtos: []string{http2Protocol}}
	for _, pair := range cfg.Certificates {
		// Package tls chooses by name, and takes the first where none fits.
		cert, err := loadPair(pair.Cert, pair.Key, log)
		if err != nil {
			return nil, err
		}
		c.Certificates = append(c.Certificates, cert)
	}
	if cfg.ClientCA == "" {
		return c, nil
	}
	var err error
	if c.ClientCAs, err = loadPool(cfg.ClientCA); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if cfg.ClientCertificate == conf.ClientCertificateOptional {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	// A ticket would outlive the authority that the client was verified by.
	c.SessionTicketsDisabled = true
	return c, nil
}

// Client returns the TLS configuration of connections to backends; see Server for
// errors and log. The result may be used concurrently.
//
// By itself it verifies backends by the CA file as it is now. Whoever dials anew
// asks its GetConfigForClient, with nil, for what is in force then, and sets
// ServerName to the host of the address if it is empty; upstream.DialNet does.
func Client(cfg *conf.ClusterTLS, log *slog.Logger) (*tls.Config, error) {
	files := []string{cfg.CA, cfg.Cert, cfg.Key}
	r, err := newReloader(files, log, func() (*tls.Config, error) { return client(cfg, log) })
	if err != nil {
		return nil, err
	}
	first := r.current().Clone()
	first.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.current(), nil }
	return first, nil
}

// client reads the files of a cluster.
func client(cfg *conf.ClusterTLS, log *slog.Logger) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: minVersion(cfg.MinVersion), NextProtos: []string{http2Protocol}, ServerName: cfg.ServerName,
	}
	var err error
	if cfg.CA != "" {
		if c.RootCAs, err = loadPool(cfg.CA); err != nil {
			return nil, err
		}
	}
	if cfg.Cert != "" {
		cert, err := loadPair(cfg.Cert, cfg.Key, log)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// minVersion turns what the configuration says, which is valid, into package tls's.
func minVersion(version string) uint16 {
	if version == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}
