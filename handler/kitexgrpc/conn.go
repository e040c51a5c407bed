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

	// streams counts the open streams, limit is how many the backend allows.
	streams atomic.Int64
	limit   int64
	// retired is true once it takes no new streams.
	retired atomic.Bool
	// opened is how many streams there have been.
	opened atomic.Int64
	// lastUse is when the last stream ended, in nanoseconds since 1970.
	lastUse atomic.Int64
}

// events tells a connection's owner what becomes of it.
type events struct {
	retired func(*conn) // it takes no new streams any more
	closed  func(*conn) // it is over, and was never or has been retired
}

// connect opens a connection to address and waits until the backend's SETTINGS
// are in force. ctx bounds all of it.
func connect(ctx context.Context, address string, opts *Options, ev events) (*conn, error) {
	network, address := splitAddress(address)
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnacknowledged}
	nc, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(err)
	}
	c := &conn{watched: watch(nc, int(opts.MaxHeaderList))}
	c.lastUse.Store(time.Now().UnixNano())
	// The connection outlives the call that opened it.
	tr, err := grpc.NewClientTransportWithConfig(context.Background(), c.watched, opts.connectOptions(), grpc.ClientConfig{
		OnGoAway: func(context.Context, grpc.ClientTransport, grpc.GoAwayReason) { ev.retired(c) },
		OnClose:  func(context.Context, grpc.ClientTransport, error) { ev.closed(c) },
	})
	if err != nil {
		_ = nc.Close()
		return nil, errNoHTTP2
	}
	c.tr = tr
	select {
	case <-c.watched.settled:
		c.limit = c.watched.maxStreams()
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

// A backend host that is gone without a word is found out about within
// goneAfter, by keepalive when nothing is under way, else by the bytes that
// are not acknowledged.
const goneAfter = 20 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: goneAfter / 2, Interval: goneAfter / 4, Count: 2}

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

// reserve counts a stream in, unless the connection takes none.
func (c *conn) reserve() bool {
	if c.streams.Add(1) <= c.limit && !c.retired.Load() {
		return true
	}
	c.streams.Add(-1)
	return false
}
