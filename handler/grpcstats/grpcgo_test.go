package grpcstats

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var text = wrapperspb.String("hello") // bodyLen bytes, encoded

// callGRPCGo makes a call to a server of grpc-go that has h as its stats handler, on a
// connection of its own, and returns when h has been told of the end of both.
func callGRPCGo(t *testing.T, h *recorder, method string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.StatsHandler(stats.Handler(h)))
	srv.RegisterService(kinds(t), nil)
	go func() { _ = srv.Serve(ln) }() // ends with Stop
	defer srv.Stop()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-in", "a", "x-in", "b", "x-in-bin", "\x00\x01")
	makeCall(ctx, t, cc, method)
	<-h.ended
	require.NoError(t, cc.Close())
	<-h.closed
}

func makeCall(ctx context.Context, t *testing.T, cc *grpc.ClientConn, method string) {
	t.Helper()
	sending := map[string]int{"/test.Kinds/Collect": 3, "/test.Kinds/Chat": 2}[method]
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: sending > 0, ServerStreams: true}, method)
	require.NoError(t, err)
	for range max(sending, 1) {
		require.NoError(t, s.SendMsg(text))
		if method == "/test.Kinds/Chat" {
			require.NoError(t, s.RecvMsg(&wrapperspb.StringValue{}))
		}
	}
	require.NoError(t, s.CloseSend())
	for s.RecvMsg(&wrapperspb.StringValue{}) == nil {
	}
}

// kinds is a service with a method of each kind, and one that fails.
func kinds(t *testing.T) *grpc.ServiceDesc {
	unary := func(end error) grpc.MethodHandler {
		return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&wrapperspb.StringValue{}); err != nil || end != nil {
				return nil, end
			}
			assert.NoError(t, grpc.SetHeader(ctx, metadata.Pairs("x-out", "first")))
			assert.NoError(t, grpc.SetTrailer(ctx, metadata.Pairs("x-end", "last")))
			return text, nil
		}
	}
	return &grpc.ServiceDesc{
		ServiceName: "test.Kinds",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Unary", Handler: unary(nil)},
			{MethodName: "Fail", Handler: unary(detailed(t).Err())},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Collect", Handler: streaming(t, 0, 1), ClientStreams: true},
			{StreamName: "Expand", Handler: streaming(t, 0, 3), ServerStreams: true},
			{StreamName: "Chat", Handler: streaming(t, 1, 0), ClientStreams: true, ServerStreams: true},
		},
	}
}

// streaming answers each message with as many as each, and all of them with as many
// as last.
func streaming(t *testing.T, each, last int) grpc.StreamHandler {
	return func(_ any, s grpc.ServerStream) error {
		assert.NoError(t, s.SetHeader(metadata.Pairs("x-out", "first")))
		s.SetTrailer(metadata.Pairs("x-end", "last"))
		for s.RecvMsg(&wrapperspb.StringValue{}) == nil {
			for range each {
				assert.NoError(t, s.SendMsg(text))
			}
		}
		for range last {
			assert.NoError(t, s.SendMsg(text))
		}
		return nil
	}
}
