package proxytest

import (
	"bytes"
	"context"
	"sync"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
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

// Asked counts how often the filters of the ways are asked.
var Asked = Counts{n: make(map[At]int)}

// Counts counts by method and point. It may be used concurrently.
type Counts struct {
	mu sync.Mutex
	n  map[At]int
}

// At is a point of a method.
type At struct {
	Method string
	Point  filter.Point
}

func (a *Counts) add(c *filter.Call, at filter.Point, v filter.Verdict) filter.Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n[At{c.Method(), at}]++
	return v
}

// Take returns the counts and begins again at 0.
func (a *Counts) Take() map[At]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.n
	a.n = make(map[At]int)
	return n
}

// all returns a filter at each point of a method.
func all[Req, Resp any](m filter.Method[Req, Resp], verdict filter.Verdict) []*filter.Filter {
	forward := filter.Forward
	return []*filter.Filter{
		m.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict {
			return Asked.add(c, filter.AtStart, forward)
		}),
		m.OnRequest(func(_ context.Context, c *filter.Call, _ *Req) filter.Verdict {
			return Asked.add(c, filter.AtRequest, verdict)
		}),
		m.OnHeader(func(_ context.Context, c *filter.Call) filter.Verdict {
			return Asked.add(c, filter.AtHeader, forward)
		}),
		m.OnResponse(func(_ context.Context, c *filter.Call, _ *Resp) filter.Verdict {
			return Asked.add(c, filter.AtResponse, verdict)
		}),
		m.OnEnd(func(_ context.Context, c *filter.Call, _ *filter.End) { Asked.add(c, filter.AtEnd, forward) }),
	}
}
