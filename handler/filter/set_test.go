package filter

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

func interopService() *Service {
	return ProtoService(testpb.File_grpc_testing_test_proto.Services().ByName("TestService"))
}

// plain is no message: it has neither Marshal nor Unmarshal.
type plain struct{ Field int }

type (
	plainArgs   struct{ Req *plain }
	plainResult struct{ Success *plain }
)

// kitexInfo is the ServiceInfo of a service "p.S" with a method "M".
func kitexInfo(payload serviceinfo.PayloadCodec, args, result any) *serviceinfo.ServiceInfo {
	return &serviceinfo.ServiceInfo{
		ServiceName: "S", PayloadCodec: payload, Extra: map[string]any{"PackageName": "p"},
		Methods: map[string]serviceinfo.MethodInfo{
			"M": serviceinfo.NewMethodInfo(nil, func() any { return args }, func() any { return result }, false),
		},
	}
}

// lets returns a filter of the requests of a method that changes nothing.
func lets[Req, Resp any](method string) *Filter {
	return For[Req, Resp](method).OnRequest(func(context.Context, *Call, *Req) Verdict { return Forward })
}

func TestNewSetSaysWhatDoesNotFit(t *testing.T) {
	good := lets[echo.EchoRequest, echo.EchoReply](unaryName)
	for name, test := range map[string]struct {
		services []*Service
		filters  []*Filter
		says     []string
	}{
		"method that does not exist": {
			[]*Service{echoService},
			[]*Filter{lets[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Uinary")},
			[]string{"filter.lets", "no registered service has the method /kitexproxy.echo.v1.Echo/Uinary", "the service's methods are Chat, Collect, Expand, Unary"},
		},
		"service that is not registered": {
			[]*Service{interopService()},
			[]*Filter{good},
			[]string{unaryName, "register the service with its ServiceInfo"},
		},
		"no service at all": {nil, []*Filter{good}, []string{unaryName, "register the service with its ServiceInfo"}},
		"method that is no full name": {
			[]*Service{echoService},
			[]*Filter{lets[echo.EchoRequest, echo.EchoReply]("Unary")},
			[]string{"no registered service has the method Unary"},
		},
		"other type of the request": {
			[]*Service{echoService},
			[]*Filter{lets[echo.EchoReply, echo.EchoReply](unaryName)},
			[]string{"the request messages of " + unaryName + " are echo.EchoRequest, not echo.EchoReply"},
		},
		"other type of the response": {
			[]*Service{echoService},
			[]*Filter{lets[echo.EchoRequest, echo.EchoRequest](unaryName)},
			[]string{"the response messages of " + unaryName + " are echo.EchoReply, not echo.EchoRequest"},
		},
		"pointer to the type": {
			[]*Service{echoService},
			[]*Filter{lets[*echo.EchoRequest, echo.EchoReply](unaryName)},
			[]string{"the request messages of " + unaryName + " are echo.EchoRequest, not *echo.EchoRequest"},
		},
		"filter without types": {
			[]*Service{echoService},
			[]*Filter{New(unaryName, AtStart, "untyped", func(context.Context, *Call, any) Verdict { return Forward })},
			[]string{"filter untyped", "are echo.EchoRequest, not <nil>"},
		},
		"nil function": {
			[]*Service{echoService},
			[]*Filter{unary.OnResponse(nil)},
			[]string{"filter nil", "its function for " + unaryName + " is nil"},
		},
		"service twice": {
			[]*Service{echoService, echoService},
			nil,
			[]string{"service kitexproxy.echo.v1.Echo is registered twice"},
		},
		"service of another codec": {
			[]*Service{KitexService(kitexInfo(serviceinfo.Thrift, &plainArgs{}, &plainResult{}))},
			nil,
			[]string{"service p.S", "its messages are Thrift, not protobuf"},
		},
		"service that another kitex generated": {
			[]*Service{KitexService(kitexInfo(serviceinfo.Protobuf, &struct{ Request *plain }{}, &plainResult{}))},
			nil,
			[]string{"service p.S", "method M is not as the kitex of this proxy generates it"},
		},
		"service without a type for its results": {
			[]*Service{KitexService(kitexInfo(serviceinfo.Protobuf, &plainArgs{}, nil))},
			nil,
			[]string{"service p.S", "method M is not as the kitex of this proxy generates it"},
		},
		// What the package of a kitex service has for a kind of client.
		"service info without methods": {
			[]*Service{KitexService(echosvc.NewServiceInfoForClient())},
			nil,
			[]string{"service kitexproxy.echo.v1.Echo", "has no methods; use the NewServiceInfo of its package"},
		},
		"type that is no message": {
			[]*Service{KitexService(kitexInfo(serviceinfo.Protobuf, &plainArgs{}, &plainResult{}))},
			[]*Filter{lets[plain, plain]("/p.S/M")},
			[]string{"filter.plain is no message", "neither a proto.Message nor has it the Marshal and Unmarshal that kitex generates"},
		},
		"descriptor of messages that the program has no type for": {
			[]*Service{ProtoService(unknownService(t))},
			nil,
			[]string{"service unknown.S", "method M", "no Go type for message unknown.Nobody"},
		},
		"everything at once": {
			[]*Service{echoService, KitexService(kitexInfo(serviceinfo.Thrift, nil, nil))},
			[]*Filter{good, unary.OnStart(nil), lets[plain, plain](chatName)},
			[]string{"Thrift", "its function for " + unaryName + " is nil", "the request messages of " + chatName, "the response messages of " + chatName},
		},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := NewSet(test.services, test.filters)
			require.Error(t, err)
			require.Nil(t, set)
			for _, s := range test.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

// unknownService is a service of messages that only a descriptor knows.
func unknownService(t *testing.T) protoreflect.ServiceDescriptor {
	name := func(s string) *string { return &s }
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: name("unknown.proto"), Package: name("unknown"), Syntax: name("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: name("Nobody")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:   name("S"),
			Method: []*descriptorpb.MethodDescriptorProto{{Name: name("M"), InputType: name(".unknown.Nobody"), OutputType: name(".unknown.Nobody")}},
		}},
	}, nil)
	require.NoError(t, err)
	return file.Services().Get(0)
}

// A service may be known by both of its forms, and a filter of any method and
// point be given.
func TestServicesKnowKindsAndTypes(t *testing.T) {
	type kind struct{ client, server bool }
	streams := map[string]kind{
		unaryName: {}, collectName: {client: true}, expandName: {server: true}, chatName: {true, true},
		"/grpc.testing.TestService/UnaryCall":           {},
		"/grpc.testing.TestService/StreamingInputCall":  {client: true},
		"/grpc.testing.TestService/StreamingOutputCall": {server: true},
		"/grpc.testing.TestService/FullDuplexCall":      {true, true},
	}
	type out = testpb.StreamingOutputCallRequest
	set, err := NewSet([]*Service{echoService, interopService()}, []*Filter{
		lets[echo.EchoRequest, echo.EchoReply](unaryName),
		lets[echo.EchoRequest, echo.EchoReply](collectName),
		lets[echo.EchoRequest, echo.EchoReply](expandName),
		lets[echo.EchoRequest, echo.EchoReply](chatName),
		lets[testpb.SimpleRequest, testpb.SimpleResponse]("/grpc.testing.TestService/UnaryCall"),
		lets[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]("/grpc.testing.TestService/StreamingInputCall"),
		lets[out, testpb.StreamingOutputCallResponse]("/grpc.testing.TestService/StreamingOutputCall"),
		lets[out, testpb.StreamingOutputCallResponse]("/grpc.testing.TestService/FullDuplexCall"),
	})
	require.NoError(t, err)
	for method, want := range streams {
		chain := set.Chain(method)
		require.NotNil(t, chain, method)
		require.Equal(t, want, kind{chain.Streams(Request), chain.Streams(Response)}, method)
		require.Equal(t, !want.client, chain.AwaitsFirst(), "a request of one message is looked at before its backend is asked")
		require.True(t, chain.Filtered(Request))
		require.False(t, chain.Filtered(Response))
	}
	var with []string
	for chain := range set.Chains() {
		with = append(with, chain.Method())
	}
	require.Len(t, with, len(streams))
	require.True(t, slices.IsSorted(with))

	require.Equal(t, "kitexproxy.echo.v1.Echo", echoService.Name())
	require.Equal(t, "grpc.testing.TestService", interopService().Name())
}

func TestSetKnowsMethodsWithoutFilters(t *testing.T) {
	set, err := NewSet([]*Service{echoService}, []*Filter{lets[echo.EchoRequest, echo.EchoReply](chatName)})
	require.NoError(t, err)
	require.Equal(t, []string{chatName, collectName, expandName, unaryName}, slices.Collect(set.Methods()))
	require.True(t, set.Knows(unaryName))
	require.Nil(t, set.Chain(unaryName), "no filter, no cost")
	require.False(t, set.Knows("/kitexproxy.echo.v1.Echo/Other"))
	for range set.Chains() {
		break // ranging may end early
	}

	var none *Set
	require.False(t, none.Knows(unaryName))
	require.Nil(t, none.Chain(unaryName))
	require.Empty(t, slices.Collect(none.Methods()))
	for range none.Chains() {
		t.Fatal("a set that is nil has no chains")
	}
}

func TestServiceWithoutAPackage(t *testing.T) {
	info := kitexInfo(serviceinfo.Protobuf, &echosvc.UnaryArgs{}, &echosvc.UnaryResult{})
	info.Extra = nil
	require.Equal(t, "S", KitexService(info).Name())
	info.PackageName = "older"
	require.Equal(t, "older.S", KitexService(info).Name())
}

func TestFiltersSayWhatTheyAre(t *testing.T) {
	f := unary.OnRequest(shout)
	require.Equal(t, unaryName, f.Method())
	require.Equal(t, AtRequest, f.Point())
	require.Equal(t, "github.com/kitexproxy/kitexproxy/handler/filter.shout", f.String())
	for point, name := range map[Point]string{AtStart: "start", AtRequest: "request", AtHeader: "header", AtResponse: "response", AtEnd: "end"} {
		require.Equal(t, name, point.String())
	}
	require.Equal(t, "request", Request.String())
	require.Equal(t, "response", Response.String())

	// A chain lists them as a call comes by them, whatever the order in which
	// they were given.
	hook := func(context.Context, *Call) Verdict { return Forward }
	chain := chainOf(t, unaryName,
		unary.OnEnd(func(context.Context, *Call, *End) {}), unary.OnHeader(hook), unary.OnRequest(shout), unary.OnStart(hook),
		unary.OnResponse(func(context.Context, *Call, *echo.EchoReply) Verdict { return Forward }))
	var points []string
	for _, f := range chain.Filters() {
		points = append(points, f.Point().String())
	}
	require.Equal(t, []string{"start", "request", "header", "response", "end"}, points)
}

func shout(_ context.Context, _ *Call, m *echo.EchoRequest) Verdict {
	m.Message += "!"
	return Changed
}

// A message that is a proto.Message is not taken for one of kitex, whatever
// methods it has besides.
func TestProtoMessagesKeepUnknownFields(t *testing.T) {
	const method = "/grpc.testing.TestService/EmptyCall"
	set, err := NewSet([]*Service{interopService()}, []*Filter{
		For[testpb.Empty, testpb.Empty](method).OnRequest(func(context.Context, *Call, *testpb.Empty) Verdict { return Changed }),
	})
	require.NoError(t, err)
	unknown := []byte{0x9a, 0x06, 3, 'a', 'b', 'c'} // field 99
	out, err := begin(set.Chain(method)).Messages(t.Context(), Request, unknown, nil)
	require.NoError(t, err)
	require.Equal(t, []Message{{Payload: unknown}}, out)

	require.Equal(t, "emptypb.Empty", must(codecOf(reflect.TypeFor[emptypb.Empty]())).Name())
}
