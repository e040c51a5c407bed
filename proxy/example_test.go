package proxy_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

// A Kitex server with a service of its own becomes a proxy for everything
// else: give it the relay's ServerOptions, or just its Unknown with
// WithGRPCUnknownServiceHandler.
func ExampleRelay() {
	// A backend is any gRPC server. This one has the standard health service.
	backendAt := listen()
	backend := grpc.NewServer()
	healthpb.RegisterHealthServer(backend, health.NewServer())
	go func() { _ = backend.Serve(backendAt) }() // ends with Stop
	defer backend.Stop()

	cfg := conf.Default()
	cfg.Clusters = map[string]*conf.Cluster{"health": {Instances: []string{backendAt.Addr().String()}, Connections: 4}}
	cfg.Default = &conf.Action{Cluster: "health", Mode: conf.ModeFrame}
	relay, err := proxy.NewRelay(cfg)
	check(err)

	ln := listen()
	stop := make(chan error)
	svr := echoservice.NewServer(&localEcho{}, append(relay.ServerOptions(),
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return stop }),
	)...)
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }() // ends with stop

	// The service registered here is still served here.
	cli, err := echoservice.NewClient("echo", client.WithHostPorts(ln.Addr().String()))
	check(err)
	reply, err := cli.Unary(context.Background(), &echo.EchoRequest{Message: "hello"})
	check(err)
	fmt.Println(reply.Message)

	// Any other is the backend's.
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	answer, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{})
	check(err)
	fmt.Println(answer.Status, "says the backend")
	check(cc.Close())

	close(stop)
	<-stopped
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	relay.Shutdown(ctx)
	// Output:
	// hello, from a local service
	// SERVING says the backend
}

// The README has what follows as a file of its own (A filter in Go).

var unary = filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Unary")

func hidePasswords(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
	if !strings.Contains(m.Message, "password") {
		return filter.Forward // byte for byte as it came
	}
	m.Message = "***"
	return filter.Changed
}

// A filter is a function on the generated type of a method's messages. The proxy
// is told of the service, of the filters, and to use mode: struct.
func ExampleWithFilters() {
	backend, err := demo.StartBackend("127.0.0.1:0")
	check(err)
	defer backend.Stop()

	cfg, err := conf.Simple("127.0.0.1:0", backend.Addr())
	check(err)
	cfg.Default.Mode = conf.ModeStruct
	p, err := proxy.New(cfg,
		proxy.WithServices(filter.KitexService(echoservice.NewServiceInfo())),
		proxy.WithFilters(unary.OnRequest(hidePasswords)),
		proxy.WithLogger(slog.New(slog.DiscardHandler)),
	)
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- p.Run(ctx) }() // ends with stop
	<-p.Ready()

	cli, err := echoservice.NewClient("echo", client.WithHostPorts(p.Addrs()[0].String()))
	check(err)
	for _, text := range []string{"hello", "my password is rosebud"} {
		reply, err := cli.Unary(context.Background(), &echo.EchoRequest{Message: text})
		check(err)
		fmt.Println(reply.Message)
	}

	stop()
	check(<-stopped)
	// Output:
	// hello
	// ***
}

// The README has what follows as a file of its own, too (An interceptor in Go).

func needTenant(ctx context.Context, c *intercept.Call, next intercept.Next) error {
	tenant := c.Incoming().Get("x-tenant")
	if tenant == "" {
		return status.Error(codes.InvalidArgument, "x-tenant is missing")
	}
	if err := c.Header().Set("x-tenant", strings.ToLower(tenant)); err != nil {
		return err
	}
	err := next(ctx) // the call goes on, and has ended when this returns
	if cost := c.Trailer().Get("x-cost"); cost != "" {
		slog.InfoContext(ctx, "paid", "tenant", tenant, "method", c.Method(), "cost", cost)
	}
	return err
}

// An interceptor is around calls of all methods, whatever their mode.
func ExampleWithInterceptors() {
	backend, err := demo.StartBackend("127.0.0.1:0")
	check(err)
	defer backend.Stop()

	cfg, err := conf.Simple("127.0.0.1:0", backend.Addr())
	check(err)
	p, err := proxy.New(cfg, proxy.WithInterceptors(needTenant), proxy.WithLogger(slog.New(slog.DiscardHandler)))
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- p.Run(ctx) }() // ends with stop
	<-p.Ready()

	cli, err := echoservice.NewClient("echo", client.WithHostPorts(p.Addrs()[0].String()))
	check(err)
	for _, tenant := range []string{"Acme", ""} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "x-tenant", tenant)
		reply, err := cli.Unary(ctx, &echo.EchoRequest{Message: "hello"})
		fmt.Printf("%q %q\n", reply.GetMessage(), kitexstatus.Convert(err).Message())
	}

	stop()
	check(<-stopped)
	// Output:
	// "hello" ""
	// "" "x-tenant is missing"
}

func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	return ln
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type localEcho struct{ echo.Echo }

func (localEcho) Unary(_ context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	return &echo.EchoReply{Message: req.Message + ", from a local service"}, nil
}
