package proxy_test

import (
	"context"
	"testing"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// A service that is proxied in part is beside one of the server's own, with methods of
// the same names.
func TestRegisterServiceBesideALocalOne(t *testing.T) {
	quietKitex()
	backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
	relay := proxytest.NewRelay(t, conf.Default(), proxy.WithDirector(proxytest.AllTo(pool, backend.address)))
	for name, opts := range map[string][]server.Option{"kitex": nil, "native": relay.ServerOptions()} {
		t.Run(name, func(t *testing.T) {
			address := proxytest.Run(t, func(more ...server.Option) server.Server {
				svr := echoservice.NewServer(&localEcho{}, append(opts, more...)...)
				require.NoError(t, proxy.RegisterService(svr, proxytest.AllTo(pool, backend.address), "company.Orders", "Get", "Unary"))
				return svr
			})
			cli, err := echoservice.NewClient("echo", client.WithHostPorts(address))
			require.NoError(t, err)
			reply, err := cli.Unary(directedContext(t), &echo.EchoRequest{Message: "hello"})
			require.NoError(t, err)
			require.Equal(t, "hello, from a local service", reply.Message)
			c := dialDirected(t, address)
			c.requireName(directedContext(t), "/company.Orders/Get", "a")
			c.requireName(directedContext(t), "/company.Orders/Unary", "a")
			for _, method := range []string{"/company.Orders/Put", "/other.Orders/Get"} {
				_, _, err := c.call(directedContext(t), method)
				requireStatus(t, err, codes.Unimplemented, method)
			}
		})
	}
}

func TestRegisterServiceChecksNames(t *testing.T) {
	svr := echoservice.NewServer(&localEcho{})
	director := func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
		return ctx, proxy.Target{}, nil
	}
	for _, test := range []struct {
		service string
		methods []string
		want    string
	}{
		{"", []string{"Get"}, "no service name"},
		{"/company.Orders", []string{"Get"}, "no service name"},
		{"company..Orders", []string{"Get"}, "no service name"},
		{"company.Orders", nil, "no methods"},
		{"company.Orders", []string{""}, `"" is no method name`},
		{"company.Orders", []string{"Get", "A/B"}, `"A/B" is no method name`},
		{"company.Orders", []string{"Get", "Put", "Get"}, "Get is there twice"},
		{"company.Echo", []string{"Get"}, `a service "Echo" already`},
	} {
		require.ErrorContains(t, proxy.RegisterService(svr, director, test.service, test.methods...), test.want)
	}
	require.NoError(t, proxy.RegisterService(svr, director, "company.Orders", "Get"))
	require.ErrorContains(t, proxy.RegisterService(svr, director, "other.Orders", "Get"), "already")
}

// byMethod sends some methods elsewhere.
type byMethod struct{ configured *proxy.Routes }

func (b byMethod) Resolve(c *resolver.Call) *resolver.Target {
	key := ""
	if c.Metadata != nil {
		key, _ = c.Metadata.Value("x-to", 0)
	}
	switch {
	case c.Method == "/company.Orders/Panic":
		panic("oops")
	case c.Method == "/company.Orders/None":
		return b.configured.To("nowhere")
	case c.Method == "/company.Orders/Put", key == "b":
		return b.configured.To("b")
	default:
		return b.configured.Resolve(c)
	}
}

func TestWithResolver(t *testing.T) {
	quietKitex()
	a, b := startDirectedBackend(t, "a"), startDirectedBackend(t, "b")
	for _, transport := range []string{conf.TransportNative, conf.TransportKitex} {
		t.Run(transport, func(t *testing.T) {
			cfg := conf.Default()
			cfg.Transport = transport
			cfg.Clusters = map[string]*conf.Cluster{"a": conf.NewCluster(a.address), "b": conf.NewCluster(b.address)}
			cfg.Default = &conf.Action{Cluster: "a", Mode: conf.ModeFrame}
			relay := proxytest.NewRelay(t, cfg, proxy.WithResolver(func(r *proxy.Routes) handler.Resolver { return byMethod{r} }))
			client := dialDirected(t, proxytest.RunWithEcho(t, relay.ServerOptions()...))
			for range 2 { // with what a panic has left behind, if anything
				client.requireName(directedContext(t), directedMethod, "a")
				client.requireName(directedContext(t), "/company.Orders/Put", "b")
				client.requireName(directedContext(t, "x-to", "b"), directedMethod, "b")
				_, _, err := client.call(directedContext(t), "/company.Orders/Panic")
				requireStatus(t, err, codes.Internal, "internal error")
				_, _, err = client.call(directedContext(t), "/company.Orders/None")
				requireStatus(t, err, codes.Unimplemented, "no route")
			}
		})
	}
}
