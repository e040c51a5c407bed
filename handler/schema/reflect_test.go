package schema

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	interoppb "google.golang.org/grpc/interop/grpc_testing"
	grpcreflection "google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func registerServices(s *grpc.Server) {
	interoppb.RegisterTestServiceServer(s, interop.NewTestServer())
	healthpb.RegisterHealthServer(s, health.NewServer())
}

func TestReflectAsksARealServer(t *testing.T) {
	address := loopback.Serve(t, func(s *grpc.Server) {
		registerServices(s)
		grpcreflection.Register(s)
	})
	open := opener(t, address)
	s, err := Reflect(safe(t), open, Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"grpc.testing.TestService",
	}, serviceNamesOf(s), "and not UnimplementedService, which is in the file of TestService")
	assert.Empty(t, s.Missing())

	m := s.Method("/grpc.testing.TestService/FullDuplexCall")
	require.NotNil(t, m)
	assert.True(t, m.IsStreamingClient() && m.IsStreamingServer())
	assert.EqualValues(t, "grpc.testing.StreamingOutputCallRequest", m.Input().FullName())
	_, err = s.Files().FindDescriptorByName("grpc.testing.Empty")
	require.NoError(t, err, "what the file imports")

	again, err := Reflect(safe(t), open, Limits{})
	require.NoError(t, err)
	assert.True(t, s.same(again))
}

// The schema is good for a call to the same server.
func TestReflectedCodecsWork(t *testing.T) {
	address := loopback.Serve(t, func(s *grpc.Server) {
		registerServices(s)
		grpcreflection.Register(s)
	})
	s, err := Reflect(safe(t), opener(t, address), Limits{})
	require.NoError(t, err)
	m := s.Method("/grpc.health.v1.Health/Check")
	request, err := s.Codec(m.Input()).Unmarshal(nil)
	require.NoError(t, err)
	b, err := s.Codec(m.Input()).Marshal(nil, request)
	require.NoError(t, err)
	assert.Empty(t, b)
	response, err := s.Codec(m.Output()).Unmarshal([]byte{8, 1})
	require.NoError(t, err)
	status := response.(protoreflect.ProtoMessage).ProtoReflect()
	assert.EqualValues(t, 1, status.Get(status.Descriptor().Fields().ByName("status")).Enum())
}

func TestReflectFallsBackOnV1Alpha(t *testing.T) {
	address := loopback.Serve(t, func(s *grpc.Server) {
		registerServices(s)
		grpc_reflection_v1alpha.RegisterServerReflectionServer(s, grpcreflection.NewServer(grpcreflection.ServerOptions{Services: s}))
	})
	var asked []string
	open := opener(t, address)
	s, err := Reflect(safe(t), func(ctx context.Context, req *stream.Request) (stream.Outbound, error) {
		asked = append(asked, req.Method)
		return open(ctx, req)
	}, Limits{})
	require.NoError(t, err)
	assert.NotNil(t, s.Method("/grpc.testing.TestService/UnaryCall"))
	assert.Equal(t, reflectionMethods, asked)
}

func TestReflectNeedsReflection(t *testing.T) {
	_, err := Reflect(safe(t), opener(t, loopback.Serve(t, registerServices)), Limits{})
	require.EqualError(t, err, "the backend has no server reflection, neither v1 nor v1alpha")
}

func TestReflectTellsWhyNoCallOpens(t *testing.T) {
	_, err := Reflect(t.Context(), func(context.Context, *stream.Request) (stream.Outbound, error) {
		return nil, &stream.Failure{Reason: stream.BackendUnreachable, Code: stream.Unavailable, Message: "no route"}
	}, Limits{})
	require.EqualError(t, err, "server reflection: backend-unreachable: no route")
	var failure *stream.Failure
	require.ErrorAs(t, err, &failure)
}

func TestReflectEndsWithItsContext(t *testing.T) {
	for name, answers := range map[string]bool{"between two answers": true, "waiting for an answer": false} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(safe(t))
			open := rawLiar(t, func(s *rawh2.Stream, q *question) bool {
				if q.GetListServices() == "" || !answers {
					cancel(errors.New("enough"))
					return true
				}
				b, err := proto.Marshal(listing("a.B"))
				return err == nil && s.Message(0, b) == nil
			})
			_, err := Reflect(ctx, open, Limits{})
			require.EqualError(t, err, "server reflection: enough")
		})
	}
}

// The files of a backend that gives them one by one, and not those that come with
// protoc.
func TestReflectFollowsImports(t *testing.T) {
	compiled := compile(t, shop, "shop/shop.proto")
	var asked []string
	s, err := Reflect(safe(t), liar(t, func(q *question) *answer {
		asked = append(asked, q.GetFileContainingSymbol()+q.GetFileByFilename())
		switch {
		case q.GetListServices() != "":
			return listing("shop.Shop", "shop.Shop", "shop.Admin")
		case q.GetFileContainingSymbol() == "shop.Shop":
			return giving(t, protoOf(t, compiled, "shop/shop.proto"))
		case q.GetFileContainingSymbol() == "shop.Admin" || q.GetFileByFilename() == "shop/types.proto":
			return giving(t, protoOf(t, compiled, "shop/types.proto"))
		}
		return refusing(5, "what is that?")
	}), Limits{})
	require.NoError(t, err)
	assert.True(t, s.same(compiled))
	slices.Sort(asked)
	assert.Equal(t, []string{"", "google/protobuf/any.proto", "google/protobuf/timestamp.proto", "shop.Admin", "shop.Shop"}, asked,
		"each once, and only what has not come already")
}

// The file of one service may be that of others.
func TestReflectAsksOnceForEachFile(t *testing.T) {
	both := service("a.proto", "A")
	both.Service = append(both.Service, &descriptorpb.ServiceDescriptorProto{Name: proto.String("B")})
	var asked int
	s, err := Reflect(safe(t), liar(t, func(q *question) *answer {
		if q.GetListServices() != "" {
			return listing("A", "B")
		}
		asked++
		return giving(t, both)
	}), Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{"A", "B"}, serviceNamesOf(s))
	assert.Equal(t, 1, asked)
}

// A backend counts a call that is reset as cancelled.
func TestReflectEndsItsCallInGoodOrder(t *testing.T) {
	body := make(chan []byte, 1)
	s, err := Reflect(safe(t), scripted(t, func(s *rawh2.Stream) {
		if _, err := s.AwaitMessages(s.Context(), 1); err != nil {
			return
		}
		b, err := proto.Marshal(listing())
		if err != nil || s.Headers(rawh2.ResponseFields(), false) != nil || s.Message(0, b) != nil {
			return
		}
		b, _ = s.AwaitEndStream(s.Context())
		body <- b
		_ = s.Trailers(rawh2.F("grpc-status", "0"))
	}), Limits{})
	require.NoError(t, err)
	assert.Empty(t, methodNames(s))
	questions, rest := rawh2.Messages(<-body)
	assert.Len(t, questions, 1)
	assert.Empty(t, rest)
}

func TestReflectDecodesGoogleAPIOptions(t *testing.T) {
	compiled := compile(t, annotated, "api.proto")
	s, err := Reflect(safe(t), liar(t, func(q *question) *answer {
		switch {
		case q.GetListServices() != "":
			return listing("Api")
		case q.GetFileContainingSymbol() == "Api":
			return giving(t, protoOf(t, compiled, "api.proto"))
		}
		return refusing(5, "not found")
	}), Limits{})
	require.NoError(t, err)
	requireRule(t, s)
}

// A backend's own version of a standard import is what it uses.
func TestReflectPrefersTheBackendsFiles(t *testing.T) {
	own := compile(t, map[string]string{
		"a.proto": `syntax = "proto3"; import "google/protobuf/empty.proto";
			service A { rpc Do(google.protobuf.Empty) returns (google.protobuf.Empty); }`,
		"google/protobuf/empty.proto": `syntax = "proto3"; package google.protobuf; message Empty { int32 own = 1; }`,
	}, "a.proto")
	s, err := Reflect(safe(t), liar(t, func(q *question) *answer {
		switch {
		case q.GetListServices() != "":
			return listing("A")
		case q.GetFileContainingSymbol() != "":
			return giving(t, protoOf(t, own, "a.proto"))
		}
		return giving(t, protoOf(t, own, q.GetFileByFilename()))
	}), Limits{})
	require.NoError(t, err)
	assert.True(t, s.same(own))
}

func TestReflectOfABackendWithoutServices(t *testing.T) {
	s, err := Reflect(safe(t), liar(t, func(*question) *answer { return listing() }), Limits{})
	require.NoError(t, err)
	assert.Empty(t, methodNames(s))
}
