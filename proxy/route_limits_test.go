package proxy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestRouteChangesMetadata(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
			_ = ss.SendHeader(metadata.Pairs("removed", "1", "set", "old", "set", "older", "kept", "1", "added", "old"))
			ss.SetTrailer(metadata.Pairs("removed", "1", "set", "old", "kept", "1", "raw-bin", "\x00\xff"))
			return status.Error(codes.NotFound, "gone")
		})
		changes := conf.HeaderChanges{
			Set: map[string]string{"set": "new"}, Add: map[string]string{"added": "new", "by-route-bin": "AAH+/w=="}, Remove: []string{"removed"},
		}
		f := startRoute(t, transport, func(cfg *conf.Config) {
			cfg.Default.RequestMetadata, cfg.Default.ResponseHeader, cfg.Default.ResponseTrailer = changes, changes, changes
		}, b)
		ctx := metadata.AppendToOutgoingContext(f.safe(), "removed", "1", "set", "old", "kept", "1", "added", "old")
		body := []byte("x")
		var header, trailer metadata.MD
		err := f.client.Invoke(ctx, faultMethod, &body, &body, grpc.Header(&header), grpc.Trailer(&trailer))
		assert.Equal(t, codes.NotFound, status.Code(err))
		for where, md := range map[string]metadata.MD{"request": b.all()[0], "header": header, "trailer": trailer} {
			assert.Empty(t, md.Get("removed"), where)
			assert.Equal(t, []string{"new"}, md.Get("set"), where)
			assert.Equal(t, []string{"1"}, md.Get("kept"), where)
			assert.Equal(t, []string{"\x00\x01\xfe\xff"}, md.Get("by-route-bin"), where)
		}
		assert.Equal(t, []string{"old", "new"}, header.Get("added"))
		assert.Equal(t, []string{"old", "new"}, b.all()[0].Get("added"))
		assert.Equal(t, []string{"\x00\xff"}, trailer.Get("raw-bin"))
		f.lives()
	})
}

func TestRouteChangesLocalReplies(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		f := startRoute(t, transport, func(cfg *conf.Config) {
			cfg.Default.ResponseTrailer = conf.HeaderChanges{
				Add: map[string]string{"by-route": "yes"},
			}
		}, &routeBackend{addr: loopback.Free(t)})
		body := []byte("x")
		var trailer metadata.MD
		err := f.client.Invoke(f.safe(), faultMethod, &body, &body, grpc.Trailer(&trailer))
		assert.Equal(t, codes.Unavailable, status.Code(err))
		assert.Equal(t, []string{"yes"}, trailer.Get("by-route"), "once")
		assert.Equal(t, []string{string(stream.BackendUnreachable)}, trailer.Get(stream.ReasonKey))
		f.lives()
	})
}

func TestRouteUnaryTimeout(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		const limit = 250 * time.Millisecond
		late := make(chan struct{})
		b := startRouteBackend(t, func(before int, ss grpc.ServerStream) error {
			if before < 2 {
				return never(before, ss)
			}
			<-late
			return echoes(before, ss)
		})
		f := startRoute(t, transport, func(cfg *conf.Config) { cfg.Default.UnaryTimeout = conf.Duration(limit) }, b)
		r := f.call(f.safe(), faultMethod, []byte("x"))
		requireFailure(t, r, codes.DeadlineExceeded, stream.RouteTimeout, limit.String())
		// The half-close may come apart from the message.
		s := f.stream()
		sendOn(t, s, "x")
		b.await(t, 2)
		require.NoError(t, s.CloseSend())
		_, err := receiveAll(s)
		requireFailure(t, resultOf(err, s.Trailer()), codes.DeadlineExceeded, stream.RouteTimeout, limit.String())
		// Streams take longer: one whose request goes on, and one of several messages.
		open, several := f.stream(), f.stream()
		sendOn(t, open, "one")
		sendOn(t, several, "one", "two")
		require.NoError(t, several.CloseSend())
		b.await(t, 4)
		time.AfterFunc(2*limit, func() { close(late) }) // that it is late is the case
		for _, s := range []grpc.ClientStream{several, open} {
			var m []byte
			require.NoError(t, s.RecvMsg(&m))
		}
		require.NoError(t, open.CloseSend())
		_, err = receiveAll(open)
		require.NoError(t, err)
		_, err = receiveAll(several)
		require.NoError(t, err)
		f.lives()
	})
}

func TestRouteIdleTimeout(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		const limit = 300 * time.Millisecond
		f := startRoute(t, transport, func(cfg *conf.Config) { cfg.Default.IdleTimeout = conf.Duration(limit) }, startRouteBackend(t, echoes))
		s := f.stream()
		sendOn(t, s, "x")
		all, err := receiveAll(s)
		assert.Equal(t, []string{"x"}, all)
		requireFailure(t, resultOf(err, s.Trailer()), codes.DeadlineExceeded, stream.RouteTimeout, limit.String())
		f.lives()
	})
}
