package handlertest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// messages: what is sent arrives, whole, in order and byte for byte.
func (s *suite) messages(t *testing.T) {
	s.each(t, []testCase{
		{"Empty", s.emptyMessages},
		{"NotProtobuf", s.notProtobuf},
		{"Sizes", s.sizes},
		{"Order", s.order},
		{"OddFrames", s.oddFrames},
		{"LargeRequest", s.largeRequest},
		{"LargeResponse", s.largeResponse},
	})
}

// emptyMessages: a message of no bytes is a message.
func (s *suite) emptyMessages(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan [][]byte, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		seen <- requests
		return sendAll(stream, [][]byte{{}, {}})
	})
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte{}, []byte{}, []byte{})
	require.NoError(t, stream.CloseSend())
	got, err := collect(stream)
	require.NoError(t, err)
	sameMessages(t, [][]byte{{}, {}, {}}, await(ctx, t, seen, "the requests"), "requests")
	sameMessages(t, [][]byte{{}, {}}, got, "replies")

	reply := []byte("not empty")
	cc = s.connect(t, echo)
	require.NoError(t, cc.Invoke(ctx, method, []byte{}, &reply))
	assert.Empty(t, reply)
}

// notProtobuf: bytes that no protobuf decoder takes, and some that one would
// take and write differently.
func (s *suite) notProtobuf(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, echo)
	for _, m := range [][]byte{
		noise(1000, 2),
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0},
		{0x0b},                               // a group that does not end
		{0x0a, 0x80, 0x80, 0x80, 0x80, 0x00}, // a length spelt with more bytes than needed
		{0x10, 0x00},                         // a default that encoders leave out
		{0xf8, 0x7f, 0x01, 0x0a, 0x01, 'a'},  // an unknown field, fields out of order
		{0x0a, 0x01, 'a', 0x0a, 0x01, 'b'},   // one field twice
		{0x0a, 0x02, 0xc3, 0x28},             // a string that is not UTF-8
		[]byte(`{"json": true}`),             // another format
		{0, 0, 0, 0, 5, 'f', 'r', 'a', 'm', 'e', 0, 0, 0, 0, 0},     // what looks like gRPC's own framing
		append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, 0, 0), // what looks like HTTP/2's
	} {
		var reply []byte
		require.NoError(t, cc.Invoke(ctx, method, m, &reply), "%x", m)
		sameBytes(t, m, reply, "message")
	}
}

// boundaries are sizes at which something in HTTP/2, gRPC or a buffer ends:
// with the 5-byte prefix a message fills a DATA frame at 16379, and the first
// windows at 65530.
var boundaries = []int{
	0, 1, 4, 5, 127, 128, 1023, 1024, 4091, 4096, 8187, 8192,
	16378, 16379, 16380, 16383, 16384, 16385, 32763, 32767, 32768, 32769,
	49152, 65529, 65530, 65531, 65534, 65535, 65536, 131072, 1 << 20,
}

func (s *suite) sizes(t *testing.T) {
	ctx := s.context(t)
	stream := open(ctx, t, s.connect(t, echo), bidi)
	all := noise(1<<20, 3)
	for _, size := range boundaries {
		send(t, stream, all[:size])
		expect(t, stream, all[:size], fmt.Sprint("message of ", size))
	}
	require.NoError(t, stream.CloseSend())
	expectEnd(t, stream)
}

// order: 1000 messages of 0 to 70 KiB each way, sent as fast as they go. The
// backend compares as well, instead of sending back what came: what is wrong
// in the same way in both directions would come back right.
func (s *suite) order(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	const count, largest = 1000, 70 << 10
	all := noise(largest+count, 4)
	message := func(i int) []byte {
		size := i * 7919 % (largest + 1)
		if i%16 == 0 {
			size = boundaries[i/16%(len(boundaries)-2)] // those of less than largest
		}
		return all[i : i+size] // a shift for each, so that no two are alike
	}
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		for i := range count {
			got, err := receive(stream)
			if err != nil {
				return err
			}
			if !bytes.Equal(message(i), got) {
				return status.Errorf(codes.DataLoss, "request %d: want %s, got %s", i, shorten(message(i)), shorten(got))
			}
			if err := stream.SendMsg(got); err != nil {
				return err
			}
		}
		_, err := collect(stream)
		return err
	})
	stream := open(ctx, t, cc, bidi)
	sent := make(chan error, 1)
	go func() {
		for i := range count {
			if err := stream.SendMsg(message(i)); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for i := range count {
		expect(t, stream, message(i), fmt.Sprint("reply ", i))
	}
	expectEnd(t, stream)
	require.NoError(t, await(ctx, t, sent, "the sender"))
}

// oddFrames: messages and DATA frames have nothing to do with each other. A
// byte for each frame, empty frames between, many messages in one frame.
func (s *suite) oddFrames(t *testing.T) {
	ctx := s.context(t)
	body := bytes.Join([][]byte{rawh2.Frame(0, []byte("one")), rawh2.Frame(0, nil), rawh2.Frame(0, []byte("three"))}, nil)
	inPieces := func(stream *rawh2.Stream) {
		for i := range body {
			_ = stream.DataFrame(nil, false) // a failure shows as a body that is not complete
			_ = stream.DataFrame(body[i:i+1], false)
		}
		_ = stream.DataFrame(body, false)
	}
	want := slices.Concat(body, body)
	seen := make(chan []byte, 1)
	addr := s.through(t, rawBackend(t, func(stream *rawh2.Stream) {
		request, err := stream.AwaitEndStream(stream.Context())
		if err != nil {
			return
		}
		seen <- request
		_ = stream.Headers(rawh2.ResponseFields(), false)
		inPieces(stream)
		_ = stream.Trailers(rawh2.F("grpc-status", "0"))
	}))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(), false)
	inPieces(stream)
	require.NoError(t, stream.Data(nil, true))
	sameBytes(t, want, await(ctx, t, seen, "the request"), "request")
	reply, err := stream.AwaitReply(ctx)
	require.NoError(t, err)
	sameBytes(t, want, reply.Body, "response")
	assert.Equal(t, "0", reply.Trailer.Get("grpc-status"))
}

// largeSize is far more than any window or buffer.
func largeSize() int {
	if testing.Short() {
		return 8 << 20
	}
	return 64 << 20
}

func (s *suite) largeRequest(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		m, err := receive(stream)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(m)
		return stream.SendMsg(sum[:])
	})
	request := noise(largeSize(), 5)
	var reply []byte
	require.NoError(t, cc.Invoke(ctx, method, request, &reply))
	want := sha256.Sum256(request)
	assert.Equal(t, want[:], reply)
}

func (s *suite) largeResponse(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	response := noise(largeSize(), 6)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if _, err := collect(stream); err != nil {
			return err
		}
		return stream.SendMsg(response)
	})
	var reply []byte
	require.NoError(t, cc.Invoke(ctx, method, []byte("all of it"), &reply))
	sameBytes(t, response, reply, "reply")
}

// idle is how long the idle stream is left alone: longer than what anybody
// would call a hiccup, shorter than a reader of test output gets restless.
const idle = 500 * time.Millisecond

// idleStream: a stream on which nothing happens stays open. It takes real
// time, so a -short run leaves it out.
func (s *suite) idleStream(t *testing.T) {
	if testing.Short() {
		t.Skip("takes real time")
	}
	ctx := s.context(t)
	stream := open(ctx, t, s.connect(t, echo), bidi)
	send(t, stream, []byte("before"))
	expect(t, stream, []byte("before"), "before")
	timer := time.NewTimer(idle)
	defer timer.Stop()
	await(ctx, t, timer.C, "the idle time's end")
	send(t, stream, []byte("after"))
	expect(t, stream, []byte("after"), "after")
	require.NoError(t, stream.CloseSend())
	expectEnd(t, stream)
}
