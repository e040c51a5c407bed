package kitexgrpc

import (
	"context"
	"fmt"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

// transport is one HTTP/2 connection to a backend instance.
type transport struct {
	tr      grpc.ClientTransport
	watched *watchedConn
}

var _ upstream.Transport = (*transport)(nil)

func (t *transport) Usable() bool {
	a, ok := t.tr.(grpc.IsActive)
	return !ok || a.IsActive()
}

func (t *transport) Stuck() bool { return t.watched.readerGone() }

func (t *transport) Close(cause error) { _ = t.tr.Close(cause) }

// dial is the upstream.Dial of these connections. The stream limit is that of
// the backend's first SETTINGS: Kitex heeds later ones, and does not say so.
func (o *Options) dial(ctx context.Context, to upstream.Peer, ev upstream.Events) (upstream.Transport, int64, error) {
	t, err := connect(ctx, to, o, ev)
	if err != nil {
		return nil, 0, err
	}
	return t, t.watched.maxStreams(), nil
}

// connect opens a connection to an instance and waits until the backend's SETTINGS
// are in force. ctx bounds all of it.
func connect(ctx context.Context, to upstream.Peer, opts *Options, ev upstream.Events) (*transport, error) {
	nc, err := upstream.DialNet(ctx, to)
	if err != nil {
		return nil, err
	}
	watched := watch(nc, int(opts.MaxHeaderList))
	// The connection outlives the call that opened it.
	tr, err := grpc.NewClientTransportWithConfig(context.Background(), watched, opts.connectOptions(), grpc.ClientConfig{
		OnGoAway: func(context.Context, grpc.ClientTransport, grpc.GoAwayReason) { ev.Retired() },
		OnClose:  func(context.Context, grpc.ClientTransport, error) { ev.Closed() },
	})
	if err != nil {
		_ = nc.Close()
		return nil, upstream.NoHTTP2(nc)
	}
	select {
	case <-watched.settled:
		return &transport{tr: tr, watched: watched}, nil
	case <-tr.Error():
		return nil, upstream.NoHTTP2(nc)
	case <-ctx.Done():
		err := fmt.Errorf("no HTTP/2 SETTINGS from the backend: %w", context.Cause(ctx))
		_ = tr.Close(err)
		return nil, err
	}
}
