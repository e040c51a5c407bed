package handlertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpcencoding "google.golang.org/grpc/encoding"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/stats"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// encoding: compression is the affair of client and backend. The flag on each
// message and the headers that name the encoding travel together, and nobody
// in between needs to know the encoding.
func (s *suite) encoding(t *testing.T) {
	s.each(t, []testCase{
		{"GzipBoth", func(t *testing.T) { s.gzip(t, true, true) }},
		{"GzipRequest", func(t *testing.T) { s.gzip(t, true, false) }},
		{"GzipResponse", func(t *testing.T) { s.gzip(t, false, true) }},
		{"GzipNeither", func(t *testing.T) { s.gzip(t, false, false) }},
		{"GzipPerMessage", s.gzipPerMessage},
		{"UnknownRequest", func(t *testing.T) { s.requestEncoding(t, "x-made-up", 1) }},
		{"UnknownResponse", func(t *testing.T) { s.responseEncoding(t, "x-made-up", 1) }},
		{"GzipHeaderOnly", func(t *testing.T) {
			s.requestEncoding(t, "gzip", 0)
			s.responseEncoding(t, "gzip", 0)
		}},
		{"IdentityRequest", func(t *testing.T) { s.requestEncoding(t, "identity", 0) }},
		{"IdentityResponse", func(t *testing.T) { s.responseEncoding(t, "identity", 0) }},
		{"NoneInvented", s.noneInvented},
		{"AcceptEncoding", s.acceptEncoding},
		{"ResponseAcceptEncoding", s.responseAcceptEncoding},
	})
}

// inbound is a stats.Handler that remembers what came in.
type inbound struct {
	mu         sync.Mutex
	encoding   string
	compressed []bool // for each message
}

func (in *inbound) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (in *inbound) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (in *inbound) HandleConn(context.Context, stats.ConnStats) {}

func (in *inbound) HandleRPC(_ context.Context, event stats.RPCStats) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch e := event.(type) {
	case *stats.InHeader:
		in.encoding = e.Compression
	case *stats.InPayload:
		in.compressed = append(in.compressed, e.CompressedLength != e.Length)
	}
}

func (in *inbound) seen() (encoding string, compressed []bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.encoding, in.compressed
}

// gzip makes a call that compresses in the directions given, and checks that
// just those arrive compressed.
func (s *suite) gzip(t *testing.T, request, response bool) {
	ctx := s.context(t)
	name := map[bool]string{true: grpcgzip.Name, false: grpcencoding.Identity}
	var atBackend, atClient inbound
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		// Otherwise grpc-go answers in the request's encoding.
		if err := grpc.SetSendCompressor(stream.Context(), name[response]); err != nil {
			return err
		}
		return echo(stream)
	}, grpc.StatsHandler(&atBackend)))
	cc := dial(t, addr, grpc.WithStatsHandler(&atClient))
	var opts []grpc.CallOption
	if request {
		opts = append(opts, grpc.UseCompressor(grpcgzip.Name))
	}
	stream := open(ctx, t, cc, bidi, opts...)
	m := bytes.Repeat([]byte("compressible "), 1000)
	for range 3 {
		send(t, stream, m)
		expect(t, stream, m, "reply")
	}
	require.NoError(t, stream.CloseSend())
	expectEnd(t, stream)

	encoding, compressed := atBackend.seen()
	assert.Equal(t, []bool{request, request, request}, compressed, "requests at the backend")
	assert.Equal(t, request, encoding == grpcgzip.Name, "request's grpc-encoding: %q", encoding)
	encoding, compressed = atClient.seen()
	assert.Equal(t, []bool{response, response, response}, compressed, "replies at the client")
	assert.Equal(t, name[response], encoding, "response's grpc-encoding")
}

// gzipped returns b compressed.
func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b) // a bytes.Buffer takes all
	_ = w.Close()
	return buf.Bytes()
}

// gzipPerMessage: the encoding is the call's, but whether it is used is each
// message's own matter.
func (s *suite) gzipPerMessage(t *testing.T) {
	body := bytes.Join([][]byte{
		rawh2.Frame(1, gzipped([]byte("one"))), rawh2.Frame(0, []byte("two")),
		rawh2.Frame(0, nil), rawh2.Frame(1, gzipped(nil)),
	}, nil)
	encoding := rawh2.F("grpc-encoding", "gzip")
	got := s.rawExchange(t, requestFields(encoding, rawh2.F("grpc-accept-encoding", "gzip")), body,
		func(stream *rawh2.Stream) {
			_ = stream.Headers(rawh2.ResponseFields(encoding), false)
			_ = stream.Data(body, false)
			_ = stream.Trailers(rawh2.F("grpc-status", "0"))
		})
	sameBytes(t, body, got.RequestBody, "request")
	sameBytes(t, body, got.Reply.Body, "response")
}

// requestEncoding sends a request of that grpc-encoding and compressed flag.
func (s *suite) requestEncoding(t *testing.T, encoding string, flag byte) {
	body := rawh2.Frame(flag, noise(100, 7))
	got := s.rawExchange(t, requestFields(rawh2.F("grpc-encoding", encoding)), body, answerOK)
	assert.Equal(t, []string{encoding}, got.Request.Values("grpc-encoding"))
	sameBytes(t, body, got.RequestBody, "request")
	assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"), got.Reply.Trailer)
	assert.False(t, got.Reply.Header.Has("grpc-encoding"), "the response has the request's encoding")
}

// responseEncoding answers with that grpc-encoding and compressed flag.
func (s *suite) responseEncoding(t *testing.T, encoding string, flag byte) {
	body := rawh2.Frame(flag, noise(100, 8))
	fields := requestFields(rawh2.F("grpc-accept-encoding", "identity,"+encoding))
	got := s.rawExchange(t, fields, emptyMessage, func(stream *rawh2.Stream) {
		_ = stream.Headers(rawh2.ResponseFields(rawh2.F("grpc-encoding", encoding)), false)
		_ = stream.Data(body, false)
		_ = stream.Trailers(rawh2.F("grpc-status", "0"))
	})
	assert.Equal(t, []string{encoding}, got.Reply.Header.Values("grpc-encoding"))
	sameBytes(t, body, got.Reply.Body, "response")
	assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"), got.Reply.Trailer)
}

// noneInvented: what a client accepts says nothing about what is used.
func (s *suite) noneInvented(t *testing.T) {
	got := s.rawExchange(t, requestFields(rawh2.F("grpc-accept-encoding", "gzip,identity")), emptyMessage, answerOK)
	assert.Empty(t, got.Request.Values("grpc-encoding"), "in the request")
	assert.Empty(t, got.Reply.Header.Values("grpc-encoding"), "in the response")
	assert.Empty(t, got.Reply.Header.Values("grpc-accept-encoding"), "in the response")
	assert.Empty(t, got.Reply.Trailer.Values("grpc-encoding"), "in the trailers")
}

func (s *suite) acceptEncoding(t *testing.T) {
	for _, value := range []string{"gzip", "identity, x-made-up,gzip", "identity"} {
		got := s.rawExchange(t, requestFields(rawh2.F("grpc-accept-encoding", value)), emptyMessage, answerOK)
		assert.Equal(t, []string{value}, got.Request.Values("grpc-accept-encoding"))
	}
	got := s.rawExchange(t, requestFields(), emptyMessage, answerOK)
	assert.Empty(t, got.Request.Values("grpc-accept-encoding"), "absent stays absent")
}

// responseAcceptEncoding: a backend that says what it accepts is heard.
func (s *suite) responseAcceptEncoding(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
		_ = stream.Headers(rawh2.ResponseFields(rawh2.F("grpc-accept-encoding", "gzip,x-made-up")), false)
		_ = stream.Message(0, nil)
		_ = stream.Trailers(rawh2.F("grpc-status", "0"))
	})
	assert.Equal(t, []string{"gzip,x-made-up"}, got.Reply.Header.Values("grpc-accept-encoding"))
}
