package proxytest

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
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// HandOn returns a context with all of a call's metadata for the backend.
func HandOn(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, md)
}

// AllTo sends all calls with all of their metadata to one address.
func AllTo(pool *proxy.Pool, address string) proxy.Director {
	return func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
		return HandOn(ctx), pool.At(address), nil
	}
}

// NewPool returns a pool that ends with the test, behind what is started after it.
func NewPool(t *testing.T, o proxy.PoolOptions) *proxy.Pool {
	o.Logger = slog.New(slog.DiscardHandler)
	pool := proxy.NewPool(o)
	t.Cleanup(func() { pool.Shutdown(Ended()) })
	return pool
}

// Ended returns a context that has ended.
func Ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Run serves with a Kitex server until the test ends, and returns its address. build
// makes the server.
func Run(t *testing.T, build func(opts ...server.Option) server.Server) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit := make(chan error)
	svr := build(server.WithListener(ln), server.WithExitWaitTime(10*time.Millisecond), server.WithExitSignal(func() <-chan error { return exit }))
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }() // ends with the test
	t.Cleanup(func() {
		close(exit)
		assert.NoError(t, <-ran)
	})
	return ln.Addr().String()
}

// RunWithEcho is Run for a server with a service of its own, which no test of a suite
// calls.
func RunWithEcho(t *testing.T, opts ...server.Option) string {
	return Run(t, func(more ...server.Option) server.Server {
		svr := server.NewServer(append(opts, more...)...)
		info := echoservice.NewServiceInfo()
		info.ServiceName = "Local"
		require.NoError(t, svr.RegisterService(info, &local{}))
		return svr
	})
}

// NewRelay returns a relay without configuration that ends with the test.
func NewRelay(t *testing.T, cfg *conf.Config, opts ...proxy.Option) *proxy.Relay {
	relay, err := proxy.NewRelay(cfg, append(opts, proxy.WithLogger(slog.New(slog.DiscardHandler)))...)
	require.NoError(t, err)
	t.Cleanup(func() { relay.Shutdown(Ended()) })
	return relay
}

// DirectedWay is a way through a Kitex server whose calls a director sends on.
type DirectedWay struct {
	// Target puts a server of its own before each backend.
	Target handlertest.Target
	// Options say what the suites cannot ask of it.
	Options handlertest.Options
}

// DirectedWays are the ways by a director's word.
var DirectedWays = map[string]DirectedWay{
	"relay": {Target: func(t *testing.T, backend string) string {
		relay := NewRelay(t, conf.Default(), proxy.WithDirector(AllTo(NewPool(t, proxy.PoolOptions{}), backend)))
		return RunWithEcho(t, relay.ServerOptions()...)
	}},
	"TransparentHandler": {Options: notOnKitex, Target: func(t *testing.T, backend string) string {
		handler := proxy.TransparentHandler(AllTo(NewPool(t, proxy.PoolOptions{}), backend))
		return RunWithEcho(t, server.WithGRPCUnknownServiceHandler(handler))
	}},
}

// local is a service that answers nothing.
type local struct{ echo.Echo }
