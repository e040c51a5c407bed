package handlertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// metadata: whatever keys and values the two sides send arrive, in the
// request as in the response's headers and trailers, and nothing else does.
func (s *suite) metadata(t *testing.T) {
	for _, c := range []struct {
		name string
		md   metadata.MD
	}{
		{"ValuesInOrder", metadata.MD{"x-list": {"b", "a", "", "b", "c"}, "x-other": {"1"}}},
		{"BinaryValues", metadata.MD{"x-bytes-bin": {everyByte()}, "x-empty-bin": {""}, "x-list-bin": {"\x00", "\xff\xfe", "plain"}}},
		{"EmptyValue", metadata.MD{"x-empty": {""}}},
		{"ManyKeys", manyKeys(100, 50)},
		{"LongValue", metadata.MD{"x-long": {strings.Repeat("0123456789abcdef", 512)}}},
		{"LongBlock", manyKeys(100, 300)}, // more than one HTTP/2 frame
		{"KeyCharacters", metadata.MD{"x.dots.in.it": {"1"}, "x-dashes-in-it": {"2"}, "x_underscores": {"3"}, "x9": {"4"}, "9x": {"5"}, "a": {"6"}}},
		{"ValueCharacters", metadata.MD{"x-ascii": {printable()}, "x-comma": {"a,b, c"}, "x-quote": {`"a;b"=c`}}},
		{"Authorization", metadata.MD{"authorization": {"Bearer abc.def-123"}, "x-request-id": {"7"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}},
	} {
		s.run(t, c.name, func(t *testing.T) { s.sameMetadata(t, c.md) })
	}
	s.each(t, []testCase{
		{"PaddedBase64", s.paddedBase64},
		{"Authority", s.authority},
		{"UserAgent", s.userAgent},
		{"RequestContentType", s.requestContentType},
		{"ResponseContentType", s.responseContentType},
		{"ProtocolKeys", s.protocolKeys},
		{"RetryPushback", s.retryPushback},
		{"NothingExtraInRequest", s.nothingExtraInRequest},
		{"NothingExtraInPlainRequest", s.nothingExtraInPlainRequest},
		{"NothingExtraInResponse", s.nothingExtraInResponse},
	})
}

// everyByte is all 256 bytes.
func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// printable is every character that a text value may hold; the space is not
// at an end, where HTTP allows none.
func printable() string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()[:40] + " " + b.String()[40:]
}

func manyKeys(n, size int) metadata.MD {
	md := metadata.MD{}
	for i := range n {
		md.Set(fmt.Sprintf("x-key-%03d", i), strings.Repeat(fmt.Sprint(i%10), size))
	}
	return md
}

// only returns the entries of got that want has too.
func only(got, want metadata.MD) metadata.MD {
	got = got.Copy()
	maps.DeleteFunc(got, func(key string, _ []string) bool { return want[key] == nil })
	return got
}

// sameMetadata sends md in all places where metadata may be: in the request,
// in the headers and the trailers of an answer, in those of an error, and in
// an error that has no headers.
func (s *suite) sameMetadata(t *testing.T, md metadata.MD) {
	ctx := metadata.NewOutgoingContext(s.context(t), md)
	seen := make(chan metadata.MD, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		got, _ := metadata.FromIncomingContext(stream.Context())
		seen <- got
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		stream.SetTrailer(md)
		end := string(requests[0])
		if end != "error without headers" {
			if err := stream.SendHeader(md); err != nil {
				return err
			}
		}
		if end != "answer" {
			return status.Error(codes.DataLoss, end)
		}
		return stream.SendMsg([]byte{})
	})
	for _, end := range []string{"answer", "error with headers", "error without headers"} {
		var header, trailer metadata.MD
		var reply []byte
		err := cc.Invoke(ctx, method, []byte(end), &reply, grpc.Header(&header), grpc.Trailer(&trailer))
		if end == "answer" {
			require.NoError(t, err)
		} else {
			assert.Equal(t, codes.DataLoss, status.Code(err), "%s: %v", end, err)
		}
		assert.Equal(t, md, only(await(ctx, t, seen, "the request"), md), "request, %s", end)
		assert.Equal(t, md, only(trailer, md), "trailers, %s", end)
		if end != "error without headers" {
			assert.Equal(t, md, only(header, md), "headers, %s", end)
		}
	}
}

// paddedBase64: senders should not pad, receivers must take it either way.
func (s *suite) paddedBase64(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan metadata.MD, 1)
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md
		return nil
	}))
	rawOpen(t, rawDial(ctx, t, addr), requestFields(rawh2.F("x-padded-bin", "AQ=="), rawh2.F("x-plain-bin", "AQ")), true)
	md := await(ctx, t, seen, "the request")
	assert.Equal(t, []string{"\x01"}, md["x-padded-bin"])
	assert.Equal(t, []string{"\x01"}, md["x-plain-bin"])
}

// authority: it is how virtual hosts are told apart, so it is the client's.
func (s *suite) authority(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan []string, 1)
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md[":authority"]
		return nil
	}))
	for _, authority := range []string{"tenant-a.example.com", "tenant-b.example.com:8443", "[::1]:50051", "x"} {
		stream := open(ctx, t, dial(t, addr, grpc.WithAuthority(authority)), bidi)
		require.NoError(t, stream.CloseSend())
		assert.Equal(t, []string{authority}, await(ctx, t, seen, "the call"))
		expectEnd(t, stream)
	}
}

func (s *suite) userAgent(t *testing.T) {
	for _, agent := range []string{"grpc-java-netty/1.80.0", "my app/1.0 (x) grpc-go/1.85.0"} {
		got := s.rawExchange(t, requestFields(rawh2.F("user-agent", agent)), emptyMessage, answerOK)
		assert.Equal(t, []string{agent}, got.Request.Values("user-agent"))
	}
}

// contentTypes are those of the specification: what follows the + names the
// messages' format.
var contentTypes = []string{
	"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc+x-custom",
}

func (s *suite) requestContentType(t *testing.T) {
	for _, contentType := range contentTypes {
		got := s.rawExchange(t, replace(requestFields(), "content-type", contentType), emptyMessage, answerOK)
		assert.Equal(t, []string{contentType}, got.Request.Values("content-type"))
		assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"))
	}
}

// responseContentType: the backend's, in headers and in trailers-only.
func (s *suite) responseContentType(t *testing.T) {
	for _, contentType := range contentTypes {
		// Backends answer with the request's; so does this one.
		fields := replace(requestFields(), "content-type", contentType)
		got := s.rawExchange(t, fields, emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Headers(replace(rawh2.ResponseFields(), "content-type", contentType), false)
			_ = stream.Message(0, nil)
			_ = stream.Trailers(rawh2.F("grpc-status", "0"))
		})
		assert.Equal(t, []string{contentType}, got.Reply.Header.Values("content-type"))
		got = s.rawExchange(t, fields, emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Trailers(replace(rawh2.ResponseFields(rawh2.F("grpc-status", "5")), "content-type", contentType)...)
		})
		assert.Equal(t, []string{contentType}, got.Reply.Trailer.Values("content-type"), "trailers-only")
	}
}

// protocolKeys: keys that begin with grpc- and belong to the ends.
func (s *suite) protocolKeys(t *testing.T) {
	keys := rawh2.Fields{
		rawh2.F("grpc-trace-bin", bin([]byte("\x00\x00trace"))), rawh2.F("grpc-tags-bin", bin([]byte("\x00tags"))),
		rawh2.F("grpc-previous-rpc-attempts", "2"),
	}
	got := s.rawExchange(t, requestFields(keys...), emptyMessage, answerOK)
	for _, f := range keys {
		assert.Equal(t, values(t, keys, f.Name), values(t, got.Request, f.Name), f.Name)
	}
	assert.Equal(t, []string{"trailers"}, got.Request.Values("te"))
}

// retryPushback: with it a backend tells clients when to come again.
func (s *suite) retryPushback(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
		_ = stream.Status(14, "busy", rawh2.F("grpc-retry-pushback-ms", "1500"))
	})
	assert.Equal(t, []string{"1500"}, got.Reply.Trailer.Values("grpc-retry-pushback-ms"))
}

// nothingExtraInRequest: the backend sees the very fields that the client
// sent. The timeout may have become less.
func (s *suite) nothingExtraInRequest(t *testing.T) {
	sent := requestFields(
		rawh2.F("user-agent", "a client/1.0"), rawh2.F("grpc-accept-encoding", "gzip"), rawh2.F("grpc-timeout", "20S"),
		rawh2.F("x-first", "1"), rawh2.F("x-again", "a"), rawh2.F("x-between", "2"), rawh2.F("x-again", "b"),
		rawh2.F("x-bytes-bin", bin([]byte("\x00\xff"))), rawh2.F("grpc-trace-bin", bin([]byte("trace"))),
	)
	got := s.rawExchange(t, sent, emptyMessage, answerOK)
	// The user agent's value is another test's claim.
	sameFields(t, sent, got.Request, "request", "grpc-timeout", "user-agent")
}

// nothingExtraInPlainRequest: not even a user agent or a list of accepted
// encodings, when the client sent none.
func (s *suite) nothingExtraInPlainRequest(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, answerOK)
	sameFields(t, requestFields(), got.Request, "request")
}

// nothingExtraInResponse: as for the request, in answers, in errors after
// headers and in trailers-only.
func (s *suite) nothingExtraInResponse(t *testing.T) {
	header := rawh2.ResponseFields(rawh2.F("x-head", "1"), rawh2.F("x-head", "2"), rawh2.F("x-head-bin", bin([]byte{0, 1})))
	trailer := rawh2.Fields{rawh2.F("x-trail", "1"), rawh2.F("x-trail", "2"), rawh2.F("x-trail-bin", bin([]byte{2, 3}))}
	for _, st := range []rawh2.Fields{
		{rawh2.F("grpc-status", "0")},
		{rawh2.F("grpc-status", "0"), rawh2.F("grpc-message", "")},
		{rawh2.F("grpc-status", "9"), rawh2.F("grpc-message", "no")},
	} {
		sent := slices.Concat(st, trailer)
		got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Headers(header, false)
			_ = stream.Message(0, nil)
			_ = stream.Trailers(sent...)
		})
		sameFields(t, header, got.Reply.Header, "header")
		sameFields(t, sent, got.Reply.Trailer, "trailer")

		only := slices.Concat(rawh2.ResponseFields(), sent)
		got = s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) { _ = stream.Trailers(only...) })
		sameFields(t, only, got.Reply.Trailer, "trailers-only")
	}
}
