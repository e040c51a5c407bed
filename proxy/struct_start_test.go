package proxy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// TestStructStartUpErrors: what would never do anything, or could not, is refused
// with a sentence that says so, by everything that takes a configuration.
func TestStructStartUpErrors(t *testing.T) {
	echoed := filter.KitexService(echosvc.NewServiceInfo())
	request := func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict { return filter.Forward }
	route := func(match conf.Match, mode conf.Mode) conf.Route {
		return conf.Route{Match: match, Action: conf.Action{Cluster: "c", Mode: mode, Undecodable: conf.UndecodableReject}}
	}
	service, method := conf.Match{Service: "kitexproxy.echo.v1.Echo"}, conf.Match{Method: structKinds[0].full()}
	for name, test := range map[string]struct {
		routes   []conf.Route
		fallback *conf.Action
		services []*filter.Service
		filters  []*filter.Filter
		says     []string
	}{
		"filter of a method in mode frame": {
			[]conf.Route{route(service, conf.ModeFrame)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{structUnary.OnRequest(request)},
			[]string{"filter ", "TestStructStartUpErrors", structKinds[0].full(), "goes by routes[0], which has mode: frame; write mode: struct there"},
		},
		"filter of a method in the default's mode frame": {
			nil, &conf.Action{Cluster: "c", Mode: conf.ModeFrame, Undecodable: conf.UndecodableReject},
			[]*filter.Service{echoed},
			[]*filter.Filter{structUnary.OnRequest(request)},
			[]string{structKinds[0].full(), "goes by default, which has mode: frame"},
		},
		"filter of a method whose own route has mode frame": {
			[]conf.Route{route(method, conf.ModeFrame), route(service, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{structChat.OnRequest(request), structUnary.OnRequest(request)},
			[]string{structKinds[0].full(), "goes by routes[0], which has mode: frame"},
		},
		"filter of a method that no route takes": {
			[]conf.Route{route(method, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{structChat.OnRequest(request)},
			[]string{"no route takes its method " + structKinds[3].full() + "; add one with mode: struct"},
		},
		"filter of a method that does not exist": {
			[]conf.Route{route(service, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Speak").OnRequest(request)},
			[]string{"no registered service has the method /kitexproxy.echo.v1.Echo/Speak", "the service's methods are Chat, Collect, Expand, Unary"},
		},
		"filter of another type": {
			[]conf.Route{route(service, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{filter.For[echo.EchoRequest, testpb.Empty](structKinds[0].full()).OnRequest(request)},
			[]string{"the response messages of " + structKinds[0].full() + " are echo.EchoReply, not grpc_testing.Empty"},
		},
		"mode struct for a service that nobody knows": {
			[]conf.Route{route(conf.Match{Service: "other.Service"}, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			nil,
			[]string{"routes[0]", "mode: struct", "no types for service other.Service"},
		},
		"mode struct for a service whose name another begins with": {
			[]conf.Route{route(conf.Match{Service: "kitexproxy.echo.v1.Ech"}, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			nil,
			[]string{"no types for service kitexproxy.echo.v1.Ech;"},
		},
		"mode struct for a method that nobody knows": {
			[]conf.Route{route(service, conf.ModeStruct), route(conf.Match{Method: "/other.Service/Method"}, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			nil,
			[]string{"routes[1]", "no types for method /other.Service/Method"},
		},
		"mode struct without any service": {
			[]conf.Route{route(service, conf.ModeStruct)},
			nil, nil, nil,
			[]string{"routes[0]", "no types for service kitexproxy.echo.v1.Echo", "proxy.WithServices"},
		},
		"several things": {
			[]conf.Route{route(service, conf.ModeFrame), route(conf.Match{Service: "other.Service"}, conf.ModeStruct)},
			nil,
			[]*filter.Service{echoed},
			[]*filter.Filter{structUnary.OnRequest(request), structChat.OnRequest(request)},
			[]string{structKinds[0].full(), structKinds[3].full(), "other.Service"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := faultConfig(loopback.Free(t))
			cfg.Clusters = map[string]*conf.Cluster{"c": {Instances: []string{loopback.Free(t)}, Connections: 1}}
			cfg.Routes, cfg.Default = test.routes, test.fallback
			opts := []proxy.Option{proxy.WithServices(test.services...), proxy.WithFilters(test.filters...)}
			_, errNew := proxy.New(cfg, opts...)
			_, errRelay := proxy.NewRelay(cfg, opts...)
			_, errPlan := proxy.Plan(cfg, opts...)
			for _, err := range []error{errNew, errRelay, errPlan} {
				require.Error(t, err)
				for _, s := range test.says {
					require.ErrorContains(t, err, s)
				}
			}
		})
	}
}

// TestStructPlan names the filters of each method, in the order in which a call
// comes by them.
func TestStructPlan(t *testing.T) {
	cfg := structConfig(loopback.Free(t), loopback.Free(t))
	plans, err := proxy.Plan(cfg, proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())),
		proxy.WithFilters(structUnary.OnResponse(structSigh), structUnary.OnRequest(structShout), structUnary.OnRequest(structShout)))
	require.NoError(t, err)
	byMethod := make(map[string]proxy.MethodPlan)
	for _, p := range plans {
		byMethod[p.Method] = p
	}
	const shout, sigh = module + "/proxy_test.structShout", module + "/proxy_test.structSigh"
	require.Equal(t, proxy.MethodPlan{
		Method: structKinds[0].full(), Route: "routes[0]", Mode: conf.ModeStruct, Cluster: "default", Schema: "generated",
		Filters: []string{"request " + shout, "request " + shout, "response " + sigh},
	}, byMethod[structKinds[0].full()])
	require.Empty(t, byMethod[structKinds[3].full()].Filters)
	require.Equal(t, conf.ModeFrame, byMethod["*"].Mode)
}

func structShout(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
	m.Message += "!"
	return filter.Changed
}

func structSigh(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
	m.Message += "..."
	return filter.Changed
}

// TestStructNoOtherPathToAMethod: servers may take these for the method, so that
// they must not go past its filters by the default route.
func TestStructNoOtherPathToAMethod(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(t, d, func(cfg *conf.Config) {
				cfg.Default = &conf.Action{Cluster: "default", Mode: conf.ModeFrame}
			}, structUnary.OnStart(func(context.Context, *filter.Call) filter.Verdict { return filter.Reject(codes.Aborted, "no") }))
			client, err := rawh2.Dial(s.safe(), s.addr, rawh2.Options{})
			require.NoError(t, err)
			t.Cleanup(client.Close)
			for _, path := range []string{"kitexproxy.echo.v1.Echo/Unary", "//kitexproxy.echo.v1.Echo/Unary", "/Unary", "Unary", "/"} {
				call, err := client.NewStream(rawh2.RequestFields(path, s.addr), false)
				require.NoError(t, err)
				_ = call.Data(rawh2.Frame(0, nil), true) // Kitex resets what it does not like
				if reply, err := call.AwaitReply(s.safe()); err == nil {
					require.NotEqual(t, "0", reply.Trailer.Get("grpc-status"), path)
				}
			}
			require.Equal(t, codes.Aborted, s.exchange(s.safe(), structKinds[0], "a").code)
			require.Zero(t, s.backend.got("").calls)
		})
	}
}
