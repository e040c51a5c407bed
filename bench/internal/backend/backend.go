// Package backend is the service that finally answers: grpc-go with raw bytes and no logic, so that most of what is
// measured beside it is the proxy.
package backend

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

var service = grpc.ServiceDesc{
	ServiceName: "bench.Bench",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true},
		{StreamName: "Stream", Handler: stream, ServerStreams: true},
	},
}

// spans takes what a proxy tells of its calls, and answers with no message's bytes, which is a good answer.
var spans = grpc.ServiceDesc{
	ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: export}},
}

// Serve answers on addr until the process ends. Window sizes and stream limits are grpc-go's own.
func Serve(addr string) error {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return New().Serve(lis)
}

// New makes the server.
func New() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.MaxRecvMsgSize(wire.MaxMessage),
		grpc.MaxSendMsgSize(wire.MaxMessage),
	)
	s.RegisterService(&service, nil)
	s.RegisterService(&spans, nil)
	return s
}

// unary answers with the request's own buffers.
func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	m := new(wire.Message)
	if err := decode(m); err != nil {
		return nil, err
	}
	return m, nil
}

func export(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var m wire.Message
	if err := decode(&m); err != nil {
		return nil, err
	}
	m.Free()
	return wire.Raw(nil), nil
}

func chat(_ any, ss grpc.ServerStream) error {
	for {
		var m wire.Message
		err := ss.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ss.SendMsg(&m); err != nil {
			return err
		}
	}
}

func stream(_ any, ss grpc.ServerStream) error {
	var m wire.Message
	if err := ss.RecvMsg(&m); err != nil {
		return err
	}
	req, err := wire.DecodeStreamRequest(m.Data.Materialize())
	m.Free()
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return sendAll(ss, req)
}

// sendAll copies each message, because grpc-go may still hold the one before when SendMsg has returned.
func sendAll(ss grpc.ServerStream, req wire.StreamRequest) error {
	payload := wire.NewPayload(req.Size)
	for i := range req.Count {
		message := append(wire.Raw(nil), payload.Stamp(uint64(i))...)
		if err := ss.SendMsg(message); err != nil {
			return err
		}
	}
	return nil
}
