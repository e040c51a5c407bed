package inproc

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
)

// WithPeer returns a context for calls on behalf of a client at addr, which are
// told from the others by it. state is that of the client's connection, nil for
// one without TLS; it must not change any more.
func WithPeer(ctx context.Context, addr net.Addr, state *tls.ConnectionState) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{addr: addr, tls: state})
}

type peerKey struct{}

// peer is who a call is made for.
type peer struct {
	addr net.Addr
	tls  *tls.ConnectionState
}

func peerOf(ctx context.Context) *peer {
	if p, _ := ctx.Value(peerKey{}).(*peer); p != nil && p.addr != nil {
		return p
	}
	return &nobody
}

// WithClient returns a context for calls that say what their client has said to us: the
// :authority that it asked for, and its user-agent. Either is the Conn's own, or that of
// the call's options, if it is "" or cannot cross the wire.
func WithClient(ctx context.Context, authority, userAgent string) context.Context {
	if !isAuthority(authority) {
		authority = ""
	}
	userAgent, _ = toWire(userAgentKey, userAgent)
	return context.WithValue(ctx, clientKey{}, client{authority, userAgent})
}

type clientKey struct{}

// client is what the client of a call has said.
type client struct{ authority, userAgent string }

func clientOf(ctx context.Context) client {
	c, _ := ctx.Value(clientKey{}).(client)
	return c
}

// isAuthority reports whether s may be an :authority: no blanks, and nothing that would
// be a piece of a URL behind it.
func isAuthority(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("/?#@\\", c) })
}

// nobody is who calls are made for that the process makes for itself.
var nobody = peer{addr: address{}}

// address is that of the process.
type address struct{}

func (address) Network() string { return "inproc" }
func (address) String() string  { return "inproc" }
