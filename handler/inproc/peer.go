package inproc

import (
	"context"
	"crypto/tls"
	"net"
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

// nobody is who calls are made for that the process makes for itself.
var nobody = peer{addr: address{}}

// address is that of the process.
type address struct{}

func (address) Network() string { return "inproc" }
func (address) String() string  { return "inproc" }
