package handlertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	kcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echopb "github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// The echo service at both ends, spoken by Kitex and by grpc-go.

// echoReply is what every implementation answers a request with.
func echoReply(req *echopb.EchoRequest, sequence int) *echopb.EchoReply {
	return &echopb.EchoReply{Message: req.Message, Payload: req.Payload, Sequence: int32(sequence)}
}

// joined is the reply to all of a stream's requests.
func joined(requests []*echopb.EchoRequest) *echopb.EchoReply {
	all := &echopb.EchoReply{Sequence: int32(len(requests))}
	for _, req := range requests {
		all.Message += req.Message
		all.Payload = append(all.Payload, req.Payload...)
	}
	return all
}

// kitexEcho is the echo service as a Kitex handler. A test that wants a
// method to do something else sets its field.
type kitexEcho struct {
	unary   func(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error)
	collect func(stream echopb.Echo_CollectServer) error
	expand  func(req *echopb.EchoRequest, stream echopb.Echo_ExpandServer) error
	chat    func(stream echopb.Echo_ChatServer) error
}

// failure is the error that a request asks for.
func failure(req *echopb.EchoRequest) error {
	if req.FailWith == 0 {
		return nil
	}
	return kstatus.Err(kcodes.Code(req.FailWith), req.Message)
}

func (e *kitexEcho) Unary(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
	if e.unary != nil {
		return e.unary(ctx, req)
	}
	return echoReply(req, 1), failure(req)
}

func (e *kitexEcho) Collect(stream echopb.Echo_CollectServer) error {
	if e.collect != nil {
		return e.collect(stream)
	}
	requests, err := drain(stream.Recv)
	if err != nil {
		return err
	}
	return stream.SendAndClose(joined(requests))
}

func (e *kitexEcho) Expand(req *echopb.EchoRequest, stream echopb.Echo_ExpandServer) error {
	if e.expand != nil {
		return e.expand(req, stream)
	}
	for i := range int(req.Count) {
		if err := stream.Send(echoReply(req, i+1)); err != nil {
			return err
		}
	}
	return failure(req)
}

func (e *kitexEcho) Chat(stream echopb.Echo_ChatServer) error {
	if e.chat != nil {
		return e.chat(stream)
	}
	for i := 1; ; i++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(echoReply(req, i)); err != nil {
			return err
		}
		if err := failure(req); err != nil {
			return err
		}
	}
}

// drain calls recv until io.EOF.
func drain[T any](recv func() (T, error)) ([]T, error) {
	var all []T
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

// kitexBackend starts a Kitex server and returns its address.
func (s *suite) kitexBackend(t *testing.T, handler kitexEcho, opts ...server.Option) string {
	if s.kitexServer != nil {
		opts = append(s.kitexServer(), opts...)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit := make(chan error, 1)
	svr := echosvc.NewServer(&handler, append([]server.Option{
		server.WithListener(lis),
		// Clients of Kitex keep their connections; there is no use in
		// waiting for them.
		server.WithExitWaitTime(time.Millisecond),
		// Instead of SIGINT, for which Kitex would wait for ever.
		server.WithExitSignal(func() <-chan error { return exit }),
	}, opts...)...)
	ran := make(chan error, 1)
	go func() { ran <- svr.Run() }()
	t.Cleanup(func() {
		exit <- nil
		select {
		case <-ran:
		case <-time.After(defaultSafety):
			t.Error("the Kitex server does not stop")
		}
	})
	return lis.Addr().String()
}

// grpcEcho is the echo service as a grpc-go backend.
func grpcEcho(stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	recv := func() (*echopb.EchoRequest, error) {
		m, err := receive(stream)
		if err != nil {
			return nil, err
		}
		req := new(echopb.EchoRequest)
		return req, req.Unmarshal(m)
	}
	answer := func(r *echopb.EchoReply) error {
		m, err := r.Marshal(nil)
		if err != nil {
			return err
		}
		return stream.SendMsg(m)
	}
	if name == echoMethod+"Collect" {
		requests, err := drain(recv)
		if err != nil {
			return err
		}
		return answer(joined(requests))
	}
	for sequence := 1; ; sequence++ {
		req, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		replies := 1
		if name == echoMethod+"Expand" {
			replies = int(req.Count)
		}
		if name == echoMethod+"Unary" && req.FailWith != 0 {
			replies = 0
		}
		for i := range replies {
			if err := answer(echoReply(req, sequence+i)); err != nil {
				return err
			}
		}
		if req.FailWith != 0 {
			return status.Error(codes.Code(req.FailWith), req.Message)
		}
	}
}

// echoMethod is what the full method names of the echo service begin with.
const echoMethod = "/kitexproxy.echo.v1.Echo/"

// echoClient is a client of the echo service. What a call gave before its
// error is returned with the error.
type echoClient interface {
	unary(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error)
	collect(ctx context.Context, requests []*echopb.EchoRequest) (*echopb.EchoReply, error)
	expand(ctx context.Context, req *echopb.EchoRequest) ([]*echopb.EchoReply, error)
	// chat sends each request once the reply to the one before has come.
	chat(ctx context.Context, requests []*echopb.EchoRequest) ([]*echopb.EchoReply, error)
	// status reads code and message out of an error.
	status(err error) (code int, message string)
}

// kitexClient speaks with Kitex.
type kitexClient struct{ echosvc.Client }

// kitexDial makes a Kitex client. It has no Close: its connections end when
// the server's do, or when the client is garbage, hence KeepAlive.
func kitexDial(t *testing.T, addr string, opts ...client.Option) kitexClient {
	c, err := echosvc.NewClient("kitexproxy.echo.v1.Echo", append([]client.Option{client.WithHostPorts(addr)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { runtime.KeepAlive(c) })
	return kitexClient{c}
}

func (c kitexClient) unary(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
	return c.Unary(ctx, req)
}

func (c kitexClient) collect(ctx context.Context, requests []*echopb.EchoRequest) (*echopb.EchoReply, error) {
	stream, err := c.Collect(ctx)
	if err != nil {
		return nil, err
	}
	for _, req := range requests {
		if err := stream.Send(req); err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

func (c kitexClient) expand(ctx context.Context, req *echopb.EchoRequest) ([]*echopb.EchoReply, error) {
	stream, err := c.Expand(ctx, req)
	if err != nil {
		return nil, err
	}
	return drain(stream.Recv)
}

func (c kitexClient) chat(ctx context.Context, requests []*echopb.EchoRequest) ([]*echopb.EchoReply, error) {
	stream, err := c.Chat(ctx)
	if err != nil {
		return nil, err
	}
	return converse(requests, stream.Send, stream.Recv, stream.Close)
}

func (kitexClient) status(err error) (int, string) {
	st, _ := kstatus.FromError(err)
	return int(st.Code()), st.Message()
}

// grpcClient speaks with grpc-go.
type grpcClient struct{ cc *grpc.ClientConn }

func (c grpcClient) unary(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
	return c.one(ctx, "Unary", unary, []*echopb.EchoRequest{req})
}

func (c grpcClient) collect(ctx context.Context, requests []*echopb.EchoRequest) (*echopb.EchoReply, error) {
	return c.one(ctx, "Collect", clientStreaming, requests)
}

func (c grpcClient) expand(ctx context.Context, req *echopb.EchoRequest) ([]*echopb.EchoReply, error) {
	call, err := c.open(ctx, "Expand", serverStreaming)
	if err != nil {
		return nil, err
	}
	if err := call.send(req); err != nil {
		return nil, err
	}
	if err := call.stream.CloseSend(); err != nil {
		return nil, err
	}
	return drain(call.recv)
}

func (c grpcClient) chat(ctx context.Context, requests []*echopb.EchoRequest) ([]*echopb.EchoReply, error) {
	call, err := c.open(ctx, "Chat", bidi)
	if err != nil {
		return nil, err
	}
	return converse(requests, call.send, call.recv, call.stream.CloseSend)
}

func (grpcClient) status(err error) (int, string) {
	st := status.Convert(err)
	return int(st.Code()), st.Message()
}

// one makes a call that has one reply.
func (c grpcClient) one(ctx context.Context, method string, desc *grpc.StreamDesc, requests []*echopb.EchoRequest) (*echopb.EchoReply, error) {
	call, err := c.open(ctx, method, desc)
	if err != nil {
		return nil, err
	}
	for _, req := range requests {
		if err := call.send(req); err != nil {
			return nil, err
		}
	}
	if err := call.stream.CloseSend(); err != nil {
		return nil, err
	}
	return call.recv()
}

func (c grpcClient) open(ctx context.Context, method string, desc *grpc.StreamDesc) (grpcEchoCall, error) {
	stream, err := c.cc.NewStream(ctx, desc, echoMethod+method)
	return grpcEchoCall{stream}, err
}

// grpcEchoCall is a call whose messages prutal encodes.
type grpcEchoCall struct{ stream grpc.ClientStream }

func (c grpcEchoCall) send(req *echopb.EchoRequest) error {
	m, err := req.Marshal(nil)
	if err != nil {
		return err
	}
	return c.stream.SendMsg(m)
}

func (c grpcEchoCall) recv() (*echopb.EchoReply, error) {
	m, err := receive(c.stream)
	if err != nil {
		return nil, err
	}
	r := new(echopb.EchoReply)
	return r, r.Unmarshal(m)
}

// converse sends requests, each once the reply to the one before has come,
// half-closes and awaits the call's end.
func converse(requests []*echopb.EchoRequest, send func(*echopb.EchoRequest) error,
	recv func() (*echopb.EchoReply, error), halfClose func() error,
) ([]*echopb.EchoReply, error) {
	var replies []*echopb.EchoReply
	for _, req := range requests {
		if err := send(req); err != nil {
			return replies, err
		}
		r, err := recv()
		if err != nil {
			return replies, err
		}
		replies = append(replies, r)
	}
	if err := halfClose(); err != nil {
		return replies, err
	}
	more, err := drain(recv)
	if err == nil && len(more) > 0 {
		err = fmt.Errorf("%d replies that nobody asked for", len(more))
	}
	return replies, err
}
