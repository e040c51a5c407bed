package proxy_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// anything is a message that any bytes are an encoding of, as the suite's are.
type anything struct{ bytes []byte }

func (a *anything) Marshal(b []byte) ([]byte, error) { return append(b, a.bytes...), nil }

func (a *anything) Unmarshal(b []byte) error {
	a.bytes = bytes.Clone(b)
	return nil
}

// The types of its only method, as kitex would generate them.
type (
	anyArgs   struct{ Req *anything }
	anyResult struct{ Success *anything }
)

var anyService = filter.KitexService(&serviceinfo.ServiceInfo{
	ServiceName:  "Conformance",
	PayloadCodec: serviceinfo.Protobuf,
	Extra:        map[string]any{"PackageName": "conformance.v1"},
	Methods: map[string]serviceinfo.MethodInfo{
		"Call": serviceinfo.NewMethodInfo(nil, func() any { return &anyArgs{} }, func() any { return &anyResult{} }, false,
			serviceinfo.WithStreamingMode(serviceinfo.StreamingBidirectional)),
	},
})

// structOptions register the services of the suites, with filters of every
// method and point that decide as told.
func structOptions(verdict filter.Verdict) []proxy.Option {
	const interop, echoed = "/grpc.testing.TestService/", "/kitexproxy.echo.v1.Echo/"
	return []proxy.Option{
		proxy.WithServices(
			anyService,
			filter.KitexService(echosvc.NewServiceInfo()),
			filter.ProtoService(testpb.File_grpc_testing_test_proto.Services().ByName("TestService")),
		),
		proxy.WithFilters(all(filter.For[anything, anything]("/conformance.v1.Conformance/Call"), verdict)...),
		proxy.WithFilters(all(filter.For[echo.EchoRequest, echo.EchoReply](echoed+"Unary"), verdict)...),
		proxy.WithFilters(all(filter.For[echo.EchoRequest, echo.EchoReply](echoed+"Collect"), verdict)...),
		proxy.WithFilters(all(filter.For[echo.EchoRequest, echo.EchoReply](echoed+"Expand"), verdict)...),
		proxy.WithFilters(all(filter.For[echo.EchoRequest, echo.EchoReply](echoed+"Chat"), verdict)...),
		proxy.WithFilters(all(filter.For[testpb.Empty, testpb.Empty](interop+"EmptyCall"), verdict)...),
		proxy.WithFilters(all(filter.For[testpb.SimpleRequest, testpb.SimpleResponse](interop+"UnaryCall"), verdict)...),
		proxy.WithFilters(all(filter.For[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse](interop+"StreamingOutputCall"), verdict)...),
		proxy.WithFilters(all(filter.For[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse](interop+"StreamingInputCall"), verdict)...),
		proxy.WithFilters(all(filter.For[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse](interop+"FullDuplexCall"), verdict)...),
	}
}

// waysAsked counts how often the filters of the ways are asked.
var waysAsked = askedCounts{n: make(map[askedAt]int)}

type askedCounts struct {
	mu sync.Mutex
	n  map[askedAt]int
}

type askedAt struct {
	method string
	point  filter.Point
}

func (a *askedCounts) add(c *filter.Call, at filter.Point, v filter.Verdict) filter.Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n[askedAt{c.Method(), at}]++
	return v
}

// take returns the counts and begins again at 0.
func (a *askedCounts) take() map[askedAt]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.n
	a.n = make(map[askedAt]int)
	return n
}

// all returns a filter at each point of a method.
func all[Req, Resp any](m filter.Method[Req, Resp], verdict filter.Verdict) []*filter.Filter {
	forward := filter.Forward
	return []*filter.Filter{
		m.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict {
			return waysAsked.add(c, filter.AtStart, forward)
		}),
		m.OnRequest(func(_ context.Context, c *filter.Call, _ *Req) filter.Verdict {
			return waysAsked.add(c, filter.AtRequest, verdict)
		}),
		m.OnHeader(func(_ context.Context, c *filter.Call) filter.Verdict {
			return waysAsked.add(c, filter.AtHeader, forward)
		}),
		m.OnResponse(func(_ context.Context, c *filter.Call, _ *Resp) filter.Verdict {
			return waysAsked.add(c, filter.AtResponse, verdict)
		}),
		m.OnEnd(func(_ context.Context, c *filter.Call, _ *filter.End) { waysAsked.add(c, filter.AtEnd, forward) }),
	}
}

// TestStructWaysHaveFilters: the filters of the ways are asked, once at each point
// of each method of the suites, and the ways that say so encode messages anew.
func TestStructWaysHaveFilters(t *testing.T) {
	quietKitex()
	methods := []string{"/conformance.v1.Conformance/Call"}
	for _, k := range structKinds {
		methods = append(methods, k.full())
	}
	for _, name := range []string{"EmptyCall", "UnaryCall", "StreamingInputCall", "StreamingOutputCall", "FullDuplexCall"} {
		methods = append(methods, "/grpc.testing.TestService/"+name)
	}
	tried := 0
	for name, way := range ways {
		if way.filters == nil {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			client, err := grpc.NewClient("passthrough:///"+way.target(t, startGRPCEcho(t).addr), faultDialOptions()...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			const echoed = "\x18\x00" // a field that need not be there
			for _, method := range methods {
				waysAsked.take()
				ctx, cancel := context.WithTimeout(t.Context(), faultSafety)
				defer cancel()
				request, reply := []byte{}, []byte{}
				if method == structKinds[3].full() {
					request = []byte(echoed)
				}
				require.NoError(t, client.Invoke(ctx, method, &request, &reply), method)
				asked := waysAsked.take()
				for _, at := range []filter.Point{filter.AtStart, filter.AtRequest, filter.AtHeader, filter.AtResponse, filter.AtEnd} {
					require.Equal(t, 1, asked[askedAt{method, at}], "%s at %s", method, at)
				}
				require.Len(t, asked, 5)
				if len(request) > 0 {
					require.Equal(t, name != "struct, changed", string(reply) == echoed)
				}
			}
		})
	}
	require.Equal(t, 4, tried)
}
