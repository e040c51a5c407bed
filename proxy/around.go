package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// observers are who is told of a relay's calls.
type observers struct {
	usual, logging *intercept.Observers // logging with a line for each call
	log            *slog.Logger
}

func newObservers(all []intercept.Observer, log *slog.Logger) observers {
	debug := append([]intercept.Observer{intercept.DebugLog{Logger: log}}, all...)
	return observers{usual: intercept.NewObservers(all...), logging: intercept.NewObservers(debug...), log: log}
}

// get returns those for a call that begins now, nil for nobody.
func (o *observers) get() *intercept.Observers {
	if o.log.Enabled(context.Background(), slog.LevelDebug) {
		return o.logging
	}
	return o.usual
}

// entry is where calls come in: a listener, or a server that is not the proxy's.
type entry struct {
	relay    *Relay
	listener string // its address as the configuration has it, "" for none
}

func newEntry(r *Relay, listener string) *entry { return &entry{relay: r, listener: listener} }

// client is who makes calls on a connection.
type client struct {
	conn *intercept.Conn      // nil if nobody is told of it
	tls  *tls.ConnectionState // nil for plaintext
}

// accept returns the client of a connection that begins. The log of calls at debug level
// is told of none, so that it makes no difference if it begins or ends meanwhile.
func (e *entry) accept(nc net.Conn) client {
	c := client{conn: e.relay.observers.usual.BeginConn(&intercept.Conn{
		Local: nc.LocalAddr(), Remote: nc.RemoteAddr(), Logger: e.relay.log,
	})}
	if encrypted, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := encrypted.ConnectionState()
		c.tls = &state
	}
	return c
}

// leave tells that the connection has ended.
func (e *entry) leave(c client) { e.relay.observers.usual.EndConn(c.conn) }

// clientKey is the key of a client in the contexts of calls. Addresses would not do:
// clients of a Unix socket have none.
type clientKey struct{}

// serving is told of a connection that Kitex's transport serves.
func (e *entry) serving(ctx context.Context, nc net.Conn) (of context.Context, over func()) {
	c := e.accept(nc)
	return context.WithValue(ctx, clientKey{}, c), func() { e.leave(c) }
}

// clientOf returns who makes a call of Kitex's transport, the zero value if that is of a
// server that does not tell.
func clientOf(ctx context.Context) client {
	c, _ := ctx.Value(clientKey{}).(client)
	return c
}

// serve carries one call and has ended it when it returns.
func (e *entry) serve(in stream.Inbound, from client) {
	observers, g := e.relay.observers.get(), e.relay.current.Load()
	if observers == nil && !g.around.isThere(e.listener) {
		e.relay.carry(in)
		return
	}
	c := intercept.Begin(observers, e.info(in.Request(), in, from))
	e.relay.intercept(intercept.Watch(in, c), c, g.around.of(e.listener))
}

// serveLocal is serve for calls that are made in the process.
func (e *entry) serveLocal(in stream.Inbound) {
	var from client
	if by, ok := in.(interface{ TLS() *tls.ConnectionState }); ok {
		from.tls = by.TLS()
	}
	e.serve(in, from)
}

func (e *entry) info(req *stream.Request, in stream.Inbound, from client) intercept.Info {
	return intercept.Info{Request: req, Peer: in.Peer(), TLS: from.tls, Listener: e.listener, Conn: from.conn, Logger: e.relay.log}
}

// intercept has a call carried behind links.
func (r *Relay) intercept(in stream.Inbound, c *intercept.Call, links []intercept.Link) {
	if intercept.Guards(links) {
		intercept.Carry(in, c, links, r.carry)
		return
	}
	// An interceptor may take its time: the end of the process is to wait for it.
	r.intercepted.ServeDirected(in, func(in stream.Inbound) *stream.Trailer {
		intercept.Carry(in, c, links, func(in stream.Inbound) {
			r.carried.Add(1)
			defer r.carried.Add(-1)
			r.carry(in)
		})
		return nil
	})
}
