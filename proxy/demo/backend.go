package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// Backend is a running Kitex server with the Echo service, and with server reflection.
type Backend struct {
	addr net.Addr
	exit chan error    // closed to make the server drain and stop
	done chan struct{} // closed when the server has stopped; err is set then
	err  error
	once sync.Once
}

const (
	// startTimeout is how long the backend's own listener may take to answer.
	startTimeout = 10 * time.Second
	// drainTime is how long calls may go on after Stop.
	drainTime = time.Second
)

// StartBackend starts a backend on a TCP address and returns once it answers
// calls. The caller ends it with Stop.
func StartBackend(addr string) (*Backend, error) { return startBackend(addr, &service{}) }

func startBackend(addr string, handler echo.Echo) (*Backend, error) {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = errors.New("the address is in use")
	}
	if err != nil {
		return nil, fmt.Errorf("demo backend: cannot listen on %s: %w", addr, err)
	}
	b := &Backend{addr: ln.Addr(), exit: make(chan error), done: make(chan struct{})}
	svr, err := b.server(ln, handler)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("demo backend: %w", err)
	}
	go func() { // ends with Stop
		defer close(b.done)
		b.err = svr.Run()
	}()
	if err := b.awaitServing(); err != nil {
		b.Stop()
		return nil, fmt.Errorf("demo backend: %s does not answer: %w", addr, err)
	}
	return b, nil
}

// Addr returns the address listened on, with the actual port.
func (b *Backend) Addr() string { return b.addr.String() }

// Stop ends the backend; calls under way get a second to finish. It may be
// called more than once.
func (b *Backend) Stop() {
	b.once.Do(func() { close(b.exit) })
	<-b.done
}

// server returns the Kitex server, which does not run yet.
func (b *Backend) server(ln net.Listener, handler echo.Echo) (server.Server, error) {
	svr := echoservice.NewServer(handler,
		server.WithListener(ln),
		// Otherwise Kitex would take the process's signals.
		server.WithExitSignal(func() <-chan error { return b.exit }),
		server.WithExitWaitTime(drainTime),
		server.WithErrorHandler(exactStatus),
		server.WithMiddleware(uncompressed),
	)
	return svr, registerReflection(svr)
}

// awaitServing makes one call. Until it is answered the server cannot be
// stopped either: Kitex ignores a stop that comes before it accepts.
func (b *Backend) awaitServing() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := newClient(b.Addr())
	if err != nil {
		return err
	}
	defer c.close()
	answered := make(chan error, 1)
	go func() { // ends with ctx
		_, err := c.unary.Unary(ctx, &echo.EchoRequest{})
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-b.done:
		cancel()
		<-answered
		return b.err
	}
}

// uncompressed makes replies go out as they are. Otherwise Kitex compresses them
// as the client accepts, and fails the calls of clients, such as grpcurl, that
// accept nothing it knows.
func uncompressed(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		remote.SetSendCompressor(rpcinfo.GetRPCInfo(ctx), encoding.Identity)
		return next(ctx, req, resp)
	}
}

// exactStatus takes a status out of the error that Kitex has put it in. Kitex
// would append " [biz error]" to the message of any other error.
func exactStatus(_ context.Context, err error) error {
	var exact *status.Error
	if errors.As(err, &exact) {
		return exact
	}
	return err
}
