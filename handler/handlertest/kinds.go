package handlertest

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// kinds: each of the four kinds of calls works, and each side's end of stream
// reaches the other when it was made, neither earlier nor later.
func (s *suite) kinds(t *testing.T) {
	s.each(t, []testCase{
		{"Unary", s.unaryCall},
		{"ClientStreaming", s.clientStreamingCall},
		{"ServerStreaming", s.serverStreamingCall},
		{"Bidi", s.bidiCall},
		{"PingPong", s.pingPong},
		{"ManyStreams", s.manyStreams},
		{"MethodNames", s.methodNames},
		{"NoMessage", s.noMessage},
		{"NoMessageHeadersEndStream", s.noMessageHeadersEndStream},
		{"EndStreamAfterLastMessage", s.endStreamAfterLastMessage},
		{"EndStreamWithLastMessage", s.endStreamWithLastMessage},
		{"BackendSendsAfterHalfClose", s.backendSendsAfterHalfClose},
		{"HalfCloseWhileBackendSends", s.halfCloseWhileBackendSends},
		{"BackendSendsFirst", s.backendSendsFirst},
		{"StatusBeforeAnyMessage", s.statusBeforeAnyMessage},
		{"StatusBeforeHalfClose", s.statusBeforeHalfClose},
		{"ReplyBeforeHalfClose", s.replyBeforeHalfClose},
	})
}

func (s *suite) unaryCall(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan [][]byte, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		seen <- requests
		return stream.SendMsg([]byte("reply"))
	})
	var reply []byte
	require.NoError(t, cc.Invoke(ctx, method, []byte("request"), &reply))
	assert.Equal(t, "reply", string(reply))
	sameMessages(t, [][]byte{[]byte("request")}, await(ctx, t, seen, "the request"), "request")
}

func (s *suite) clientStreamingCall(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan [][]byte, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		requests, err := collect(stream)
		if err != nil {
			return err
		}
		seen <- requests
		return stream.SendMsg([]byte("reply"))
	})
	sent := numbered(20)
	stream := open(ctx, t, cc, clientStreaming)
	send(t, stream, sent...)
	require.NoError(t, stream.CloseSend())
	expect(t, stream, []byte("reply"), "reply")
	sameMessages(t, sent, await(ctx, t, seen, "the requests"), "requests")
}

func (s *suite) serverStreamingCall(t *testing.T) {
	ctx := s.context(t)
	replies := numbered(20)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if _, err := collect(stream); err != nil {
			return err
		}
		return sendAll(stream, replies)
	})
	stream := open(ctx, t, cc, serverStreaming)
	send(t, stream, []byte("request"))
	require.NoError(t, stream.CloseSend())
	got, err := collect(stream)
	require.NoError(t, err)
	sameMessages(t, replies, got, "replies")
}

// bidiCall: the two directions need not know of each other.
func (s *suite) bidiCall(t *testing.T) {
	ctx := s.context(t)
	requests, replies := numbered(30), numbered(40)
	seen := make(chan [][]byte, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		sent := make(chan error, 1)
		go func() { sent <- sendAll(stream, replies) }()
		got, err := collect(stream)
		seen <- got
		if sendErr := <-sent; err == nil {
			err = sendErr
		}
		return err
	})
	stream := open(ctx, t, cc, bidi)
	sent := make(chan error, 1)
	go func() {
		for _, m := range requests {
			if err := stream.SendMsg(m); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	got, err := collect(stream)
	require.NoError(t, err)
	require.NoError(t, await(ctx, t, sent, "the sender"))
	sameMessages(t, replies, got, "replies")
	sameMessages(t, requests, await(ctx, t, seen, "the requests"), "requests")
}

// pingPong: nothing waits for a message that is not there yet.
func (s *suite) pingPong(t *testing.T) {
	ctx := s.context(t)
	stream := open(ctx, t, s.connect(t, echo), bidi)
	for i := range 100 {
		m := fmt.Appendf(nil, "ping %d", i)
		send(t, stream, m)
		expect(t, stream, m, "pong")
	}
	require.NoError(t, stream.CloseSend())
	expectEnd(t, stream)
}

// manyStreams: calls that share the client's connection do not mix.
func (s *suite) manyStreams(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, echo)
	var wg sync.WaitGroup
	for i := range 64 {
		stream := open(ctx, t, cc, bidi)
		wg.Go(func() {
			for j := range 20 {
				m := fmt.Appendf(nil, "stream %d message %d", i, j)
				if err := stream.SendMsg(m); !assert.NoError(t, err) {
					return
				}
				got, err := receive(stream)
				if !assert.NoError(t, err) || !assert.Equal(t, string(m), string(got)) {
					return
				}
			}
			assert.NoError(t, stream.CloseSend())
			_, err := receive(stream)
			assert.ErrorIs(t, err, io.EOF)
		})
	}
	wg.Wait()
}

func (s *suite) methodNames(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan string, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		seen <- name
		return echo(stream)
	})
	for _, name := range []string{
		"/NoPackage/Call", "/one.Service/Call", "/a.b.c.d.v1beta1.Service/Call",
		"/under_score.My_Service/my_method", "/pkg.S/m", "/pkg.Service/9",
	} {
		var reply []byte
		require.NoError(t, cc.Invoke(ctx, name, []byte("x"), &reply), name)
		assert.Equal(t, name, await(ctx, t, seen, "the call"))
	}
}

// noMessage: a half-close with nothing before it is the end of an empty
// stream, not the lack of a stream.
func (s *suite) noMessage(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan error, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		_, err := receive(stream)
		seen <- err
		return nil
	})
	stream := open(ctx, t, cc, bidi)
	require.NoError(t, stream.CloseSend())
	require.ErrorIs(t, await(ctx, t, seen, "the half-close"), io.EOF)
	expectEnd(t, stream)
}

// noMessageHeadersEndStream is noMessage from clients that say all of it in
// one frame, as grpc-java and curl do.
func (s *suite) noMessageHeadersEndStream(t *testing.T) {
	ctx := s.context(t)
	seen := make(chan error, 1)
	addr := s.through(t, backend(t, func(stream grpc.ServerStream) error {
		_, err := receive(stream)
		seen <- err
		return stream.SendMsg([]byte("nothing came"))
	}))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(), true)
	require.ErrorIs(t, await(ctx, t, seen, "the half-close"), io.EOF)
	reply, err := stream.AwaitReply(ctx)
	require.NoError(t, err)
	assert.Equal(t, "0", reply.Trailer.Get("grpc-status"), reply.Trailer)
	sameBytes(t, rawh2.Frame(0, []byte("nothing came")), reply.Body, "reply")
}

// endStreamAfterLastMessage: END_STREAM comes neither with the first message,
// while the client may have more, nor never.
func (s *suite) endStreamAfterLastMessage(t *testing.T) {
	ctx := s.context(t)
	ended := make(chan bool, 1)
	addr := s.through(t, rawBackend(t, func(stream *rawh2.Stream) {
		for n := 1; n <= 3; n++ {
			if _, err := stream.AwaitMessages(stream.Context(), n); err != nil {
				return
			}
			if n == 1 {
				_ = stream.Headers(rawh2.ResponseFields(), false)
			}
			for _, e := range stream.Events() {
				if e.EndStream {
					ended <- true
					return
				}
			}
			_ = stream.Message(0, []byte("go on"))
		}
		if _, err := stream.AwaitEndStream(stream.Context()); err != nil {
			return
		}
		ended <- false
		_ = stream.Trailers(rawh2.F("grpc-status", "0"))
	}))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(), false)
	for n := 1; n <= 3; n++ {
		require.NoError(t, stream.Message(0, []byte("message")))
		_, err := stream.AwaitMessages(ctx, n)
		require.NoError(t, err)
	}
	require.NoError(t, stream.Data(nil, true))
	assert.False(t, await(ctx, t, ended, "END_STREAM"), "END_STREAM came before the client's")
	reply, err := stream.AwaitReply(ctx)
	require.NoError(t, err)
	assert.Equal(t, "0", reply.Trailer.Get("grpc-status"))
}

// endStreamWithLastMessage: a client may set END_STREAM on the last message's
// own DATA frame.
func (s *suite) endStreamWithLastMessage(t *testing.T) {
	body := append(rawh2.Frame(0, []byte("one")), rawh2.Frame(0, []byte("two"))...)
	got := s.rawExchange(t, requestFields(), body, answerOK)
	sameBytes(t, body, got.RequestBody, "request")
	assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"))
}

func (s *suite) backendSendsAfterHalfClose(t *testing.T) {
	ctx := s.context(t)
	replies := numbered(50)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if _, err := collect(stream); err != nil {
			return err
		}
		return sendAll(stream, replies)
	})
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("only one"))
	require.NoError(t, stream.CloseSend())
	got, err := collect(stream)
	require.NoError(t, err)
	sameMessages(t, replies, got, "replies")
}

// halfCloseWhileBackendSends: the half-close in the middle of the response
// neither waits for the response's end nor ends it.
func (s *suite) halfCloseWhileBackendSends(t *testing.T) {
	ctx := s.context(t)
	replies := numbered(20)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if err := sendAll(stream, replies[:10]); err != nil {
			return err
		}
		if _, err := collect(stream); err != nil {
			return err
		}
		return sendAll(stream, replies[10:])
	})
	stream := open(ctx, t, cc, bidi)
	for i, want := range replies {
		if i == 10 {
			require.NoError(t, stream.CloseSend())
		}
		expect(t, stream, want, fmt.Sprint("reply ", i))
	}
	expectEnd(t, stream)
}

func (s *suite) backendSendsFirst(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if err := stream.SendMsg([]byte("backend first")); err != nil {
			return err
		}
		return echo(stream)
	})
	stream := open(ctx, t, cc, bidi)
	expect(t, stream, []byte("backend first"), "the first message")
	send(t, stream, []byte("client second"))
	expect(t, stream, []byte("client second"), "the second message")
	require.NoError(t, stream.CloseSend())
	expectEnd(t, stream)
}

// statusBeforeAnyMessage: the backend may refuse a call that has only begun.
func (s *suite) statusBeforeAnyMessage(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(grpc.ServerStream) error { return status.Error(codes.PermissionDenied, "not you") })
	stream := open(ctx, t, cc, bidi)
	_, err := receive(stream)
	assertStatus(t, codes.PermissionDenied, "not you", err)
}

func (s *suite) statusBeforeHalfClose(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if _, err := receive(stream); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "that is enough")
	})
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("one of many"))
	_, err := receive(stream)
	assertStatus(t, codes.Aborted, "that is enough", err)
}

// replyBeforeHalfClose: a backend that has heard enough may also answer well,
// without waiting for the rest.
func (s *suite) replyBeforeHalfClose(t *testing.T) {
	ctx := s.context(t)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		if _, err := receive(stream); err != nil {
			return err
		}
		return stream.SendMsg([]byte("that will do"))
	})
	stream := open(ctx, t, cc, bidi)
	send(t, stream, []byte("one of many"))
	expect(t, stream, []byte("that will do"), "reply")
	expectEnd(t, stream)
}

// sendAll sends messages as the backend.
func sendAll(stream grpc.ServerStream, messages [][]byte) error {
	for _, m := range messages {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// numbered makes n short messages that differ.
func numbered(n int) [][]byte {
	messages := make([][]byte, n)
	for i := range messages {
		messages[i] = fmt.Appendf(nil, "message %d", i)
	}
	return messages
}

// assertStatus checks a call's code and message.
func assertStatus(t *testing.T, code codes.Code, message string, err error) {
	t.Helper()
	got := status.Convert(err)
	assert.Equal(t, code, got.Code(), "code of: %v", err)
	assert.Equal(t, message, got.Message())
}
