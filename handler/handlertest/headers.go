package handlertest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// headers: the response's blocks come when the backend sends them, and as
// many as it sends.
func (s *suite) headers(t *testing.T) {
	s.each(t, []testCase{
		{"BeforeAnyMessage", s.headersBeforeAnyMessage},
		{"BeforeAnyRequestMessage", s.headersBeforeAnyRequestMessage},
		{"EmptyHeadersBeforeAnyMessage", s.emptyHeadersBeforeAnyMessage},
		{"OnFailedCall", s.headersOnFailedCall},
		{"ApartFromTrailers", s.headersApartFromTrailers},
		{"TrailersOnly", s.trailersOnly},
		{"TrailersOnlyOK", s.trailersOnlyOK},
		{"NoMessageIsTwoBlocks", s.noMessageIsTwoBlocks},
	})
}

// sendHeadersAndWait sends response headers and does nothing until released.
func sendHeadersAndWait(md metadata.MD, release <-chan struct{}) script {
	return func(stream grpc.ServerStream) error {
		if err := stream.SendHeader(md); err != nil {
			return err
		}
		select {
		case <-release:
			return stream.SendMsg([]byte("after the headers"))
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// headersBeforeAnyMessage: in each kind, a client may look at the headers
// before the backend sends a message, and act on them.
func (s *suite) headersBeforeAnyMessage(t *testing.T) {
	for _, kind := range callKinds {
		s.run(t, kind.name, func(t *testing.T) {
			ctx := s.context(t)
			release := make(chan struct{})
			cc := s.connect(t, sendHeadersAndWait(metadata.Pairs("x-early", "yes"), release))
			stream := open(ctx, t, cc, kind.desc)
			send(t, stream, []byte("request"))
			if kind.halfEnd {
				require.NoError(t, stream.CloseSend())
			}
			header, err := stream.Header()
			require.NoError(t, err)
			assert.Equal(t, []string{"yes"}, header["x-early"])
			close(release)
			expect(t, stream, []byte("after the headers"), "reply")
		})
	}
}

// headersBeforeAnyRequestMessage: the client has sent only its own headers.
func (s *suite) headersBeforeAnyRequestMessage(t *testing.T) {
	ctx := s.context(t)
	release := make(chan struct{})
	cc := s.connect(t, sendHeadersAndWait(metadata.Pairs("x-early", "yes"), release))
	stream := open(ctx, t, cc, bidi)
	header, err := stream.Header()
	require.NoError(t, err)
	assert.Equal(t, []string{"yes"}, header["x-early"])
	close(release)
	expect(t, stream, []byte("after the headers"), "reply")
}

// emptyHeadersBeforeAnyMessage: headers without metadata are news too, for
// they say that the call has been accepted.
func (s *suite) emptyHeadersBeforeAnyMessage(t *testing.T) {
	ctx := s.context(t)
	release := make(chan struct{})
	cc := s.connect(t, sendHeadersAndWait(nil, release))
	stream := open(ctx, t, cc, bidi)
	_, err := stream.Header()
	require.NoError(t, err)
	close(release)
	expect(t, stream, []byte("after the headers"), "reply")
}

func (s *suite) headersOnFailedCall(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("x-late", "no"))
		if err := stream.SetHeader(metadata.Pairs("x-early", "yes")); err != nil {
			return err
		}
		return status.Error(codes.NotFound, "nothing here")
	})
	stream := open(ctx, t, cc, bidi)
	header, err := stream.Header()
	require.NoError(t, err)
	assert.Equal(t, []string{"yes"}, header["x-early"])
	_, err = receive(stream)
	assertStatus(t, codes.NotFound, "nothing here", err)
	assert.Equal(t, []string{"no"}, stream.Trailer()["x-late"])
}

// headersApartFromTrailers: what came in the one block does not turn up in
// the other, even under a key that both have.
func (s *suite) headersApartFromTrailers(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if err := stream.SetHeader(metadata.Pairs("x-both", "header", "x-header", "1")); err != nil {
			return err
		}
		stream.SetTrailer(metadata.Pairs("x-both", "trailer", "x-trailer", "2"))
		return echo(stream)
	})
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("x"))
	require.NoError(t, stream.CloseSend())
	expect(t, stream, []byte("x"), "reply")
	expectEnd(t, stream)
	header, err := stream.Header()
	require.NoError(t, err)
	all := metadata.Pairs("x-both", "", "x-header", "", "x-trailer", "")
	assert.Equal(t, metadata.Pairs("x-both", "header", "x-header", "1"), only(header, all))
	assert.Equal(t, metadata.Pairs("x-both", "trailer", "x-trailer", "2"), only(stream.Trailer(), all))
}

// trailersOnly: an error at once is a single block. Some clients retry such
// calls only, since nothing has been answered yet.
func (s *suite) trailersOnly(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
		_ = stream.Status(8, "not now", rawh2.F("x-with-it", "1"), rawh2.F("x-bytes-bin", bin([]byte{0xff})))
	})
	assert.True(t, got.Reply.TrailersOnly, "first block: %v", got.Reply.Header)
	assert.Empty(t, got.Reply.Body)
	assert.Equal(t, "8", got.Reply.Trailer.Get("grpc-status"))
	assert.Equal(t, "not now", got.Reply.Trailer.Get("grpc-message"))
	assert.Equal(t, []string{"1"}, got.Reply.Trailer.Values("x-with-it"))
	assert.Equal(t, []string{"\xff"}, values(t, got.Reply.Trailer, "x-bytes-bin"))
	assert.Equal(t, "200", got.Reply.Trailer.Get(":status"))
}

// trailersOnlyOK: a stream without a message may end so as well.
func (s *suite) trailersOnlyOK(t *testing.T) {
	got := s.rawExchange(t, requestFields(), nil, func(stream *rawh2.Stream) { _ = stream.Status(0, "") })
	assert.True(t, got.Reply.TrailersOnly, "first block: %v", got.Reply.Header)
	assert.Empty(t, got.Reply.Body)
	assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"))
}

// noMessageIsTwoBlocks: the opposite of trailersOnly.
func (s *suite) noMessageIsTwoBlocks(t *testing.T) {
	for _, code := range []string{"0", "3"} {
		got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Headers(rawh2.ResponseFields(rawh2.F("x-first", "1")), false)
			_ = stream.Trailers(rawh2.F("grpc-status", code), rawh2.F("x-second", "2"))
		})
		assert.False(t, got.Reply.TrailersOnly)
		assert.Empty(t, got.Reply.Body)
		assert.Equal(t, []string{"1"}, got.Reply.Header.Values("x-first"))
		assert.Equal(t, code, got.Reply.Trailer.Get("grpc-status"))
		assert.Equal(t, []string{"2"}, got.Reply.Trailer.Values("x-second"))
	}
}
