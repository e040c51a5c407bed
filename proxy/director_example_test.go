package proxy_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// Two backends by authority, and internal services hidden from everybody.
func ExampleTransparentHandler() {
	old, next := startHealth(healthpb.HealthCheckResponse_NOT_SERVING), startHealth(healthpb.HealthCheckResponse_SERVING)
	defer old.stop()
	defer next.stop()

	pool := proxy.NewPool(proxy.PoolOptions{})
	hidden := status.Error(codes.Unimplemented, "there is no such service")
	director := func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
		if strings.HasPrefix(method, "/shop.internal.") {
			return nil, proxy.Target{}, hidden
		}
		md, _ := metadata.FromIncomingContext(ctx)
		out := metadata.NewOutgoingContext(ctx, md) // all of it; nothing crosses that is not put there
		backends := map[string]healthBackend{"v1.shop.example": old, "v2.shop.example": next}
		b, ok := backends[md[":authority"][0]]
		if !ok {
			return nil, proxy.Target{}, hidden
		}
		return out, pool.At(b.address), nil
	}
	ln, stop := listen(), make(chan error)
	svr := echoservice.NewServer(&localEcho{}, // a service of its own beside
		server.WithGRPCUnknownServiceHandler(proxy.TransparentHandler(director)),
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return stop }),
	)
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }() // ends with stop

	for _, authority := range []string{"v1.shop.example", "v2.shop.example", "shop.example"} {
		fmt.Println(authority, checkHealth(ln.Addr().String(), authority))
	}
	fmt.Println(callAny(ln.Addr().String(), "/shop.internal.Accounts/Delete"))

	close(stop)
	<-stopped
	pool.Shutdown(context.Background())
	// Output:
	// v1.shop.example NOT_SERVING
	// v2.shop.example SERVING
	// shop.example rpc error: code = Unimplemented desc = there is no such service
	// rpc error: code = Unimplemented desc = there is no such service
}

// Some methods of a service are proxied, and no others.
func ExampleRegisterService() {
	backend := startHealth(healthpb.HealthCheckResponse_SERVING)
	defer backend.stop()

	pool := proxy.NewPool(proxy.PoolOptions{Connections: 2})
	director := func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
		return ctx, pool.At(backend.address), nil
	}
	ln, stop := listen(), make(chan error)
	svr := echoservice.NewServer(&localEcho{},
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return stop }),
	)
	check(proxy.RegisterService(svr, director, "grpc.health.v1.Health", "Check"))
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }() // ends with stop

	fmt.Println(checkHealth(ln.Addr().String(), "any"))
	fmt.Println(callAny(ln.Addr().String(), "/grpc.health.v1.Health/List"))

	close(stop)
	<-stopped
	pool.Shutdown(context.Background())
	// Output:
	// SERVING
	// rpc error: code = Unimplemented desc = method /grpc.health.v1.Health/List is not served here
}

// healthBackend is a gRPC server that says how it is.
type healthBackend struct {
	address string
	stop    func()
}

func startHealth(s healthpb.HealthCheckResponse_ServingStatus) healthBackend {
	ln, svr, says := listen(), grpc.NewServer(), health.NewServer()
	says.SetServingStatus("", s)
	healthpb.RegisterHealthServer(svr, says)
	go func() { _ = svr.Serve(ln) }() // ends with stop
	return healthBackend{address: ln.Addr().String(), stop: svr.Stop}
}

// checkHealth returns what a client is told that asks for an authority.
func checkHealth(address, authority string) string {
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	check(err)
	defer cc.Close()
	answer, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{})
	if err != nil {
		return err.Error()
	}
	return answer.Status.String()
}

// callAny returns how a call of a method ends.
func callAny(address, method string) error {
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer cc.Close()
	return cc.Invoke(context.Background(), method, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
}
