package kitexgrpc

import (
	"context"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// Options says how connections to backends are made and kept.
type Options struct {
	upstream.Options
	// StreamWindow and ConnectionWindow are the HTTP/2 flow-control windows in
	// bytes that backends may fill.
	StreamWindow, ConnectionWindow uint32
	// MaxHeaderList is the largest header list accepted from a backend, in
	// bytes as RFC 9113 section 6.5.2 counts them.
	MaxHeaderList uint32
}

func (o *Options) connectOptions() grpc.ConnectOptions {
	return grpc.ConnectOptions{
		InitialWindowSize:     o.StreamWindow,
		InitialConnWindowSize: o.ConnectionWindow,
		MaxHeaderListSize:     &o.MaxHeaderList,
	}
}

// Backends opens streams to backend instances over a few multiplexed
// connections each: opened on need, replaced when they end. All methods may
// be called concurrently.
type Backends struct{ *upstream.Pool }

// NewBackends starts with no connection and nothing running. Close must be
// called once Open has been.
func NewBackends(opts Options) *Backends {
	return &Backends{upstream.New(opts.Options, opts.dial)}
}

// Open opens the backend's side of a call on a connection to address. ctx is
// the call's: when it ends, the stream is reset. The error is a
// *stream.Failure; it is marked unprocessed unless the request itself is at
// fault.
func (b *Backends) Open(ctx context.Context, cluster, address string, req *stream.Request) (stream.Outbound, error) {
	o := &outbound{ctx: outgoing(ctx, req), where: where{cluster, address}}
	hdr := &grpc.CallHdr{Host: req.Authority, Method: req.Method, ContentSubtype: subtypeOf(req.ContentType)}
	err := b.Pool.Open(o.ctx, cluster, address, func(c *upstream.Conn) error { return o.openOn(c, hdr) })
	if err != nil {
		return nil, err
	}
	return o, nil
}

// openOn opens the stream on a connection that has one reserved for it.
func (o *outbound) openOn(c *upstream.Conn, hdr *grpc.CallHdr) error {
	t := c.Transport().(*transport)
	s, err := t.tr.NewStream(o.ctx, hdr)
	switch {
	case err == nil:
		o.conn, o.tr, o.s = c, t.tr, s
		return nil
	case o.ctx.Err() != nil:
		return contextFailure(o.ctx)
	case t.Usable():
		// The connection is fine, so the request is not: its headers exceed
		// what the backend accepts.
		return &stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: messageOf(err)}
	default:
		// The backend began to drain the connection just now.
		return upstream.ErrNotTaken
	}
}
