package handlertest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// status: how the backend ended the call is how it ended for the client.
func (s *suite) status(t *testing.T) {
	s.each(t, []testCase{
		{"Codes", s.codes},
		{"CodesBeyondGRPC", s.codesBeyondGRPC},
		{"Messages", s.statusMessages},
		{"MessageBadlyEncoded", s.messageBadlyEncoded},
		{"OneDetail", func(t *testing.T) { s.details(t, 1) }},
		{"ThreeDetails", func(t *testing.T) { s.details(t, 3) }},
		{"DetailsBytes", s.detailsBytes},
		{"DetailsMismatch", s.detailsMismatch},
		{"DetailsOpaque", s.detailsOpaque},
		{"ErrorAfterMessages", s.errorAfterMessages},
		{"ErrorWithTrailers", s.errorWithTrailers},
		{"ErrorAfterHeadersOnly", s.errorAfterHeadersOnly},
	})
}

// codes: every code of gRPC's, as the status of a call without and with a
// message before it.
func (s *suite) codes(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		code, _ := strconv.Atoi(string(requests[0]))
		if len(requests) > 1 {
			if err := stream.SendMsg(requests[1]); err != nil {
				return err
			}
		}
		return status.Error(codes.Code(code), fmt.Sprint("code ", code))
	})
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		for _, withMessage := range []bool{false, true} {
			stream := open(ctx, t, cc, bidi)
			send(t, stream, []byte(strconv.Itoa(int(code))))
			if withMessage {
				send(t, stream, []byte("a message"))
			}
			require.NoError(t, stream.CloseSend())
			if withMessage {
				expect(t, stream, []byte("a message"), "message")
			}
			if code == codes.OK {
				expectEnd(t, stream)
				continue
			}
			_, err := receive(stream)
			assertStatus(t, code, fmt.Sprint("code ", int(code)), err)
		}
	}
}

// codesBeyondGRPC: applications do use codes that gRPC has no name for.
func (s *suite) codesBeyondGRPC(t *testing.T) {
	for _, code := range []int{17, 42, 99, 1000} {
		got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Status(code, "of our own")
		})
		assert.Equal(t, strconv.Itoa(code), got.Reply.Trailer.Get("grpc-status"))
		assert.Equal(t, "of our own", got.Reply.Trailer.Get("grpc-message"))

		got = s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
			_ = stream.Headers(rawh2.ResponseFields(), false)
			_ = stream.Message(0, nil)
			_ = stream.Trailers(rawh2.F("grpc-status", strconv.Itoa(code)), rawh2.F("grpc-message", "after all"))
		})
		assert.Equal(t, strconv.Itoa(code), got.Reply.Trailer.Get("grpc-status"))
		assert.Equal(t, "after all", got.Reply.Trailer.Get("grpc-message"))
	}
}

func (s *suite) statusMessages(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		return status.Error(codes.FailedPrecondition, string(requests[0]))
	})
	for _, message := range []string{
		"", "plain", "with [biz error] in it", " leading", "trailing ", "  both  ", "100% %41 %zz %", "%", "%25",
		"ä漢😀", "line\nline\r\nline\ttab", "\x00\x01\x1f\x7f", "a: b, c; d=\"e\"",
		"\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n", // that of gRPC's interop tests
		strings.Repeat("4 KiB of text, ä. ", 228),
	} {
		var reply []byte
		err := cc.Invoke(ctx, method, []byte(message), &reply)
		assertStatus(t, codes.FailedPrecondition, message, err)
	}
}

// messageBadlyEncoded: the specification asks receivers to take bad percent
// encoding as it is. A proxy may spell it differently, if it says the same.
func (s *suite) messageBadlyEncoded(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, func(stream *rawh2.Stream) {
		_ = stream.Status(3, "100% %41 %zz %")
	})
	assert.Equal(t, "100% A %zz %", percentDecoded(got.Reply.Trailer.Get("grpc-message")))
}

// percentDecoded decodes a grpc-message and leaves alone what is no encoding.
func percentDecoded(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if c, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// details: as many applications use them.
func (s *suite) details(t *testing.T, count int) {
	ctx := s.context(t)
	all := []protoadapt.MessageV1{
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "QUOTA", Domain: "example.com", Metadata: map[string]string{"limit": "5"}}),
		protoadapt.MessageV1Of(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "name", Description: "ä漢😀"}}}),
		protoadapt.MessageV1Of(&errdetails.DebugInfo{StackEntries: []string{"one", "two"}, Detail: strings.Repeat("long ", 500)}),
	}
	want, err := status.New(codes.InvalidArgument, "look at the details").WithDetails(all[:count]...)
	require.NoError(t, err)
	cc := s.connect(t, func(grpc.ServerStream) error { return want.Err() })
	stream := open(ctx, t, cc, bidi)
	_, err = receive(stream)
	got := status.Convert(err)
	assert.Len(t, got.Details(), count)
	assert.True(t, proto.Equal(want.Proto(), got.Proto()), "want %v\ngot %v", want.Proto(), got.Proto())
	assert.Len(t, stream.Trailer()["grpc-status-details-bin"], 1, "how often the details come")
}

// detailsExchange answers with that code, message and details, trailers-only
// and after a message, and checks that the client gets these.
func (s *suite) detailsExchange(t *testing.T, code, message string, details []byte) {
	st := rawh2.Fields{
		rawh2.F("grpc-status", code), rawh2.F("grpc-message", message),
		rawh2.F("grpc-status-details-bin", bin(details)),
	}
	for _, answer := range []func(*rawh2.Stream){
		func(stream *rawh2.Stream) { _ = stream.Trailers(rawh2.ResponseFields(st...)...) },
		func(stream *rawh2.Stream) {
			_ = stream.Headers(rawh2.ResponseFields(), false)
			_ = stream.Message(0, nil)
			_ = stream.Trailers(st...)
		},
	} {
		trailer := s.rawExchange(t, requestFields(), emptyMessage, answer).Reply.Trailer
		assert.Equal(t, []string{code}, trailer.Values("grpc-status"))
		assert.Equal(t, []string{message}, trailer.Values("grpc-message"))
		assert.Equal(t, []string{string(details)}, values(t, trailer, "grpc-status-details-bin"))
	}
}

// detailsBytes: the same status can be spelt in many ways in protobuf; what
// the backend chose is kept, and with it what this proxy's protobuf does not
// know.
func (s *suite) detailsBytes(t *testing.T) {
	s.detailsExchange(t, "9", "in the way", []byte{
		0xf8, 0x7f, 0x01, // a field that google.rpc.Status has not
		0x12, 10, 'i', 'n', ' ', 't', 'h', 'e', ' ', 'w', 'a', 'y', // the message before the code
		0x08, 0x89, 0x00, // code 9 in more bytes than needed
		0x1a, 3, 0x0a, 1, 'x', // a detail of an unknown type
	})
}

// detailsMismatch: a status in the details that differs from the call's own
// is the backend's affair; neither replaces the other.
func (s *suite) detailsMismatch(t *testing.T) {
	details, err := proto.Marshal(&spb.Status{Code: 5, Message: "inner"})
	require.NoError(t, err)
	s.detailsExchange(t, "5", "outer", details)
	s.detailsExchange(t, "7", "another code", details)
}

// detailsOpaque: bytes that are no google.rpc.Status are still the backend's.
func (s *suite) detailsOpaque(t *testing.T) {
	s.detailsExchange(t, "5", "not found", []byte{0xff, 0xfe, 0xfd, 0x00, 'x'})
}

func (s *suite) errorAfterMessages(t *testing.T) {
	ctx := s.context(t)
	replies := numbered(10)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if err := sendAll(stream, replies); err != nil {
			return err
		}
		return status.Error(codes.DataLoss, "the rest is lost")
	})
	stream := open(ctx, t, cc, serverStreaming)
	send(t, stream, []byte("all, please"))
	got, err := collect(stream)
	sameMessages(t, replies, got, "messages before the error")
	assertStatus(t, codes.DataLoss, "the rest is lost", err)
}

func (s *suite) errorWithTrailers(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("x-why", "a", "x-why", "b", "x-why-bin", "\x00\x01"))
		return status.Error(codes.Unavailable, "gone fishing")
	})
	var trailer metadata.MD
	var reply []byte
	err := cc.Invoke(ctx, method, []byte("x"), &reply, grpc.Trailer(&trailer))
	assertStatus(t, codes.Unavailable, "gone fishing", err)
	assert.Equal(t, []string{"a", "b"}, trailer["x-why"])
	assert.Equal(t, []string{"\x00\x01"}, trailer["x-why-bin"])
}

func (s *suite) errorAfterHeadersOnly(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		return status.Error(codes.OutOfRange, "on second thoughts")
	})
	var reply []byte
	err := cc.Invoke(ctx, method, []byte("x"), &reply)
	assertStatus(t, codes.OutOfRange, "on second thoughts", err)
}
