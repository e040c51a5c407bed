package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// start runs a backend for the time of a test and returns a client of it.
func start(t *testing.T) *echoClient {
	t.Helper()
	return connect(t, serve(t, &service{}))
}

func serve(t *testing.T, handler echo.Echo) string {
	t.Helper()
	b, err := startBackend("127.0.0.1:0", handler)
	require.NoError(t, err)
	t.Cleanup(b.Stop)
	return b.Addr()
}

func connect(t *testing.T, address string) *echoClient {
	t.Helper()
	c, err := newClient(address)
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// call makes a call and returns what it brings.
func makeCall(t *testing.T, c *echoClient, method string, requests ...*echo.EchoRequest) outcome {
	t.Helper()
	return c.play(testContext(t), scene{method: method, requests: requests}).got
}

func TestUnaryEchoes(t *testing.T) {
	got := makeCall(t, start(t), unary, &echo.EchoRequest{Message: "hello", Payload: []byte{0, 255}, Count: 7})
	assert.Equal(t, []*echo.EchoReply{{Message: "hello", Payload: []byte{0, 255}, Sequence: 1}}, got.replies)
	assert.Equal(t, codes.OK, got.code)
	assert.Equal(t, []string{"1"}, got.trailer.Get("echo-count"))
}

func TestUnaryFailsAsAsked(t *testing.T) {
	got := makeCall(t, start(t), unary, &echo.EchoRequest{Message: "no such thing", FailWith: int32(codes.NotFound)})
	assert.Empty(t, got.replies)
	assert.Equal(t, codes.NotFound, got.code)
	assert.Equal(t, "no such thing", got.message, "exactly, without what Kitex appends")
	assert.Equal(t, []string{"1"}, got.trailer.Get("echo-count"), "trailers come with a failure too")
}

func TestNegativeStatusCodeIsRefused(t *testing.T) {
	got := makeCall(t, start(t), unary, &echo.EchoRequest{FailWith: -1})
	assert.Equal(t, codes.InvalidArgument, got.code)
	assert.Equal(t, "fail_with is -1, not a status code", got.message)
}

func TestCollectJoinsWithSpaces(t *testing.T) {
	got := makeCall(t, start(t), collect,
		&echo.EchoRequest{Message: "a", Payload: []byte{1}}, &echo.EchoRequest{Message: ""}, &echo.EchoRequest{Message: "b c", Payload: []byte{2}})
	assert.Equal(t, []*echo.EchoReply{{Message: "a  b c", Payload: []byte{1, 2}, Sequence: 1}}, got.replies)
	assert.Equal(t, []string{"3"}, got.trailer.Get("echo-count"))
}

func TestCollectOfNothing(t *testing.T) {
	got := makeCall(t, start(t), collect)
	assert.Equal(t, []*echo.EchoReply{{Sequence: 1}}, got.replies)
	assert.Equal(t, codes.OK, got.code)
	assert.Equal(t, []string{"0"}, got.trailer.Get("echo-count"))
}

func TestCollectFailsAtOnce(t *testing.T) {
	stream, err := start(t).stream.Collect(testContext(t))
	require.NoError(t, err)
	require.NoError(t, stream.Send(&echo.EchoRequest{Message: "enough", FailWith: int32(codes.Aborted)}))
	err = stream.RecvMsg(new(echo.EchoReply)) // without a half-close
	assert.Equal(t, codes.Aborted, statusOf(err).Code())
	assert.Equal(t, "enough", statusOf(err).Message())
}

func TestExpand(t *testing.T) {
	c := start(t)
	for name, test := range map[string]struct {
		count   int32
		replies int
		code    codes.Code
		message string
	}{
		"DefaultIsThree": {count: 0, replies: 3},
		"AsManyAsAsked":  {count: 5, replies: 5},
		"Largest":        {count: 10_000, replies: 10_000},
		"TooMany":        {count: 10_001, code: codes.InvalidArgument, message: "count is 10001, not from 0 to 10000"},
		"Negative":       {count: -1, code: codes.InvalidArgument, message: "count is -1, not from 0 to 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			got := makeCall(t, c, expand, &echo.EchoRequest{Message: "x", Payload: []byte{9}, Count: test.count})
			require.Len(t, got.replies, test.replies)
			for i, reply := range got.replies {
				require.Equal(t, &echo.EchoReply{Message: "x", Payload: []byte{9}, Sequence: int32(i + 1)}, reply)
			}
			assert.Equal(t, test.code, got.code)
			assert.Equal(t, test.message, got.message)
		})
	}
}

func TestExpandFailsAfterItsReplies(t *testing.T) {
	got := makeCall(t, start(t), expand, &echo.EchoRequest{Message: "over", Count: 2, FailWith: int32(codes.DataLoss)})
	assert.Len(t, got.replies, 2)
	assert.Equal(t, codes.DataLoss, got.code)
	assert.Equal(t, "over", got.message)
}

func TestChatAnswersEachRequestAsItComes(t *testing.T) {
	got := makeCall(t, start(t), chat, &echo.EchoRequest{Message: "a"}, &echo.EchoRequest{Message: "b"})
	assert.Equal(t, []*echo.EchoReply{{Message: "a", Sequence: 1}, {Message: "b", Sequence: 2}}, got.replies)
	assert.Equal(t, codes.OK, got.code)
	assert.Equal(t, []string{"2"}, got.trailer.Get("echo-count"))
}

func TestChatSendsHeadersBeforeAnyMessage(t *testing.T) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(testContext(t), metadata.Pairs("demo-early", "yes")))
	defer cancel()
	stream, err := start(t).stream.Chat(ctx)
	require.NoError(t, err)
	header, err := stream.Header()
	require.NoError(t, err)
	assert.Equal(t, []string{"yes"}, header.Get("echo-early"))
}

func TestChatAnswersTheRequestThatFails(t *testing.T) {
	got := makeCall(t, start(t), chat, &echo.EchoRequest{Message: "a"}, &echo.EchoRequest{Message: "b", FailWith: int32(codes.Internal)})
	assert.Len(t, got.replies, 2)
	assert.Equal(t, codes.Internal, got.code)
	assert.Equal(t, "b", got.message)
}

func TestOnlyTheDemosMetadataComesBack(t *testing.T) {
	var header, trailer metadata.MD
	ctx := metadata.NewOutgoingContext(testContext(t), metadata.Pairs(
		"demo-a", "1", "demo-a", "2", "demo-b-bin", "\x00\xff", "other", "x"))
	ctx = nphttp2.GRPCTrailer(nphttp2.GRPCHeader(ctx, &header), &trailer)
	_, err := start(t).unary.Unary(ctx, &echo.EchoRequest{})
	require.NoError(t, err)
	delete(header, "content-type")
	assert.Equal(t, metadata.MD{"echo-a": {"1", "2"}, "echo-b-bin": {"\x00\xff"}}, header)
	assert.Len(t, trailer.Get("echo-digest-bin"), 1)
	assert.Len(t, trailer.Get("echo-digest-bin")[0], 32)
}

func TestDigestTellsRequestsApart(t *testing.T) {
	c := start(t)
	digest := func(requests ...*echo.EchoRequest) string {
		return strings.Join(makeCall(t, c, collect, requests...).trailer.Get("echo-digest-bin"), "")
	}
	one := digest(&echo.EchoRequest{Message: "ab"}, &echo.EchoRequest{Message: "c"})
	assert.Equal(t, one, digest(&echo.EchoRequest{Message: "ab"}, &echo.EchoRequest{Message: "c"}))
	assert.NotEqual(t, one, digest(&echo.EchoRequest{Message: "a"}, &echo.EchoRequest{Message: "bc"}))
	assert.NotEqual(t, one, digest(&echo.EchoRequest{Message: "c"}, &echo.EchoRequest{Message: "ab"}))
	assert.NotEqual(t, one, digest(&echo.EchoRequest{Payload: []byte("ab")}, &echo.EchoRequest{Message: "c"}))
}

func TestStartOnATakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = StartBackend(ln.Addr().String())
	assert.EqualError(t, err, "demo backend: cannot listen on "+ln.Addr().String()+": the address is in use")
}

func TestStopFreesThePort(t *testing.T) {
	b, err := StartBackend(loopback.Free(t))
	require.NoError(t, err)
	b.Stop()
	b.Stop() // is allowed
	ln, err := net.Listen("tcp", b.Addr())
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

func TestStopEndsOpenCalls(t *testing.T) {
	b, err := StartBackend("127.0.0.1:0")
	require.NoError(t, err)
	stream, err := connect(t, b.Addr()).stream.Chat(testContext(t))
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)
	b.Stop()
	err = stream.RecvMsg(new(echo.EchoReply))
	require.Error(t, err)
	assert.False(t, errors.Is(err, io.EOF), "the call must not look finished")
}

// What the gateway of the built-in configuration, and grpcurl, ask for.
func TestBackendTellsItsTypes(t *testing.T) {
	cc, err := grpc.NewClient(serve(t, &service{}), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, cc.Close()) }()
	stream, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(testContext(t))
	require.NoError(t, err)
	ask := func(req *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		require.NoError(t, stream.Send(req))
		resp, err := stream.Recv()
		require.NoError(t, err)
		return resp
	}
	services := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	require.Len(t, services.GetListServicesResponse().GetService(), 1)
	name := services.GetListServicesResponse().GetService()[0].GetName()
	assert.Equal(t, "kitexproxy.echo.v1.Echo", name)
	files := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name},
	})
	require.Len(t, files.GetFileDescriptorResponse().GetFileDescriptorProto(), 1)
	file := new(descriptorpb.FileDescriptorProto)
	require.NoError(t, proto.Unmarshal(files.GetFileDescriptorResponse().GetFileDescriptorProto()[0], file))
	assert.Len(t, file.GetService()[0].GetMethod(), 4)
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	assert.ErrorIs(t, err, io.EOF)
}
