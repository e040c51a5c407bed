package frame

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestCallsOfEverySize(t *testing.T) {
	p, _ := to(t, options{maxMessage: 1 << 20}, rawh2.Options{}, echo)
	c := p.dial(rawh2.Options{})
	for _, n := range []int{0, 1, 1000, replayLimit, window, 1 << 20} {
		s := p.open(c, false)
		body := rawh2.Frame(0, make([]byte, n))
		require.NoError(t, s.Data(body, true))
		requireOK(t, p.reply(s), body)
	}
	p.settles()
}

// TestRefusedIsSentAgain: whole, with its end and its trailers, and the client is
// credited once, whatever had come when the backend refused.
func TestRefusedIsSentAgain(t *testing.T) {
	body := rawh2.Frame(0, make([]byte, 40<<10))
	for name, refuse := range map[string]func(*rawh2.Stream){
		"REFUSED_STREAM": func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeRefusedStream) },
		"GOAWAY": func(s *rawh2.Stream) {
			_ = s.Conn().GoAway(0, http2.ErrCodeNo, "")
			s.Conn().Hangup()
		},
	} {
		for _, came := range []int{0, 10, len(body)} {
			t.Run(name, func(t *testing.T) {
				var streams atomic.Int32
				trailers := make(chan string, 1)
				refused := make(chan struct{})
				p, _ := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
					if streams.Add(1) == 1 {
						_, _ = s.AwaitBody(s.Context(), came)
						refuse(s)
						close(refused)
						return
					}
					echo(s)
					events := s.Events()
					trailers <- events[len(events)-1].Fields.Get("x")
				})
				s := p.open(p.dial(rawh2.Options{}), false)
				require.NoError(t, s.Data(body[:came], false))
				<-refused
				require.NoError(t, s.Data(body[came:], false))
				require.NoError(t, s.Trailers(rawh2.F("x", "1")))
				requireOK(t, p.reply(s), body)
				require.Equal(t, "1", <-trailers)
				require.LessOrEqual(t, credits(s), len(body))
				p.settles()
			})
		}
	}
}

// credits is what a client has been credited on a stream.
func credits(s *rawh2.Stream) (n int) {
	for _, e := range s.Events() {
		if e.Kind == rawh2.WindowUpdateEvent {
			n += int(e.Increment)
		}
	}
	return n
}

// Once the head of a response is passed on the call is not sent again.
func TestRefusedAfterTheHead(t *testing.T) {
	p, backend := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Reset(http2.ErrCodeRefusedStream)
	})
	r := p.reply(p.open(p.dial(rawh2.Options{}), true))
	requireLocal(t, r, stream.Unavailable, stream.BackendRefused)
	require.NotNil(t, r.Header)
	require.Len(t, backend.Streams(), 1)
	p.settles()
}

// TestResetCodesCross in both directions.
func TestResetCodesCross(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeInternal, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm, 0xface} {
		t.Run(code.String(), func(t *testing.T) {
			fromBackend := make(chan http2.ErrCode, 1)
			p, _ := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
				if s.Request().Get("reset") != "" {
					_ = s.Reset(code)
					return
				}
				_ = s.Headers(rawh2.ResponseFields(), false)
				got, _ := s.AwaitReset(s.Context())
				fromBackend <- got
			})
			c := p.dial(rawh2.Options{})
			got, err := p.open(c, false, rawh2.F("reset", "1")).AwaitReset(p.safe())
			require.NoError(t, err)
			require.Equal(t, code, got)
			s := p.open(c, false)
			_, err = s.AwaitHeaders(p.safe())
			require.NoError(t, err)
			require.NoError(t, s.Reset(code))
			require.Equal(t, code, <-fromBackend)
			p.settles()
		})
	}
}

func TestLostClientEndsItsCalls(t *testing.T) {
	ended := make(chan http2.ErrCode, 2)
	p, backend := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
		code, _ := s.AwaitReset(s.Context())
		ended <- code
	})
	c := p.dial(rawh2.Options{})
	p.open(c, false)
	p.open(c, true)
	_, err := backend.AwaitStream(p.safe(), 2)
	require.NoError(t, err)
	c.Abort()
	require.Equal(t, http2.ErrCodeCancel, <-ended)
	require.Equal(t, http2.ErrCodeCancel, <-ended)
	p.settles()
}

// TestDeadlines end calls in whatever state they are.
func TestDeadlines(t *testing.T) {
	never := rawh2.Options{Settings: setting(http2.SettingMaxConcurrentStreams, 0)}
	for name, test := range map[string]struct {
		backend rawh2.Options
		script  func(*rawh2.Stream)
		timeout string
	}{
		"without a stream":  {never, hold, "20m"},
		"without an answer": {rawh2.Options{}, hold, "20m"},
		"in the answer":     {rawh2.Options{}, func(s *rawh2.Stream) { _ = s.Headers(rawh2.ResponseFields(), false) }, "20m"},
		"at once":           {rawh2.Options{}, hold, "1n"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := to(t, options{}, test.backend, test.script)
			r := p.reply(p.open(p.dial(rawh2.Options{}), false, rawh2.F("grpc-timeout", test.timeout)))
			requireLocal(t, r, stream.DeadlineExceeded, stream.DeadlinePassed)
			p.settles()
		})
	}
	t.Run("the route's", func(t *testing.T) {
		p, _ := to(t, options{timeout: 20 * time.Millisecond}, rawh2.Options{}, hold)
		r := p.reply(p.open(p.dial(rawh2.Options{}), true, rawh2.F("grpc-timeout", "1H")))
		requireLocal(t, r, stream.DeadlineExceeded, stream.RouteTimeout)
		p.settles()
	})
	t.Run("none", func(t *testing.T) {
		p, _ := to(t, options{}, rawh2.Options{}, hold)
		r := p.reply(p.open(p.dial(rawh2.Options{}), true, rawh2.F("grpc-timeout", "soon")))
		requireLocal(t, r, stream.Internal, stream.RequestMalformed)
		p.settles()
	})
}

func TestShutdown(t *testing.T) {
	p, backend := to(t, options{}, rawh2.Options{}, hold)
	c := p.dial(rawh2.Options{})
	s := p.open(c, true)
	_, err := backend.AwaitStream(p.safe(), 1)
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	p.relay.Shutdown(over)
	require.Zero(t, p.relay.ActiveCalls())
	requireLocal(t, p.reply(s), stream.Unavailable, stream.Shutdown)
	requireLocal(t, p.reply(p.open(c, true)), stream.Unavailable, stream.Shutdown)
	p.settles()
}

// Shutdown waits for the calls there are, whoever else waits too.
func TestShutdownWaits(t *testing.T) {
	answer := make(chan struct{})
	p, backend := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
		<-answer
		echo(s)
	})
	s := p.open(p.dial(rawh2.Options{}), true)
	_, err := backend.AwaitStream(p.safe(), 1)
	require.NoError(t, err)
	ended := make(chan error, 2)
	for range 2 {
		go func() { // ends with the call
			ctx := p.safe()
			p.relay.Shutdown(ctx)
			ended <- ctx.Err()
		}()
	}
	close(answer)
	requireOK(t, p.reply(s), nil)
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
}
