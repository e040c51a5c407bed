package proxy_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// TestDynamicWaysHaveRules: the rules of the ways are those that run, at each
// point of each method.
func TestDynamicWaysHaveRules(t *testing.T) {
	quietKitex()
	methods := []string{"/conformance.v1.Conformance/Call"}
	for _, m := range []string{"Unary", "Collect", "Expand", "Chat"} {
		methods = append(methods, echoPrefix+m)
	}
	for _, m := range []string{"EmptyCall", "UnaryCall", "StreamingOutputCall", "StreamingInputCall", "FullDuplexCall"} {
		methods = append(methods, "/grpc.testing.TestService/"+m)
	}
	for name, way := range proxytest.DynamicWays {
		t.Run(name, func(t *testing.T) {
			client, err := grpc.NewClient("passthrough:///"+way.Target(t, startGRPCEcho(t).addr), faultDialOptions()...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			for _, method := range methods {
				for _, point := range []string{"", "start", "request", "header", "response", "end"} {
					ctx := t.Context()
					if point != "" {
						ctx = metadata.AppendToOutgoingContext(ctx, proxytest.Proof, point)
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

// TestDynamicWaysChange: the changing way changes what the interop
// programs send each other.
func TestDynamicWaysChange(t *testing.T) {
	got := make(chan *testpb.SimpleRequest, 1)
	address := loopback.Serve(t, func(s *grpc.Server) { testpb.RegisterTestServiceServer(s, unaryServer{got: got}) })
	client, err := grpc.NewClient("passthrough:///"+proxytest.DynamicWays["changed"].Target(t, address),
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
