package kitexhost

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// http2Protocol is the name of HTTP/2 over TLS in ALPN (RFC 9113 section 3.2).
const http2Protocol = "h2"

// encrypt makes the TLS handshake on a socket, whose end is the caller's business,
// if connections are encrypted.
func (s *transServer) encrypt(socket net.Conn) (net.Conn, error) {
	if s.TLS == nil {
		return socket, nil
	}
	conn := tls.Server(socket, s.TLS)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol != http2Protocol {
		turnAway(conn)
		return nil, errNoALPN
	}
	return conn, nil
}

var errNoALPN = errors.New(`the client did not choose "h2" by ALPN`)

// noALPNAnswer is what a client gets that did not choose "h2": one of HTTP/1
// shows it, and one of gRPC that knows no ALPN says that it has got HTTP/1.
const noALPNAnswer = "HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Connection: Upgrade, close\r\nUpgrade: h2\r\nContent-Length: 63\r\n\r\n" +
	"This port speaks gRPC: HTTP/2 over TLS, chosen by ALPN (\"h2\").\n"

// maxUnread is how many bytes of a client that is turned away are read.
const maxUnread = 64 << 10

// turnAway answers a client once it has asked, for some take no answer before, and
// waits for it to have read that: a socket that is closed while something comes in
// takes back what it has sent.
func turnAway(conn *tls.Conn) {
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return
	}
	_, err := io.WriteString(conn, noALPNAnswer)
	if err == nil && conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxUnread)
	}
}
