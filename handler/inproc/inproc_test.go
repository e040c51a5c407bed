package inproc_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kitexproxy/kitexproxy/handler/compress"
	"github.com/kitexproxy/kitexproxy/handler/inproc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

var hello = wrapperspb.String("hello")

// ask makes a unary call that serve carries.
func ask(ctx context.Context, serve func(stream.Inbound), opts ...grpc.CallOption) (string, error) {
	var reply wrapperspb.StringValue
	err := connTo(serve).Invoke(ctx, method, hello, &reply, opts...)
	return reply.Value, err
}

// TestCallIsWhatWasAskedFor: what the relay sees of a call.
func TestCallIsWhatWasAskedFor(t *testing.T) {
	client, state := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}, &tls.ConnectionState{ServerName: "s"}
	deadline := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	ctx = metadata.NewOutgoingContext(inproc.WithPeer(ctx, client, state), metadata.MD{
		"Some-Key": {"one", " two "}, "raw-bin": {"\x00\xff"}, "grpc-trace-bin": {"t"},
		":path": {"/x"}, "content-type": {"text/html"}, "te": {"gzip"}, "host": {"h"}, "user-agent": {"u"}, "connection": {"close"},
		"grpc-timeout": {"1S"}, "grpc-encoding": {"br"}, "grpc-status": {"0"}, "Grpc-Message": {"m"}, stream.ReasonKey: {"r"},
	})
	var seen stream.Request
	got, err := ask(ctx, func(in stream.Inbound) {
		seen = *in.Request()
		require.Equal(t, client, in.Peer())
		require.Equal(t, state, in.(interface{ TLS() *tls.ConnectionState }).TLS())
		at, ok := in.Context().Deadline()
		require.True(t, ok && at.Equal(deadline))
		require.NoError(t, in.Context().Err())
		require.True(t, in.Complete(), "the request of a unary call is there when the call begins")
		require.True(t, in.Ready(1<<20))
		request, err := readFrame(in)
		require.NoError(t, err)
		require.Equal(t, frame(t, hello), request)
		require.Equal(t, io.EOF, in.Read(make([]byte, 1)))
		answer(frame(t, wrapperspb.String("hi")))(in)
		require.Error(t, in.Context().Err(), "the context ends with the call")
		require.Error(t, in.Write([]byte{1}))
		require.Error(t, in.WriteHeader(&stream.Header{}))
		require.Error(t, in.Read(make([]byte, 1)))
	}, grpc.CallAuthority("example.com"))
	require.NoError(t, err)
	require.Equal(t, "hi", got)

	fields := seen.Metadata
	require.Equal(t, stream.Field{Key: "user-agent", Value: "kitexproxy"}, fields[0])
	slices.SortStableFunc(fields, func(a, b stream.Field) int { return strings.Compare(a.Key, b.Key) })
	require.Equal(t, stream.Request{
		Method: method, Authority: "example.com", ContentType: "application/grpc", Metadata: stream.Metadata{
			{Key: "grpc-trace-bin", Value: "dA"},
			{Key: "raw-bin", Value: "AP8"},
			{Key: "some-key", Value: "one"},
			{Key: "some-key", Value: "two"},
			{Key: "user-agent", Value: "kitexproxy"},
		},
	}, seen)
}

// TestCallOfAClient: what a client has said is not believed to be something to send on.
func TestCallOfAClient(t *testing.T) {
	for _, c := range []struct{ authority, userAgent, wantAuthority, wantUserAgent string }{
		{"example.com:80", "lynx (a; b)", "example.com:80", "lynx (a; b)"},
		{"[::1]:80", " lynx ", "[::1]:80", "lynx"},
		{"", "", "a", "kitexproxy"},
		{"example.com/x", "l\x00", "a", "kitexproxy"},
		{"u@example.com", "l\u00e4", "a", "kitexproxy"},
		{"exam ple.com", "l\r\nx: y", "a", "kitexproxy"},
		{"ex\u00e4mple.com", "kitexproxy", "a", "kitexproxy"},
	} {
		conn := connTo(func(in stream.Inbound) {
			require.Equal(t, c.wantAuthority, in.Request().Authority)
			require.Equal(t, stream.Metadata{{Key: "user-agent", Value: c.wantUserAgent}}, in.Request().Metadata)
			answer(frame(t, hello))(in)
		}, inproc.WithCallOptions(grpc.CallAuthority("a")))
		ctx := inproc.WithClient(context.Background(), c.authority, c.userAgent)
		require.NoError(t, conn.Invoke(ctx, method, hello, &wrapperspb.StringValue{}))
	}
}

func TestCallWithoutAnythingToSay(t *testing.T) {
	conn := connTo(func(in stream.Inbound) {
		require.Equal(t, &stream.Request{Method: method, Authority: "a", ContentType: "application/grpc"}, in.Request())
		require.Equal(t, "inproc", in.Peer().String())
		require.Equal(t, "inproc", in.Peer().Network())
		require.Nil(t, in.(interface{ TLS() *tls.ConnectionState }).TLS())
		answer(frame(t, hello))(in)
	}, inproc.WithUserAgent(""), inproc.WithCallOptions(grpc.CallAuthority("a")))
	require.NoError(t, conn.Invoke(context.Background(), method, hello, &wrapperspb.StringValue{}))
}

func TestMetadataThatCannotCrossTheWire(t *testing.T) {
	for name, md := range map[string]metadata.MD{
		"key with a space": {"a b": {""}}, "empty key": {"": {""}}, "key that is no ASCII": {"ä": {""}},
		"line break": {"k": {"a\r\nb: c"}}, "value that is no ASCII": {"k": {"ä"}}, "tab": {"k": {"\t"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := metadata.NewOutgoingContext(context.Background(), md)
			var finished error
			_, err := ask(ctx, nil, grpc.OnFinish(func(err error) { finished = err }))
			require.Equal(t, codes.Internal, status.Code(err))
			require.ErrorContains(t, err, "metadata")
			require.Equal(t, err, finished)
			_, err = connTo(nil).NewStream(ctx, bidi, method)
			require.Equal(t, codes.Internal, status.Code(err))
		})
	}
}

// TestUnaryResponses: what becomes of what a backend sends.
func TestUnaryResponses(t *testing.T) {
	whole := frame(t, wrapperspb.String("whole"))
	long := frame(t, wrapperspb.String(strings.Repeat("x", 100_000)))
	var chopped [][]byte
	for b := range slices.Chunk(slices.Clone(long), 7) {
		chopped = append(chopped, b)
	}
	for name, c := range map[string]struct {
		response [][]byte
		code     codes.Code
		says     string
	}{
		"whole message":        {response: [][]byte{whole}},
		"message in pieces":    {response: chopped},
		"empty message":        {response: [][]byte{{0, 0, 0, 0, 0}}},
		"empty piece":          {response: [][]byte{nil, whole, nil}},
		"no message":           {code: codes.Internal, says: "no message"},
		"second message":       {response: [][]byte{whole, whole}, code: codes.Internal, says: "second message"},
		"part of a second":     {response: [][]byte{whole, {0}}, code: codes.Internal, says: "second message"},
		"part of a prefix":     {response: [][]byte{whole[:4]}, code: codes.Internal, says: "inside a message"},
		"part of a message":    {response: [][]byte{whole[:7]}, code: codes.Internal, says: "inside a message"},
		"unknown flags":        {response: [][]byte{framed(2, nil)}, code: codes.Internal, says: "flags 0x02"},
		"other bytes":          {response: [][]byte{framed(0, []byte("\xff\xff"))}, code: codes.Internal, says: "google.protobuf.StringValue"},
		"claim of a length":    {response: [][]byte{{0, 0xff, 0xff, 0xff, 0xff}}, code: codes.ResourceExhausted, says: "4294967295 bytes"},
		"compressed by nobody": {response: [][]byte{framed(1, nil)}, code: codes.Internal, says: "no grpc-encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask(safe(t), answer(c.response...))
			require.Equal(t, c.code, status.Code(err), "%v", err)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
			}
			s, err := connTo(answer(c.response...)).NewStream(safe(t), clientStream, method)
			require.NoError(t, err)
			require.NoError(t, s.CloseSend())
			err = s.RecvMsg(&wrapperspb.StringValue{})
			require.Equal(t, c.code, status.Code(err), "by a stream: %v", err)
			if c.code == codes.OK {
				err = io.EOF
			}
			require.Equal(t, err, s.RecvMsg(&wrapperspb.StringValue{}), "and so it stays")
		})
	}
}

// TestResponsesAreNotKeptBeyondTheLimit: a backend that goes on and on.
func TestResponsesAreNotKeptBeyondTheLimit(t *testing.T) {
	written := 0
	_, err := ask(safe(t), func(in stream.Inbound) {
		_ = in.WriteHeader(&stream.Header{})
		for in.Write(make([]byte, 100)) == nil {
			written += 100
		}
	}, grpc.MaxCallRecvMsgSize(1000))
	require.Equal(t, codes.Internal, status.Code(err), "they are many messages")
	require.LessOrEqual(t, written, 1200)
}

func TestLimits(t *testing.T) {
	exact := proto.Size(hello)
	var unary, streamed codes.Code
	for limit, want := range map[int]codes.Code{exact: codes.OK, exact - 1: codes.ResourceExhausted, -1: codes.ResourceExhausted} {
		for _, o := range []grpc.CallOption{grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)} {
			_, err := ask(safe(t), answer(frame(t, hello)), o)
			unary = status.Code(err)
			s, err := connTo(echo).NewStream(safe(t), bidi, method, o)
			require.NoError(t, err)
			if err = s.SendMsg(hello); err == nil {
				err = s.RecvMsg(&wrapperspb.StringValue{})
			}
			streamed = status.Code(err)
			require.NoError(t, s.CloseSend())
			require.Equal(t, want, unary, "%T %d", o, limit)
			require.Equal(t, want, streamed, "%T %d", o, limit)
			if want == codes.OK {
				require.Equal(t, io.EOF, s.RecvMsg(&wrapperspb.StringValue{}))
			} else {
				require.Error(t, s.RecvMsg(&wrapperspb.StringValue{}))
			}
		}
	}
}

func TestCompressedResponses(t *testing.T) {
	plain, err := proto.Marshal(wrapperspb.String(strings.Repeat("z", 10_000)))
	require.NoError(t, err)
	packed := func(name string) []byte {
		b, err := compress.Find(name).Compress(nil, plain)
		require.NoError(t, err)
		return framed(1, b)
	}
	for name, c := range map[string]struct {
		encoding string
		response []byte
		limit    int
		code     codes.Code
	}{
		"gzip":         {encoding: "gzip", response: packed("gzip")},
		"zstd":         {encoding: "zstd", response: packed("zstd")},
		"not that one": {encoding: "gzip", response: framed(0, plain)},
		"bomb":         {encoding: "gzip", response: packed("gzip"), limit: 5000, code: codes.ResourceExhausted},
		"no gzip":      {encoding: "gzip", response: framed(1, plain), code: codes.Internal},
		"unknown":      {encoding: "br", response: framed(1, plain), code: codes.Unimplemented},
		"identity":     {encoding: "identity", response: framed(1, plain), code: codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ask(safe(t), func(in stream.Inbound) {
				require.Empty(t, in.Request().AcceptEncoding)
				_ = in.WriteHeader(&stream.Header{Encoding: c.encoding})
				_ = in.Write(c.response)
				finish(in, stream.OK)
			}, grpc.MaxCallRecvMsgSize(cmp.Or(c.limit, 1<<20)))
			require.Equal(t, c.code, status.Code(err), "%v", err)
			if c.code == codes.OK {
				require.Len(t, got, 10_000)
			}
		})
	}
}

// TestStatus: how a call has ended.
func TestStatus(t *testing.T) {
	detail, err := anypb.New(hello)
	require.NoError(t, err)
	details, err := proto.Marshal(&spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail}})
	require.NoError(t, err)
	reset := func(code uint32) *uint32 { return &code }
	for name, c := range map[string]struct {
		end  stream.Trailer
		want *spb.Status
	}{
		"code and message":        {stream.Trailer{Status: stream.Status{Code: 5, Message: "m"}}, &spb.Status{Code: 5, Message: "m"}},
		"code that gRPC has not":  {stream.Trailer{Status: stream.Status{Code: 99}}, &spb.Status{Code: 99}},
		"details":                 {stream.Trailer{Status: stream.Status{Code: 9, Message: "m", Details: details}}, &spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail}}},
		"details of another code": {stream.Trailer{Status: stream.Status{Code: 8, Details: details}}, &spb.Status{Code: 8}},
		"details that are none":   {stream.Trailer{Status: stream.Status{Code: 9, Details: []byte("\xff")}}, &spb.Status{Code: 9}},
		"message that is no text": {stream.Trailer{Status: stream.Status{Code: 2, Message: "a\xff"}}, &spb.Status{Code: 2, Message: "a\uFFFD"}},
		"NO_ERROR":                {stream.Trailer{Reset: reset(0)}, &spb.Status{Code: 13}},
		"INTERNAL_ERROR":          {stream.Trailer{Reset: reset(2)}, &spb.Status{Code: 13}},
		"REFUSED_STREAM":          {stream.Trailer{Reset: reset(7)}, &spb.Status{Code: 14}},
		"CANCEL":                  {stream.Trailer{Reset: reset(8), Status: stream.Status{Message: "m"}}, &spb.Status{Code: 1, Message: "m"}},
		"ENHANCE_YOUR_CALM":       {stream.Trailer{Reset: reset(11)}, &spb.Status{Code: 8}},
		"INADEQUATE_SECURITY":     {stream.Trailer{Reset: reset(12)}, &spb.Status{Code: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			end := func(in stream.Inbound) {
				in.Finish(&c.end)
				in.Finish(&stream.Trailer{Status: stream.Status{Code: 3, Message: "too late"}})
			}
			_, err := ask(safe(t), end)
			require.True(t, proto.Equal(c.want, status.Convert(err).Proto()), "%v", err)
			s, err := connTo(end).NewStream(safe(t), bidi, method)
			require.NoError(t, err)
			err = s.RecvMsg(&wrapperspb.StringValue{})
			require.True(t, proto.Equal(c.want, status.Convert(err).Proto()), "by a stream: %v", err)
		})
	}
}

func TestHeadersAndTrailersAreTold(t *testing.T) {
	serve := func(in stream.Inbound) {
		_ = in.WriteHeader(&stream.Header{Metadata: stream.Metadata{{Key: "h", Value: "1"}, {Key: "h", Value: "2"}, {Key: "h-bin", Value: "AP8="}}})
		_ = in.Write(frame(t, hello))
		in.Finish(&stream.Trailer{Metadata: stream.Metadata{{Key: "t-bin", Value: "AP8"}, {Key: "bad-bin", Value: "%"}}})
	}
	header := metadata.MD{"h": {"1", "2"}, "h-bin": {"\x00\xff"}}
	trailer := metadata.MD{"t-bin": {"\x00\xff"}, "bad-bin": {"%"}}

	var h, tr metadata.MD
	finished := 0
	opts := []grpc.CallOption{grpc.Header(&h), grpc.Trailer(&tr), grpc.OnFinish(func(err error) {
		require.NoError(t, err)
		require.Equal(t, header, h)
		finished++
	}), grpc.WaitForReady(true)}
	_, err := ask(safe(t), serve, opts...)
	require.NoError(t, err)
	require.Equal(t, header, h)
	require.Equal(t, trailer, tr)
	require.Equal(t, 1, finished)

	h, tr = nil, nil
	s, err := connTo(serve).NewStream(safe(t), bidi, method, opts...)
	require.NoError(t, err)
	got, err := s.Header()
	require.NoError(t, err)
	require.Equal(t, header, got)
	require.NoError(t, s.RecvMsg(&wrapperspb.StringValue{}))
	require.Equal(t, 1, finished)
	require.Equal(t, io.EOF, s.RecvMsg(&wrapperspb.StringValue{}))
	require.Equal(t, trailer, s.Trailer())
	require.Equal(t, header, h)
	require.Equal(t, trailer, tr)
	require.Equal(t, 2, finished)
}

func TestAnswersWithoutHeaders(t *testing.T) {
	s, err := connTo(func(in stream.Inbound) { finish(in, 5) }).NewStream(safe(t), bidi, method)
	require.NoError(t, err)
	h, err := s.Header()
	require.NoError(t, err)
	require.Nil(t, h)
	require.Equal(t, codes.NotFound, status.Code(s.RecvMsg(&wrapperspb.StringValue{})))
}

func TestOptionsThatCannotBeHonored(t *testing.T) {
	for _, o := range []grpc.CallOption{grpc.PerRPCCredentials(nil), grpc.CallContentSubtype("json"), grpc.ForceCodec(nil), grpc.ForceCodecV2(nil)} {
		_, err := ask(safe(t), nil, o)
		require.Equal(t, codes.Internal, status.Code(err), "%T", o)
		_, err = connTo(nil, inproc.WithCallOptions(o)).NewStream(safe(t), bidi, method)
		require.ErrorContains(t, err, "CallOption", "%T", o)
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	conn := connTo(answer(frame(t, hello)))
	require.ErrorContains(t, conn.Invoke(safe(t), method, "text", hello), "string is not a proto.Message")
	require.ErrorContains(t, conn.Invoke(safe(t), method, hello, 7), "int is not a proto.Message")
	require.Equal(t, codes.Internal, status.Code(conn.Invoke(safe(t), method, wrapperspb.String("\xff"), hello)), "no UTF-8")
	s, err := conn.NewStream(safe(t), bidi, method)
	require.NoError(t, err)
	err = s.SendMsg(nil)
	require.ErrorContains(t, err, "is not a proto.Message")
	require.Equal(t, err, s.RecvMsg(&wrapperspb.StringValue{}), "the call has ended with it")
}

func TestFaultsOfTheRelay(t *testing.T) {
	var log bytes.Buffer
	for name, serve := range map[string]func(stream.Inbound){
		"panic":     func(stream.Inbound) { panic("secret") },
		"no finish": func(stream.Inbound) {},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connTo(serve, inproc.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			err := conn.Invoke(safe(t), method, hello, &wrapperspb.StringValue{})
			require.Equal(t, codes.Internal, status.Code(err))
			require.NotContains(t, err.Error(), "secret")
			s, err := conn.NewStream(safe(t), bidi, method)
			require.NoError(t, err)
			require.Equal(t, codes.Internal, status.Code(s.RecvMsg(&wrapperspb.StringValue{})))
		})
	}
	require.Equal(t, 2, strings.Count(log.String(), "secret"))
	require.Contains(t, log.String(), method)
}

func TestCallsThatHaveEndedDoNotBegin(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := ask(ctx, nil)
	require.Equal(t, codes.Canceled, status.Code(err))
	ctx, cancel = context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	_, err = connTo(nil).NewStream(ctx, bidi, method)
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
}

// TestServerStreamsBeginComplete: the relay need not wait for their request, and
// sends its end with it.
func TestServerStreamsBeginComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		complete := make(chan bool, 1)
		s, err := connTo(func(in stream.Inbound) {
			complete <- in.Complete()
			echo(in)
		}).NewStream(context.Background(), serverStream, method)
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, complete, "the relay would begin without the request")
		require.NoError(t, s.SendMsg(hello))
		require.NoError(t, s.CloseSend())
		require.True(t, <-complete)
		require.NoError(t, s.RecvMsg(&wrapperspb.StringValue{}))
		require.Equal(t, io.EOF, s.RecvMsg(&wrapperspb.StringValue{}))
		require.ErrorContains(t, s.SendMsg(hello), "after the half-close")
	})
}

// TestWhatIsWrittenIsNotChanged, nor what is behind it.
func TestWhatIsWrittenIsNotChanged(t *testing.T) {
	whole := frame(t, hello)
	behind := append(slices.Clone(whole[:6]), "not yours"...)
	_, err := ask(safe(t), answer(behind[:6], whole[6:]))
	require.NoError(t, err)
	require.Equal(t, "not yours", string(behind[6:]))
}

func TestConversation(t *testing.T) {
	s, err := connTo(echo).NewStream(safe(t), bidi, method)
	require.NoError(t, err)
	for n := range 100 {
		sent := wrapperspb.String(strings.Repeat("x", n*n*20))
		require.NoError(t, s.SendMsg(sent))
		var got wrapperspb.StringValue
		require.NoError(t, s.RecvMsg(&got))
		require.True(t, proto.Equal(sent, &got))
	}
	require.NoError(t, s.CloseSend())
	require.Equal(t, io.EOF, s.RecvMsg(&wrapperspb.StringValue{}))
}

// TestEarlyAnswerFreesTheSender: a backend need not read all of a request.
func TestEarlyAnswerFreesTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := make(chan struct{})
		s, err := connTo(func(in stream.Inbound) {
			<-enough
			_ = in.Write(frame(t, hello))
			finish(in, stream.OK)
		}).NewStream(context.Background(), bidi, method)
		require.NoError(t, err)
		sent := make(chan error, 1)
		go func() {
			for {
				if err := s.SendMsg(wrapperspb.String(strings.Repeat("x", 10_000))); err != nil {
					sent <- err
					return
				}
			}
		}()
		synctest.Wait()
		require.Empty(t, sent, "the sender waits")
		close(enough)
		require.Equal(t, io.EOF, <-sent)
		require.NoError(t, s.RecvMsg(&wrapperspb.StringValue{}))
		require.Equal(t, io.EOF, s.RecvMsg(&wrapperspb.StringValue{}))
		require.Equal(t, io.EOF, s.SendMsg(hello))
	})
}

// TestNoDirectionKeepsMuch: what is not read holds up who writes.
func TestNoDirectionKeepsMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		written, sent, begin := 0, 0, make(chan struct{})
		s, err := connTo(func(in stream.Inbound) {
			message := frame(t, wrapperspb.Bytes(make([]byte, 1000)))
			for in.Write(message) == nil {
				written += len(message)
			}
			close(begin)
			require.Error(t, readAll(in))
		}).NewStream(ctx, bidi, method)
		require.NoError(t, err)
		go func() {
			for s.SendMsg(wrapperspb.Bytes(make([]byte, 1000))) == nil {
				sent += 1000
			}
		}()
		synctest.Wait()
		require.InDelta(t, 64<<10, written, 2000)
		require.InDelta(t, 64<<10, sent, 2000)
		require.NoError(t, s.RecvMsg(&wrapperspb.BytesValue{}))
		synctest.Wait()
		require.InDelta(t, 128<<10, written, 4000, "and goes on when it is")
		cancel()
		<-begin
	})
}

// TestLongMessagesWaitAlone: one that is longer than the bound is not held up.
func TestLongMessagesWaitAlone(t *testing.T) {
	s, err := connTo(echo).NewStream(safe(t), bidi, method)
	require.NoError(t, err)
	sent := wrapperspb.Bytes(make([]byte, 3<<20))
	require.NoError(t, s.SendMsg(sent))
	var got wrapperspb.BytesValue
	require.NoError(t, s.RecvMsg(&got))
	require.Len(t, got.Value, 3<<20)
	require.NoError(t, s.CloseSend())
	require.Equal(t, io.EOF, s.RecvMsg(&got))
}

// TestEndOfTheContextEndsTheCall: both sides come back from whatever they wait in.
func TestEndOfTheContextEndsTheCall(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(stream.Inbound) error
		wait  func(grpc.ClientStream) error
	}{
		"reading":  {readAll, func(s grpc.ClientStream) error { return s.RecvMsg(&wrapperspb.StringValue{}) }},
		"headers":  {readAll, func(s grpc.ClientStream) error { _, _ = s.Header(); return s.RecvMsg(&wrapperspb.StringValue{}) }},
		"writing":  {writeForever, func(s grpc.ClientStream) error { <-s.Context().Done(); return receiveAll(s) }},
		"nobody":   {awaitEnd, func(s grpc.ClientStream) error { return s.RecvMsg(&wrapperspb.StringValue{}) }},
		"sending":  {awaitEnd, func(s grpc.ClientStream) error { return sendForever(s) }},
		"finished": {func(in stream.Inbound) error { finish(in, 0); return errors.New("done") }, func(s grpc.ClientStream) error { return s.RecvMsg(&wrapperspb.StringValue{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				served, finished := make(chan error, 1), make(chan error, 1)
				s, err := connTo(func(in stream.Inbound) {
					served <- c.serve(in)
					finish(in, stream.DeadlineExceeded) // as relays do
				}).NewStream(ctx, bidi, method, grpc.OnFinish(func(err error) { finished <- err }))
				require.NoError(t, err)
				err = c.wait(s)
				require.Error(t, <-served)
				if name == "finished" {
					require.Equal(t, io.EOF, err)
					require.NoError(t, <-finished)
					return
				}
				require.Equal(t, codes.DeadlineExceeded, status.Code(err))
				require.Equal(t, codes.DeadlineExceeded, status.Code(<-finished))
			})
		})
	}
}

func writeForever(in stream.Inbound) error {
	for {
		if err := in.Write(framed(0, nil)); err != nil {
			return err
		}
	}
}

func receiveAll(s grpc.ClientStream) error {
	for {
		if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			return err
		}
	}
}

func awaitEnd(in stream.Inbound) error {
	<-in.Context().Done()
	return in.Context().Err()
}

func sendForever(s grpc.ClientStream) error {
	for {
		if err := s.SendMsg(wrapperspb.Bytes(make([]byte, 1000))); err != nil {
			return s.RecvMsg(&wrapperspb.StringValue{})
		}
	}
}

func TestUnaryCallsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := ask(ctx, func(in stream.Inbound) {
			finish(in, map[error]stream.Code{context.DeadlineExceeded: stream.DeadlineExceeded}[awaitEnd(in)])
		})
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	})
}

// FuzzResponse: whatever a backend sends in whatever pieces, the two ways to take it
// in agree with grpc-go's model of a unary response, and nothing hangs.
func FuzzResponse(f *testing.F) {
	f.Add(framed(0, []byte("\n\x05hello")), 3, "")
	f.Add(append(framed(0, nil), framed(0, nil)...), 1, "gzip")
	f.Add([]byte{0, 0, 0, 0, 9, 1}, 100, "")
	f.Add(framed(1, []byte{0x1f, 0x8b}), 2, "gzip")
	f.Fuzz(func(t *testing.T, response []byte, size int, encoding string) {
		size = max(size, 1)
		serve := func(in stream.Inbound) {
			_ = in.WriteHeader(&stream.Header{Encoding: encoding})
			for b := range slices.Chunk(slices.Clone(response), size) {
				if in.Write(b) != nil {
					break
				}
			}
			finish(in, stream.OK)
		}
		var unary, streamed wrapperspb.BytesValue
		conn := connTo(serve, inproc.WithCallOptions(grpc.MaxCallRecvMsgSize(1000)))
		errUnary := conn.Invoke(context.Background(), method, hello, &unary)
		s, err := conn.NewStream(context.Background(), clientStream, method)
		require.NoError(t, err)
		errStreamed := s.RecvMsg(&streamed)
		if errUnary == nil || errStreamed == nil {
			require.NoError(t, errUnary)
			require.NoError(t, errStreamed)
			require.True(t, proto.Equal(&unary, &streamed))
		}
		if len(response) >= stream.PrefixLen && response[0] == 0 {
			whole := int(response[1])<<24|int(response[2])<<16|int(response[3])<<8|int(response[4]) == len(response)-stream.PrefixLen
			decodes := proto.Unmarshal(response[stream.PrefixLen:], &wrapperspb.BytesValue{}) == nil
			require.Equal(t, whole && decodes && len(response) <= 1000+stream.PrefixLen, errUnary == nil, "%v", errUnary)
		}
	})
}

// ExampleConn makes a call that a function of the process answers.
func ExampleConn() {
	conn := inproc.New(func(in stream.Inbound) {
		in.Finish(&stream.Trailer{Status: stream.Status{Code: stream.Unimplemented, Message: in.Request().Method}})
	})
	err := conn.Invoke(context.Background(), "/package.Service/Method", wrapperspb.String("in"), &wrapperspb.StringValue{})
	fmt.Println(status.Convert(err).Message())
	// Output: /package.Service/Method
}
