package proxy_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/server"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// A Kitex server with a service of its own becomes a proxy for everything
// else: give it the relay's ServerOptions, or just its Unknown with
// WithGRPCUnknownServiceHandler.
func ExampleRelay() {
	cfg := conf.Default()
	cfg.Clusters = map[string]*conf.Cluster{"orders": {Instances: []string{"127.0.0.1:9000"}, Connections: 4}}
	cfg.Default = &conf.Action{Cluster: "orders", Mode: conf.ModeFrame}
	relay, err := proxy.NewRelay(cfg)
	if err != nil {
		log.Fatal(err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	stop := make(chan error)
	svr := echoservice.NewServer(&localEcho{}, append(relay.ServerOptions(),
		server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return stop }),
	)...)
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }() // ends with stop

	// The service registered here is still served here.
	cli, err := echoservice.NewClient("echo", client.WithHostPorts(ln.Addr().String()))
	if err != nil {
		log.Fatal(err)
	}
	reply, err := cli.Unary(context.Background(), &echo.EchoRequest{Message: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Message)

	close(stop)
	<-stopped
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	relay.Shutdown(ctx)
	// Output: hello, from a local service
}

type localEcho struct{ echo.Echo }

func (localEcho) Unary(_ context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	return &echo.EchoReply{Message: req.Message + ", from a local service"}, nil
}
