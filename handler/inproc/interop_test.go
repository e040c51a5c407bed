package inproc_test

import (
	"context"
	"crypto/rand"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// TestInterop runs gRPC's official interoperability tests, which end the process
// with a message when they fail.
func TestInterop(t *testing.T) {
	conn, _ := relay(t)
	for name, run := range map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
		"empty_unary": interop.DoEmptyUnaryCall, "large_unary": interop.DoLargeUnaryCall,
		"client_streaming": interop.DoClientStreaming, "server_streaming": interop.DoServerStreaming,
		"ping_pong": interop.DoPingPong, "empty_stream": interop.DoEmptyStream,
		"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
		"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
		"status_code_and_message":     interop.DoStatusCodeAndMessage,
		"special_status_message":      interop.DoSpecialStatusMessage, "custom_metadata": interop.DoCustomMetadata,
	} {
		t.Run(name, func(t *testing.T) { run(safe(t), testgrpc.NewTestServiceClient(conn)) })
	}
	t.Run("unimplemented_service", func(t *testing.T) {
		interop.DoUnimplementedService(safe(t), testgrpc.NewUnimplementedServiceClient(conn))
	})
	t.Run("cancel_after_begin", func(t *testing.T) { // theirs half-closes right after, which may win
		ctx, cancel := context.WithCancel(safe(t))
		s, err := testgrpc.NewTestServiceClient(conn).StreamingInputCall(ctx)
		require.NoError(t, err)
		cancel()
		require.Equal(t, codes.Canceled, status.Code(s.RecvMsg(new(testgrpc.StreamingInputCallResponse))))
	})
	t.Run("unimplemented_method", func(t *testing.T) {
		_, err := testgrpc.NewTestServiceClient(conn).UnimplementedCall(safe(t), &testgrpc.Empty{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
	})
}

// TestDynamicMessages: the gateway knows messages by their descriptors only.
func TestDynamicMessages(t *testing.T) {
	conn, _ := relay(t)
	in := dynamicpb.NewMessage((&testgrpc.SimpleRequest{}).ProtoReflect().Descriptor())
	out := dynamicpb.NewMessage((&testgrpc.SimpleResponse{}).ProtoReflect().Descriptor())
	in.Set(in.Descriptor().Fields().ByName("response_size"), in.Descriptor().Fields().ByName("response_size").Default())
	payload := in.Mutable(in.Descriptor().Fields().ByName("payload")).Message()
	payload.Set(payload.Descriptor().Fields().ByName("body"), payload.NewField(payload.Descriptor().Fields().ByName("body")))
	require.NoError(t, conn.Invoke(safe(t), "/grpc.testing.TestService/UnaryCall", in, out))
	require.True(t, out.Has(out.Descriptor().Fields().ByName("payload")))
}

// TestManyCallsAtOnce is for the race detector.
func TestManyCallsAtOnce(t *testing.T) {
	conn, _ := relay(t)
	client := testgrpc.NewTestServiceClient(conn)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for n := range 20 {
				body := make([]byte, n*5000)
				_, _ = rand.Read(body)
				ctx := metadata.AppendToOutgoingContext(safe(t), "x-grpc-test-echo-initial", "v")
				s, err := client.FullDuplexCall(ctx)
				if !assertNoError(t, err) {
					return
				}
				assertNoError(t, s.Send(&testgrpc.StreamingOutputCallRequest{
					ResponseParameters: []*testgrpc.ResponseParameters{{Size: int32(len(body))}},
					Payload:            &testgrpc.Payload{Body: body},
				}))
				reply, err := s.Recv()
				if assertNoError(t, err) && len(reply.Payload.Body) != len(body) {
					t.Errorf("%d bytes instead of %d", len(reply.Payload.Body), len(body))
				}
				assertNoError(t, s.CloseSend())
				if _, err := s.Recv(); err != io.EOF {
					t.Errorf("%v instead of the end", err)
				}
			}
		})
	}
	all.Wait()
}

func assertNoError(t *testing.T, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

func BenchmarkUnary(b *testing.B) {
	reply := frame(b, wrapperspb.String("hello"))
	conn := connTo(func(in stream.Inbound) {
		var request [12]byte
		_ = in.Read(request[:])
		_ = in.WriteHeader(&stream.Header{})
		_ = in.Write(reply)
		in.Finish(&stream.Trailer{})
	})
	var in, out proto.Message = wrapperspb.String("hello"), new(wrapperspb.StringValue)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := conn.Invoke(ctx, method, in, out); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnaryRelayed is a call to a backend over loopback, BenchmarkUnaryDirect
// the same by grpc-go's own client.
func BenchmarkUnaryRelayed(b *testing.B) {
	conn, _ := relay(b)
	benchmarkEmptyCall(b, conn)
}

func BenchmarkUnaryDirect(b *testing.B) {
	_, address := relay(b)
	conn := dial(b, address)
	benchmarkEmptyCall(b, conn)
}

func benchmarkEmptyCall(b *testing.B, conn grpc.ClientConnInterface) {
	client := testgrpc.NewTestServiceClient(conn)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
			b.Fatal(err)
		}
	}
}
