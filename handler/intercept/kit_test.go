package intercept

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const method = "/test.Service/Method"

// client is an inbound stream whose request is given beforehand.
type client struct {
	ctx     context.Context
	cancel  context.CancelFunc
	req     stream.Request
	request []byte

	mu     sync.Mutex
	header *stream.Header
	got    []byte
	end    *stream.Trailer
	ends   int // how often it has been ended
}

func newClient(t *testing.T) *client {
	c := &client{req: stream.Request{Method: method, Metadata: stream.Metadata{{Key: "who", Value: "me"}}}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	t.Cleanup(c.cancel)
	return c
}

var _ stream.Inbound = (*client)(nil)

func (c *client) Context() context.Context { return c.ctx }
func (c *client) Request() *stream.Request { return &c.req }
func (c *client) Peer() net.Addr           { return &net.TCPAddr{} }
func (c *client) Ready(int) bool           { return true }
func (c *client) Complete() bool           { return true }
func (c *client) Flush()                   {}

func (c *client) Read(p []byte) error {
	if len(c.request) < len(p) {
		return io.EOF
	}
	c.request = c.request[copy(p, c.request):]
	return nil
}

func (c *client) WriteHeader(h *stream.Header) error {
	c.header = h
	return nil
}

func (c *client) Write(b []byte) error {
	c.got = append(c.got, b...)
	return nil
}

func (c *client) Finish(t *stream.Trailer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends++; c.end == nil {
		c.end = t
	}
	c.cancel()
}

// ended returns how the call has ended, which it must have.
func (c *client) ended(t *testing.T) *stream.Trailer {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotNil(t, c.end, "the call has not been ended")
	require.Equal(t, 1, c.ends)
	return c.end
}

// begin is Begin for the call of in.
func begin(in *client, observers ...Observer) *Call {
	return Begin(NewObservers(observers...), Info{Request: &in.req, Peer: in.Peer(), Logger: slog.New(slog.DiscardHandler)})
}

// ok is a backend's end with a trailer of its own.
func ok() *stream.Trailer {
	return &stream.Trailer{Metadata: stream.Metadata{{Key: "from", Value: "backend"}}}
}

func lost() *stream.Trailer {
	t := ok()
	t.Status = stream.Status{Code: stream.DataLoss, Message: "lost"}
	return t
}

// ending returns a relay that ends calls so.
func ending(t *stream.Trailer) func(stream.Inbound) {
	return func(in stream.Inbound) { in.Finish(t) }
}

// interceptors returns them as links.
func interceptors(all ...Interceptor) []Link {
	links := make([]Link, len(all))
	for i, f := range all {
		links[i] = Link{Name: "test", Interceptor: f}
	}
	return links
}

// carry has the call of in go through links and then by relay.
func carry(in *client, links []Link, relay func(stream.Inbound), observers ...Observer) {
	c := begin(in, observers...)
	Carry(Watch(in, c), c, links, relay)
}

// carried has a call go through links and then by relay, and returns how it ends.
func carried(t *testing.T, links []Link, relay func(stream.Inbound)) *stream.Trailer {
	t.Helper()
	in := newClient(t)
	carry(in, links, relay)
	return in.ended(t)
}

// message is one on the wire.
func message(payload string) []byte {
	return append([]byte{0, 0, 0, 0, byte(len(payload))}, payload...)
}
