package kitexgrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// conn is one HTTP/2 connection to a backend instance.
type conn struct {
	tr      grpc.ClientTransport
	watched *watchedConn

	// streams counts the open streams, opening those of them whose NewStream
	// has not come back, as is so since openingSince (nanoseconds since 1970).
	streams      atomic.Int64
	opening      atomic.Int64
	openingSince atomic.Int64
	// lastUse is when the last stream ended, in nanoseconds since 1970.
	lastUse atomic.Int64
}

// events tells a connection's owner that it takes no new streams any more.
type events struct {
	onRetired func(*conn)
}

// connect opens a connection to address and waits until the backend's SETTINGS
// are in force. ctx bounds all of it.
func connect(ctx context.Context, address string, opts *Options, ev events) (*conn, error) {
	network, address := splitAddress(address)
	dialer := net.Dialer{KeepAlive: tcpKeepAlive}
	nc, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(err)
	}
	c := &conn{watched: watch(nc, int(opts.MaxHeaderList))}
	c.lastUse.Store(time.Now().UnixNano())
	// The connection outlives the call that opened it.
	tr, err := grpc.NewClientTransportWithConfig(context.Background(), c.watched, opts.connectOptions(), grpc.ClientConfig{
		OnGoAway: func(context.Context, grpc.ClientTransport, grpc.GoAwayReason) { ev.onRetired(c) },
		OnClose:  func(context.Context, grpc.ClientTransport, error) { ev.onRetired(c) },
	})
	if err != nil {
		_ = nc.Close()
		return nil, errNoHTTP2
	}
	c.tr = tr
	select {
	case <-c.watched.settled:
		return c, nil
	case <-tr.Error():
		return nil, errNoHTTP2
	case <-ctx.Done():
		err := fmt.Errorf("no HTTP/2 SETTINGS from the backend: %w", context.Cause(ctx))
		_ = tr.Close(err)
		return nil, err
	}
}

var errNoHTTP2 = errors.New("the backend closed the connection, or does not speak HTTP/2 without TLS")

// tcpKeepAlive finds out about a backend host that is gone without a word.
const tcpKeepAlive = 15 * time.Second

// dialError leaves out of a dial error what the caller says anyway.
func dialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("connect: %w", op.Err)
	}
	return fmt.Errorf("connect: %w", err)
}

// splitAddress turns a configured address into what net.Dial takes.
func splitAddress(address string) (network, addr string) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return "unix", path
	}
	return "tcp", address
}

func (c *conn) idleSince() time.Time { return time.Unix(0, c.lastUse.Load()) }

// newStream opens a stream, waiting for the backend's stream limit if need be.
func (c *conn) newStream(ctx context.Context, hdr *grpc.CallHdr) (*grpc.Stream, error) {
	if c.opening.Add(1) == 1 {
		c.openingSince.Store(time.Now().UnixNano())
	}
	s, err := c.tr.NewStream(ctx, hdr)
	c.opening.Add(-1)
	return s, err
}

// full reports whether the backend's stream limit seems to be reached: streams
// have been waiting to open for longer than opening one takes.
func (c *conn) full() bool {
	return c.opening.Load() > 0 && time.Since(time.Unix(0, c.openingSince.Load())) > openingTime
}

// openingTime is ample for a stream that need not wait.
const openingTime = 5 * time.Millisecond

// release gives back what acquire took.
func (c *conn) release() {
	c.lastUse.Store(time.Now().UnixNano())
	c.streams.Add(-1)
}
