package handlertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// method is what calls are made to unless the test is about method names.
const method = "/conformance.v1.Conformance/Call"

// script is what the backend does with a call. It runs in a goroutine of
// grpc-go's, so it reports what it sees over channels and fails nothing by
// itself, and it must return when the stream's context ends.
type script func(stream grpc.ServerStream) error

// rawCodec moves messages as the bytes they are: nothing that a codec would
// forgive is forgiven.
type rawCodec struct{}

// Marshal takes a []byte. grpc-go keeps it until it is written.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: cannot send a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal takes a *[]byte.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: cannot receive a %T", v)
	}
	*b = data.Materialize()
	return nil
}

// Name is empty so that the content type is plain "application/grpc".
func (rawCodec) Name() string { return "" }

// backend starts a grpc-go server that does what script says with every call,
// whatever its method, and returns its address.
func backend(t *testing.T, does script, opts ...grpc.ServerOption) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return does(stream) }),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		// Stop then returns only when no script runs any more.
		grpc.WaitForHandlers(true),
	}, opts...)...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return lis.Addr().String()
}

// dial connects a grpc-go client that speaks raw messages.
func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	cc, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawCodec{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
		),
	}, opts...)...)
	require.NoError(t, err)
	// A test may have closed it already; that is all Close can complain of.
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// connect starts a backend, puts the target before it and dials that.
func (s *suite) connect(t *testing.T, does script, opts ...grpc.ServerOption) *grpc.ClientConn {
	return dial(t, s.through(t, backend(t, does, opts...)))
}

// The four kinds of calls, as grpc-go's client describes them.
var (
	clientStreaming = &grpc.StreamDesc{StreamName: "Call", ClientStreams: true}
	serverStreaming = &grpc.StreamDesc{StreamName: "Call", ServerStreams: true}
	bidi            = &grpc.StreamDesc{StreamName: "Call", ClientStreams: true, ServerStreams: true}
	unary           = &grpc.StreamDesc{StreamName: "Call"}
)

// open begins a call.
func open(ctx context.Context, t *testing.T, cc *grpc.ClientConn, desc *grpc.StreamDesc, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	stream, err := cc.NewStream(ctx, desc, method, opts...)
	require.NoError(t, err)
	return stream
}

// send sends messages as the client of a call.
func send(t *testing.T, stream grpc.ClientStream, messages ...[]byte) {
	t.Helper()
	for _, m := range messages {
		require.NoError(t, stream.SendMsg(m))
	}
}

// receiver is either end of a call.
type receiver interface{ RecvMsg(m any) error }

// receive takes one message.
func receive(stream receiver) ([]byte, error) {
	var m []byte
	err := stream.RecvMsg(&m)
	return m, err
}

// collect takes messages until the other side has sent all. An error is one
// other than io.EOF.
func collect(stream receiver) ([][]byte, error) {
	var messages [][]byte
	for {
		m, err := receive(stream)
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, m)
	}
}

// echo is the script that sends each message back as it comes.
func echo(stream grpc.ServerStream) error {
	for {
		m, err := receive(stream)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

// expect takes one message as the client and compares it.
func expect(t *testing.T, stream grpc.ClientStream, want []byte, what string) {
	t.Helper()
	got, err := receive(stream)
	require.NoError(t, err, what)
	sameBytes(t, want, got, what)
}

// expectEnd checks that the call ends with OK, without a further message.
func expectEnd(t *testing.T, stream grpc.ClientStream) {
	t.Helper()
	m, err := receive(stream)
	require.ErrorIs(t, err, io.EOF, "the call should have ended with OK; message: %s", shorten(m))
}

// sameBytes compares messages without printing megabytes.
func sameBytes(t *testing.T, want, got []byte, what string) {
	t.Helper()
	require.True(t, bytes.Equal(want, got), "%s: want %s, got %s", what, shorten(want), shorten(got))
}

// sameMessages compares lists of messages.
func sameMessages(t *testing.T, want, got [][]byte, what string) {
	t.Helper()
	require.Len(t, got, len(want), "%s: number of messages", what)
	for i := range want {
		sameBytes(t, want[i], got[i], fmt.Sprintf("%s: message %d", what, i))
	}
}

// noise returns n bytes, always the same for a seed, that are no protobuf and
// do not compress.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 'n', 'o', 'i', 's', 'e'}).Read(b) // never fails
	return b
}
