package inproc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// call is one call, as who carries it sees it.
type call struct {
	req    stream.Request
	ctx    context.Context
	cancel context.CancelFunc
	peer   *peer

	request  request
	response response
}

var _ stream.Inbound = (*call)(nil)

// maxWaiting is how many bytes of a direction may wait unread before the next
// write does. A message that is longer may wait alone.
const maxWaiting = 64 << 10

const contentType = "application/grpc"

// newCall makes a call that ends with ctx. The error has a gRPC status.
func (c *Conn) newCall(ctx context.Context, method string, o *callOptions) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	from := clientOf(ctx)
	md, err := outgoing(ctx, cmp.Or(from.userAgent, c.opts.userAgent))
	if err != nil {
		return nil, err
	}
	in := &call{peer: peerOf(ctx), req: stream.Request{
		Method: method, Authority: cmp.Or(from.authority, o.authority), ContentType: contentType, Metadata: md,
	}}
	in.ctx, in.cancel = context.WithCancel(ctx)
	in.request.init()
	in.response.init()
	return in, nil
}

func (c *call) Context() context.Context           { return c.ctx }
func (c *call) Request() *stream.Request           { return &c.req }
func (c *call) Peer() net.Addr                     { return c.peer.addr }
func (c *call) Read(p []byte) error                { return c.request.read(p) }
func (c *call) Ready(n int) bool                   { return c.request.ready(n) }
func (c *call) Complete() bool                     { return c.request.complete() }
func (c *call) WriteHeader(h *stream.Header) error { return c.response.writeHeader(h) }
func (c *call) Write(b []byte) error               { return c.response.write(b) }

// TLS returns the state of the client's connection, nil for one without TLS. It
// must not be changed.
func (c *call) TLS() *tls.ConnectionState { return c.peer.tls }

// Flush has nothing to do: whoever waits for what is written knows of it.
func (c *call) Flush() {}

func (c *call) Finish(t *stream.Trailer) {
	if c.response.finish(t) {
		c.over(errFinished)
	}
}

// giveUp ends the call for the client, who gets err from now on.
func (c *call) giveUp(err error) {
	c.response.fail(err)
	c.over(stream.CanceledByClient)
}

// over ends the call for who carries it.
func (c *call) over(err error) {
	c.request.fail(err)
	c.cancel()
}

var errFinished = errors.New("the call has ended")
