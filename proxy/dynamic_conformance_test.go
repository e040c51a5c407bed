package proxy_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// dynamicWay is a way through a proxy in dynamic mode, for the conformance suites:
// with a rule at each point of all calls, whose condition looks at a message where
// there is one.
type dynamicWay struct {
	transport string
	// reflected has the types of the interop service come from a backend, and not
	// from a file.
	reflected bool
	// changed has the rules change messages in ways that the suites' ends do not
	// mind.
	changed bool
	opts    handlertest.Options
}

var dynamicWays = map[string]dynamicWay{
	"native":     {transport: conf.TransportNative},
	"changed":    {transport: conf.TransportNative, changed: true},
	"reflection": {transport: conf.TransportNative, reflected: true},
	"kitex":      {transport: conf.TransportKitex, opts: notOnKitex},
}

func TestDynamicConformance(t *testing.T) {
	quietKitex()
	interop := handlertest.NewInterop(t)
	for name, way := range dynamicWays {
		t.Run(name, func(t *testing.T) {
			if way.transport == conf.TransportNative {
				t.Parallel() // as in TestConformance
			}
			if !way.changed && !way.reflected { // these do not concern its messages
				t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, way.target, way.opts) })
			}
			t.Run("Interop", func(t *testing.T) { interop.Suite(t, way.target, handlertest.Options{}) })
		})
	}
}

func TestDynamicKitexConformance(t *testing.T) {
	quietKitex()
	for name, way := range dynamicWays {
		if way.reflected {
			continue
		}
		t.Run(name, func(t *testing.T) { handlertest.SuiteKitex(t, way.target, handlertest.Options{}) })
	}
}

// anySource has a message that any valid encoding is one of, as the suite's
// messages are none of any type.
const anySource = `syntax = "proto3";
package conformance.v1;
service Conformance { rpc Call(stream Any) returns (stream Any); }
message Any {}
`

// proof is the metadata that makes a rule of a dynamicWay meet its condition.
const proof = "prove"

// provable is a rule at each point that does nothing but for calls with proof of
// it. request and response are expressions on messages that are never true.
func provable(request, response string) string {
	proven := func(name string) string { return fmt.Sprintf(`metadata[?"%s"].orValue("") == "%s"`, proof, name) }
	return fmt.Sprintf(`- {name: start, on: start, if: '%s', reject: {code: ABORTED}}
- {name: request, on: request, if: '%s || %s', reject: {code: ABORTED}}
- {name: header, on: header, if: '"absent" in header || %s', reject: {code: ABORTED}}
- {name: response, on: response, if: '%s || %s', reject: {code: ABORTED}}
- {name: end, on: end, if: 'code > 100 || %s', metadata: {set: {proved: '"yes"'}}}
`, proven("start"), request, proven("request"), proven("header"), response, proven("response"), proven("end"))
}

// The rules of the suites' services.
var (
	anyRules  = provable("message != Any{} && number < 0", "message != Any{} && number < 0")
	echoRules = provable(`message.message == "never said" && size(message.payload) == 1`, `message.sequence < 0 || message.message == "never said"`)
	// EmptyCall has messages without fields.
	interopRules = provable("message == message && number < 0", "message == message && number < 0") + `
- {name: size, on: request, method: UnaryCall, if: message.response_size < 0 && message.response_status.code < 0, clear: [payload]}
- {name: sizes, on: request, method: StreamingOutputCall, if: 'message.response_parameters.exists(p, p.size < -1)', clear: [payload]}
- {name: body, on: response, method: FullDuplexCall, if: size(message.payload.body) < 0, clear: [payload]}
- {name: sum, on: response, method: StreamingInputCall, if: message.aggregated_payload_size < 0, clear: [aggregated_payload_size]}
`
	// What nobody looks at may change.
	echoChanges = `
- {name: count unary, on: request, method: Unary, set: {count: message.count + 1}}
- {name: count collected, on: request, method: Collect, set: {count: message.count + number}}
- {name: count chat, on: request, method: Chat, set: {count: message.count + 1}}
`
	interopChanges = `
- {name: fill, on: request, method: UnaryCall, set: {fill_username: 'true'}}
- {name: name, on: response, method: UnaryCall, set: {username: '"changed"', hostname: method}}
- {name: expect, on: request, method: StreamingInputCall, set: {expect_compressed.value: 'true'}}
- {name: payload, on: request, method: FullDuplexCall, set: {payload.body: 'b"changed"'}}
- {name: payloads, on: request, method: StreamingOutputCall, set: {payload.body: 'b"changed"'}}
`
)

// config is the configuration of the way to a backend.
func (w dynamicWay) config(t testing.TB, backend string) *conf.Config {
	t.Helper()
	types, interop := backend, "descriptor_set: "+writeInteropSet(t)
	if w.reflected {
		types, interop = startInteropTypes(t), "reflection: {cluster: other}"
	}
	echoed, tested := echoRules, interopRules
	if w.changed {
		echoed, tested = echoed+echoChanges, tested+interopChanges
	}
	cfg := dynamicConfig(t, backend, types, `schemas:
  any: {files: [`+writeProto(t, anySource)+`]}
  echo: {files: [../idl/echo.proto]}
  interop: {`+interop+`}
routes:
`+routeOf("service: conformance.v1.Conformance", "any", anyRules)+
		routeOf("service: kitexproxy.echo.v1.Echo", "echo", echoed)+
		routeOf("service: grpc.testing.TestService", "interop", tested)+
		"default: {cluster: main}\n")
	cfg.Transport = w.transport
	for i := range cfg.Routes {
		cfg.Routes[i].MessageLimit = 1<<32 - 1
	}
	cfg.Routes[0].Undecodable = conf.UndecodableForward // the suite sends bytes that are no protobuf at all
	return cfg
}

// target puts a proxy of its own before each backend.
func (w dynamicWay) target(t *testing.T, backend string) string {
	p, err := proxy.New(w.config(t, backend), proxy.WithLogger(faultLogger()))
	require.NoError(t, err)
	return serveWay(t, p)
}

// TestDynamicConformanceHasRules: the rules of the ways are those that run, at each
// point of each method.
func TestDynamicConformanceHasRules(t *testing.T) {
	quietKitex()
	methods := []string{"/conformance.v1.Conformance/Call"}
	for _, m := range []string{"Unary", "Collect", "Expand", "Chat"} {
		methods = append(methods, echoPrefix+m)
	}
	for _, m := range []string{"EmptyCall", "UnaryCall", "StreamingOutputCall", "StreamingInputCall", "FullDuplexCall"} {
		methods = append(methods, "/grpc.testing.TestService/"+m)
	}
	for name, way := range dynamicWays {
		t.Run(name, func(t *testing.T) {
			client, err := grpc.NewClient("passthrough:///"+way.target(t, startGRPCEcho(t).addr), faultDialOptions()...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			for _, method := range methods {
				for _, point := range []string{"", "start", "request", "header", "response", "end"} {
					ctx := t.Context()
					if point != "" {
						ctx = metadata.AppendToOutgoingContext(ctx, proof, point)
					}
					s, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
					require.NoError(t, err)
					var m []byte
					if err := s.SendMsg(&m); err != io.EOF { // which is a call that has been rejected by now
						require.NoError(t, err)
					}
					require.NoError(t, s.CloseSend())
					o := finish(s)
					switch point {
					case "":
						require.Equal(t, codes.OK, o.code, "%s: %s", method, o.message)
						require.Empty(t, o.trailer.Get("proved"))
					case "end":
						require.Equal(t, codes.OK, o.code, "%s: %s", method, o.message)
						require.Equal(t, []string{"yes"}, o.trailer.Get("proved"))
					default:
						require.Equal(t, codes.Aborted, o.code, "%s at %s: %s", method, point, o.message)
						require.Equal(t, fmt.Sprintf("rejected by rule %q", point), o.message)
					}
				}
			}
		})
	}
}

// TestDynamicConformanceChanges: the changing way changes what the interop
// programs send each other.
func TestDynamicConformanceChanges(t *testing.T) {
	got := make(chan *testpb.SimpleRequest, 1)
	address := loopback.Serve(t, func(s *grpc.Server) { testpb.RegisterTestServiceServer(s, unaryServer{got: got}) })
	client, err := grpc.NewClient("passthrough:///"+dynamicWays["changed"].target(t, address),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	reply, err := testpb.NewTestServiceClient(client).UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseSize: 7})
	require.NoError(t, err)
	require.Equal(t, "changed", reply.Username)
	require.Equal(t, "/grpc.testing.TestService/UnaryCall", reply.Hostname)
	request := <-got
	require.True(t, request.FillUsername)
	require.EqualValues(t, 7, request.ResponseSize)
}

type unaryServer struct {
	testpb.UnimplementedTestServiceServer
	got chan *testpb.SimpleRequest
}

func (u unaryServer) UnaryCall(_ context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	u.got <- r
	return &testpb.SimpleResponse{}, nil
}

// writeInteropSet writes the descriptor set of gRPC's interop service, and returns
// its path.
func writeInteropSet(t testing.TB) string {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(testpb.File_grpc_testing_test_proto)
	b, err := proto.Marshal(set)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "interop.binpb")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// startInteropTypes runs a server of grpc-go that tells the types of the interop
// service, and returns its address: the official server does not.
func startInteropTypes(t testing.TB) string {
	t.Helper()
	return startWitness(t, "types", func(s *grpc.Server) {
		testpb.RegisterTestServiceServer(s, testpb.UnimplementedTestServiceServer{})
		reflection.Register(s)
	}).addr
}
