package demo

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // makes the client accept gzip, as grpcurl does

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// message is what Kitex's generated messages are.
type message interface {
	Marshal(in []byte) ([]byte, error)
	Unmarshal(in []byte) error
}

// kitexMessages is a codec of grpc-go's for Kitex's messages.
type kitexMessages struct{}

func (kitexMessages) Name() string { return "proto" }

func (kitexMessages) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("%T is no message of Kitex's", v)
	}
	return m.Marshal(nil)
}

func (kitexMessages) Unmarshal(data []byte, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("%T is no message of Kitex's", v)
	}
	return m.Unmarshal(data)
}

func dialGRPC(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(kitexMessages{})))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cc.Close()) })
	return cc
}

func TestClientsThatAcceptGzip(t *testing.T) {
	backend := serve(t, &service{})
	for name, address := range map[string]string{"Backend": backend, "ThroughAProxy": through(t, backend)} {
		t.Run(name, func(t *testing.T) {
			cc, ctx := dialGRPC(t, address), testContext(t)

			var reply echo.EchoReply
			require.NoError(t, cc.Invoke(ctx, "/kitexproxy.echo.v1.Echo/Unary", &echo.EchoRequest{Message: "hello"}, &reply))
			assert.Equal(t, echo.EchoReply{Message: "hello", Sequence: 1}, reply)

			stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/kitexproxy.echo.v1.Echo/Expand")
			require.NoError(t, err)
			require.NoError(t, stream.SendMsg(&echo.EchoRequest{Message: "again", Count: 2}))
			require.NoError(t, stream.CloseSend())
			for sequence := range int32(2) {
				var reply echo.EchoReply
				require.NoError(t, stream.RecvMsg(&reply))
				assert.Equal(t, echo.EchoReply{Message: "again", Sequence: sequence + 1}, reply)
			}
			err = stream.RecvMsg(new(echo.EchoReply))
			assert.True(t, errors.Is(err, io.EOF), "%v", err)
		})
	}
}
