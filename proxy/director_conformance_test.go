package proxy_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// handOn returns a context with all of a call's metadata for the backend.
func handOn(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, md)
}

// allTo sends all calls with all of their metadata to one address.
func allTo(pool *proxy.Pool, address string) proxy.Director {
	return func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
		return handOn(ctx), pool.At(address), nil
	}
}

// newPool returns a pool that ends with the test, behind what is started after it.
func newPool(t *testing.T, o proxy.PoolOptions) *proxy.Pool {
	o.Logger = slog.New(slog.DiscardHandler)
	pool := proxy.NewPool(o)
	t.Cleanup(func() { pool.Shutdown(ended()) })
	return pool
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// run serves with a Kitex server until the test ends, and returns its address. build
// makes the server.
func run(t *testing.T, build func(opts ...server.Option) server.Server) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit := make(chan error)
	svr := build(server.WithListener(ln), server.WithExitWaitTime(100*time.Millisecond), server.WithExitSignal(func() <-chan error { return exit }))
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }() // ends with the test
	t.Cleanup(func() {
		close(exit)
		assert.NoError(t, <-ran)
	})
	return ln.Addr().String()
}

// runWithEcho is run for a server with a service of its own, which no test of a suite
// calls.
func runWithEcho(t *testing.T, opts ...server.Option) string {
	return run(t, func(more ...server.Option) server.Server {
		svr := server.NewServer(append(opts, more...)...)
		info := echoservice.NewServiceInfo()
		info.ServiceName = "Local"
		require.NoError(t, svr.RegisterService(info, &localEcho{}))
		return svr
	})
}

// newRelay returns a relay without configuration that ends with the test.
func newRelay(t *testing.T, cfg *conf.Config, opts ...proxy.Option) *proxy.Relay {
	relay, err := proxy.NewRelay(cfg, append(opts, proxy.WithLogger(slog.New(slog.DiscardHandler)))...)
	require.NoError(t, err)
	t.Cleanup(func() { relay.Shutdown(ended()) })
	return relay
}

// A call that a director sends on is the call that the client made.
func TestDirectorConformance(t *testing.T) {
	quietKitex()
	onNative := func(t *testing.T, backend string) string {
		relay := newRelay(t, conf.Default(), proxy.WithDirector(allTo(newPool(t, proxy.PoolOptions{}), backend)))
		return runWithEcho(t, relay.ServerOptions()...)
	}
	onKitex := func(t *testing.T, backend string) string {
		handler := proxy.TransparentHandler(allTo(newPool(t, proxy.PoolOptions{}), backend))
		return runWithEcho(t, server.WithGRPCUnknownServiceHandler(handler))
	}
	for name, to := range map[string]struct {
		target handlertest.Target
		opts   handlertest.Options
	}{
		"relay":              {target: onNative},
		"TransparentHandler": {target: onKitex, opts: notOnKitex},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, to.target, to.opts) })
			t.Run("Kitex", func(t *testing.T) { handlertest.SuiteKitex(t, to.target, handlertest.Options{}) })
		})
	}
}
