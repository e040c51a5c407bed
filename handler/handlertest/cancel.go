package handlertest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// cancel: a call that the client gives up is over at the backend too,
// however the client does it and however far the call is.
func (s *suite) cancel(t *testing.T) {
	for _, way := range []struct {
		name string
		up   func(t *testing.T, kind callKind)
	}{
		{"Context", s.cancelContext},
		{"ConnectionClosed", s.cancelByClose},
		{"SocketClosed", s.cancelBySocket},
		{"Reset", s.cancelByReset},
	} {
		s.run(t, way.name, func(t *testing.T) {
			for _, kind := range callKinds {
				s.run(t, kind.name, func(t *testing.T) { way.up(t, kind) })
			}
		})
	}
	s.each(t, []testCase{
		{"ResetBecomesReset", s.resetBecomesReset},
		{"OtherCallsLive", s.otherCallsLive},
	})
}

// callKind is one of the four kinds of calls in its middle: what each side
// has said when the call is given up.
type callKind struct {
	name    string
	desc    *grpc.StreamDesc
	halfEnd bool // the client has half-closed
	replied bool // the backend has sent a message
}

var callKinds = []callKind{
	{"Unary", unary, true, false},
	{"ClientStreaming", clientStreaming, false, false},
	{"ServerStreaming", serverStreaming, true, true},
	{"Bidi", bidi, false, true},
}

// middle is the backend's script that takes the call to its middle, says so,
// and reports its context's end.
func (k callKind) middle(reached chan<- struct{}, ended chan<- error) script {
	return func(stream grpc.ServerStream) error {
		if _, err := receive(stream); err != nil {
			return err
		}
		if k.replied {
			if err := stream.SendMsg([]byte("reply")); err != nil {
				return err
			}
		}
		reached <- struct{}{}
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// toMiddle starts a backend and makes a call to it that is in its middle when
// toMiddle returns.
func (s *suite) toMiddle(ctx context.Context, t *testing.T, kind callKind) (*grpc.ClientConn, grpc.ClientStream, <-chan error) {
	reached, ended := make(chan struct{}, 1), make(chan error, 1)
	cc := s.connect(t, kind.middle(reached, ended))
	stream := open(ctx, t, cc, kind.desc)
	send(t, stream, []byte("request"))
	if kind.halfEnd {
		require.NoError(t, stream.CloseSend())
	}
	if kind.replied {
		expect(t, stream, []byte("reply"), "reply")
	}
	await(ctx, t, reached, "the call's middle")
	return cc, stream, ended
}

// rawToMiddle is toMiddle with a raw client.
func (s *suite) rawToMiddle(ctx context.Context, t *testing.T, kind callKind) (*rawh2.Stream, <-chan error) {
	reached, ended := make(chan struct{}, 1), make(chan error, 1)
	addr := s.through(t, backend(t, kind.middle(reached, ended)))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(), false)
	require.NoError(t, stream.Data(rawh2.Frame(0, []byte("request")), kind.halfEnd))
	if kind.replied {
		_, err := stream.AwaitMessages(ctx, 1)
		require.NoError(t, err)
	}
	await(ctx, t, reached, "the call's middle")
	return stream, ended
}

// expectCanceled waits for the end of the backend's context.
func expectCanceled(ctx context.Context, t *testing.T, ended <-chan error) {
	t.Helper()
	err := await(ctx, t, ended, "the end of the backend's context")
	assert.ErrorIs(t, err, context.Canceled, "the backend's context")
}

func (s *suite) cancelContext(t *testing.T, kind callKind) {
	safe := s.context(t)
	ctx, cancel := context.WithCancel(safe)
	defer cancel()
	_, stream, ended := s.toMiddle(ctx, t, kind)
	cancel()
	expectCanceled(safe, t, ended)
	_, err := receive(stream)
	assert.Equal(t, codes.Canceled, status.Code(err), "%v", err)
}

func (s *suite) cancelByClose(t *testing.T, kind callKind) {
	ctx := s.context(t)
	cc, _, ended := s.toMiddle(ctx, t, kind)
	require.NoError(t, cc.Close())
	expectCanceled(ctx, t, ended)
}

// cancelBySocket: a client that crashes says nothing.
func (s *suite) cancelBySocket(t *testing.T, kind callKind) {
	ctx := s.context(t)
	stream, ended := s.rawToMiddle(ctx, t, kind)
	stream.Conn().Abort()
	expectCanceled(ctx, t, ended)
}

func (s *suite) cancelByReset(t *testing.T, kind callKind) {
	ctx := s.context(t)
	stream, ended := s.rawToMiddle(ctx, t, kind)
	require.NoError(t, stream.Reset(http2.ErrCodeCancel))
	expectCanceled(ctx, t, ended)
}

// resetBecomesReset: the backend is told by RST_STREAM, not by a half-close,
// which would look like a request that is complete.
func (s *suite) resetBecomesReset(t *testing.T) {
	ctx := s.context(t)
	reached, events := make(chan struct{}, 1), make(chan []rawh2.Event, 1)
	addr := s.through(t, rawBackend(t, func(stream *rawh2.Stream) {
		if _, err := stream.AwaitMessages(stream.Context(), 1); err != nil {
			return
		}
		reached <- struct{}{}
		_, _ = stream.AwaitReset(stream.Context())
		events <- stream.Events()
	}))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(), false)
	require.NoError(t, stream.Message(0, []byte("one of many")))
	await(ctx, t, reached, "the message at the backend")
	require.NoError(t, stream.Reset(http2.ErrCodeCancel))
	got := await(ctx, t, events, "the reset at the backend")
	last := got[len(got)-1]
	assert.Equal(t, rawh2.ResetEvent, last.Kind, "what came last: %v", last)
	assert.Equal(t, http2.ErrCodeCancel, last.Code)
	for _, e := range got {
		assert.False(t, e.EndStream, "END_STREAM: %v", e)
	}
}

// otherCallsLive: a cancel takes its own call and no other that shares the
// connection.
func (s *suite) otherCallsLive(t *testing.T) {
	ctx := s.context(t)
	gone := make(chan struct{}, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		err := echo(stream)
		if stream.Context().Err() != nil {
			gone <- struct{}{}
		}
		return err
	})
	stays := open(ctx, t, cc, bidi)
	send(t, stays, []byte("before"))
	expect(t, stays, []byte("before"), "the call that stays")
	for range 5 {
		dying, cancel := context.WithCancel(ctx)
		goes := open(dying, t, cc, bidi)
		send(t, goes, []byte("x"))
		expect(t, goes, []byte("x"), "the call that goes")
		cancel()
		await(ctx, t, gone, "the cancel at the backend")
		send(t, stays, []byte("still there"))
		expect(t, stays, []byte("still there"), "the call that stays")
	}
	require.NoError(t, stays.CloseSend())
	expectEnd(t, stays)
}
