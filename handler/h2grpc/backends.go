package h2grpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// Options says how connections to backends are made and kept.
type Options struct {
	upstream.Options
	// StreamWindow, MaxStreamWindow and ConnectionWindow are the HTTP/2
	// flow-control windows in bytes that backends may fill; see h2.Config.
	StreamWindow, MaxStreamWindow, ConnectionWindow uint32
	// MaxHeaderList is the largest header list accepted from a backend, in
	// bytes as RFC 9113 section 6.5.2 counts them.
	MaxHeaderList uint32
}

// Backends opens streams to backend instances over a few multiplexed
// connections each. All methods may be called concurrently.
type Backends struct {
	*upstream.Pool
	opts  Options
	conns sync.WaitGroup // the readers of the connections
}

// Close ends all connections, and with them all streams, and waits until
// nothing of them is left running.
func (b *Backends) Close() {
	b.Pool.Close()
	b.conns.Wait()
}

// NewBackends starts with no connection and nothing running. Close must be
// called once Open has been.
func NewBackends(opts Options) *Backends {
	b := &Backends{opts: opts}
	b.Pool = upstream.New(opts.Options, b.dial)
	return b
}

// Open opens the backend's side of a call on a connection to address. When ctx
// ends, so does the call. The error is a *stream.Failure; it is marked
// unprocessed unless the request itself is at fault. The request's head is sent
// with the first Flush.
func (b *Backends) Open(ctx context.Context, cluster, address string, req *stream.Request) (stream.Outbound, error) {
	o := newOutbound(cluster, address)
	err := b.Pool.Open(ctx, cluster, address, func(c *upstream.Conn) error {
		conn := ConnOf(c)
		s, err := conn.Open(requestFields(ctx, req), false, o)
		if err != nil {
			return NotOpened(err)
		}
		o.opened(ctx, s, c.Release)
		return nil
	})
	switch {
	case err == nil:
		return o, nil
	case ctx.Err() != nil:
		return nil, errContext(ctx)
	default:
		return nil, stream.AsFailure(err)
	}
}

// NotOpened says what the pool is to make of a stream that could not be opened
// because of err; see upstream.Pool.Open.
func NotOpened(err error) error {
	if errors.Is(err, h2.ErrHeaderList) {
		return &stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: "the backend does not accept a header list of that size"}
	}
	return upstream.ErrNotTaken
}

// ConnOf returns the connection of a Conn of the pool.
func ConnOf(c *upstream.Conn) *h2.Conn { return c.Transport().(*backendConn).Conn }

// backendConn is a connection to a backend as the pool sees it.
type backendConn struct{ *h2.Conn }

// Stuck implements upstream.Transport: readers of this engine never wait.
func (backendConn) Stuck() bool { return false }

// dial implements upstream.Dial.
func (b *Backends) dial(ctx context.Context, to upstream.Peer, ev upstream.Events) (upstream.Transport, int64, error) {
	nc, err := upstream.DialNet(ctx, to)
	if err != nil {
		return nil, 0, err
	}
	c := h2.NewClient(nc, &h2.Config{
		StreamWindow: b.opts.StreamWindow, MaxStreamWindow: b.opts.MaxStreamWindow, ConnWindow: b.opts.ConnectionWindow, MaxHeaderList: b.opts.MaxHeaderList,
		Changed: func(c *h2.Conn) { tell(c, ev) },
	})
	b.conns.Go(func() { // ends with the connection, which the pool closes
		_ = c.Serve() // the calls are told what is wrong
		ev.Closed()
	})
	select {
	case <-c.Settled():
		return &backendConn{c}, limitOf(c), nil
	case <-c.Done():
		return nil, 0, upstream.NoHTTP2(nc)
	case <-ctx.Done():
		c.Close(context.Cause(ctx))
		<-c.Done()
		return nil, 0, fmt.Errorf("no HTTP/2 SETTINGS from the backend: %w", context.Cause(ctx))
	}
}

func tell(c *h2.Conn, ev upstream.Events) {
	if !c.Usable() {
		ev.Retired()
	}
	select {
	case <-c.Settled():
		ev.Limit(limitOf(c))
	default:
	}
}

// limitOf returns how many streams the backend allows, as the pool counts.
func limitOf(c *h2.Conn) int64 {
	if n := c.MaxStreams(); n < math.MaxUint32 {
		return int64(n)
	}
	return math.MaxInt64
}
