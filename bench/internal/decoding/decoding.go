// Package decoding is a proxy of the plain kind that one writes with grpc-go when messages are to be looked at: it
// decodes and encodes every message.
package decoding

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// Serve forwards every call that comes to listen over one connection to backend, until the process ends.
func Serve(listen, backend string) error {
	conn, err := wire.NewClient(backend)
	if err != nil {
		return err
	}
	defer conn.Close()
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(wire.MaxMessage), grpc.MaxSendMsgSize(wire.MaxMessage),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error { return forward(conn, in) }),
	)
	return server.Serve(lis)
}

// message is one bytes field, as all messages are but the request of wire.Stream.
type message = wrapperspb.BytesValue

// forward carries one call, each message of which it decodes.
func forward(conn *grpc.ClientConn, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md.Copy())
	}
	out, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	newRequest := func() proto.Message { return new(message) }
	if method == wire.Stream {
		newRequest = func() proto.Message { return new(wrapperspb.Int64Value) } // and a field it does not know
	}
	requests := make(chan error, 1)
	go func() { requests <- toBackend(in, out, newRequest) }() // ends with the call
	responses := toClient(out, in)
	if responses != nil {
		return responses
	}
	return <-requests
}

func toBackend(in grpc.ServerStream, out grpc.ClientStream, fresh func() proto.Message) error {
	for {
		m := fresh()
		switch err := in.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return out.CloseSend()
		case err != nil:
			return err
		}
		if err := out.SendMsg(m); err != nil {
			return err
		}
	}
}

func toClient(out grpc.ClientStream, in grpc.ServerStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SendHeader(header); err != nil {
		return err
	}
	for {
		m := new(message)
		switch err := out.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			in.SetTrailer(out.Trailer())
			return nil
		case err != nil:
			return err
		}
		if err := in.SendMsg(m); err != nil {
			return err
		}
	}
}
