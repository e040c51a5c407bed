package proxytest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/idl"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// DynamicWay is a way through a proxy in dynamic mode: with a rule at each point of all
// calls, whose condition looks at a message where there is one.
type DynamicWay struct {
	Transport string
	// Reflected has the types of the interop service come from a backend, and not
	// from a file.
	Reflected bool
	// Changed has the rules change messages in ways that the suites' ends do not
	// mind.
	Changed bool
	// Options say what the suites cannot ask of it.
	Options handlertest.Options
}

// DynamicWays are the ways in dynamic mode.
var DynamicWays = map[string]DynamicWay{
	"native":     {Transport: conf.TransportNative},
	"changed":    {Transport: conf.TransportNative, Changed: true},
	"reflection": {Transport: conf.TransportNative, Reflected: true},
	"kitex":      {Transport: conf.TransportKitex, Options: notOnKitex},
}

// anySource has a message that any valid encoding is one of, as the suite's
// messages are none of any type.
const anySource = `syntax = "proto3";
package conformance.v1;
service Conformance { rpc Call(stream Any) returns (stream Any); }
message Any {}
`

// Proof is the metadata that makes a rule of a DynamicWay meet its condition: its value
// is the rule's name, which is its point's.
const Proof = "prove"

// provable is a rule at each point that does nothing but for calls with proof of
// it. request and response are expressions on messages that are never true.
func provable(request, response string) string {
	proven := func(name string) string { return fmt.Sprintf(`metadata[?"%s"].orValue("") == "%s"`, Proof, name) }
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
func (w DynamicWay) config(t testing.TB, backend string) *conf.Config {
	t.Helper()
	types, interop := backend, "descriptor_set: "+writeInteropSet(t)
	if w.Reflected {
		types, interop = startInteropTypes(t), "reflection: {cluster: other}"
	}
	echoed, tested := echoRules, interopRules
	if w.Changed {
		echoed, tested = echoed+echoChanges, tested+interopChanges
	}
	cfg, err := conf.Parse("proxy.yaml", []byte(`listeners: [{address: '127.0.0.1:0'}]
clusters:
  main: {instances: ['`+backend+`']}
  other: {instances: ['`+types+`']}
schemas:
  any: {files: [`+write(t, "any.proto", []byte(anySource))+`]}
  echo: {files: [`+write(t, "echo.proto", idl.Echo)+`]}
  interop: {`+interop+`}
routes:
`+Route("service: conformance.v1.Conformance", "any", anyRules)+
		Route("service: kitexproxy.echo.v1.Echo", "echo", echoed)+
		Route("service: grpc.testing.TestService", "interop", tested)+
		"default: {cluster: main}\n"))
	require.NoError(t, err)
	cfg.Transport = w.Transport
	for i := range cfg.Routes {
		cfg.Routes[i].MessageLimit = 1<<32 - 1
	}
	cfg.Routes[0].Undecodable = conf.UndecodableForward // the suite sends bytes that are no protobuf at all
	return cfg
}

// Route is a route in dynamic mode to the cluster main, as YAML in a list of routes.
func Route(match, schema, rules string) string {
	return "  - match: {" + match + "}\n    cluster: main\n    mode: dynamic\n    schema: " + schema + "\n" + Rules("    ", rules)
}

// Rules are the rules of a route, as YAML whose lines begin with indent; "" if there are
// none.
func Rules(indent, rules string) string {
	if rules = strings.TrimSpace(rules); rules == "" {
		return ""
	}
	return indent + "rules:\n" + indent + "  " + strings.ReplaceAll(rules, "\n", "\n"+indent+"  ") + "\n"
}

// write writes a file for the test, and returns its path.
func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// Target puts a proxy of its own before each backend.
func (w DynamicWay) Target(t *testing.T, backend string) string {
	p, err := proxy.New(w.config(t, backend), proxy.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return serve(t, p)
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
	return write(t, "interop.binpb", b)
}

// startInteropTypes runs a server of grpc-go that tells the types of the interop
// service, and returns its address: the official server does not.
func startInteropTypes(t testing.TB) string {
	t.Helper()
	return loopback.Serve(t, func(s *grpc.Server) {
		testpb.RegisterTestServiceServer(s, testpb.UnimplementedTestServiceServer{})
		reflection.Register(s)
	})
}
