package frame

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// What a review of the package found, each fault with its test.

var message = rawh2.Frame(0, []byte("message"))

// A client that has filled its window while there was no connection is told that
// it may go on, though nothing else is to be said to it.
func TestClientThatFilledItsWindowBeforeTheConnectionGoesOn(t *testing.T) {
	const window = 30_000 // less than a backend takes at once, so that it need not say anything
	p, backend := to(t, options{window: window}, rawh2.Options{WithholdSettings: true}, echo)
	body := rawh2.Frame(0, make([]byte, 3*window))
	client := p.dial(rawh2.Options{})
	_, err := client.AwaitSettings(p.safe())
	require.NoError(t, err)
	s := p.open(client, false)
	require.NoError(t, s.Data(body[:window], false))
	require.NoError(t, client.Ping([8]byte{}))
	require.NoError(t, client.AwaitPongs(p.safe(), 1), "the window is taken in")
	c, err := backend.AwaitConn(p.safe(), 1)
	require.NoError(t, err)
	require.NoError(t, c.SendSettings(rawh2.Setting(http2.SettingInitialWindowSize, 8*window)))
	require.NoError(t, s.Data(body[window:], true))
	requireOK(t, p.reply(s), body)
	p.settles()
}

// A connection that does not take the stream is given back once.
func TestConnectionThatTakesNoStreamIsReleasedOnce(t *testing.T) {
	p, backend := to(t, options{}, rawh2.Options{Settings: setting(http2.SettingMaxHeaderListSize, 300)}, echo)
	c := p.dial(rawh2.Options{})
	for range 3 {
		r := p.reply(p.open(c, true, rawh2.F("long", strings.Repeat("x", 300))))
		requireLocal(t, r, stream.Internal, stream.ProxyInternal)
	}
	p.settles()
	require.Empty(t, backend.Streams())
	s := p.open(c, false)
	require.NoError(t, s.Data(message, true))
	requireOK(t, p.reply(s), message)
	p.settles()
}

// A call that ends while it waits for a stream does not give back what it has
// not got.
func TestCancelledWhileItWaitsForAStream(t *testing.T) {
	settings := setting(http2.SettingMaxConcurrentStreams, 0)
	p, backend := to(t, options{}, rawh2.Options{Settings: settings}, echo)
	s := p.open(p.dial(rawh2.Options{}), true)
	_, err := backend.AwaitConn(p.safe(), 1)
	require.NoError(t, err)
	require.NoError(t, s.Reset(http2.ErrCodeCancel))
	p.settles()
	require.Empty(t, backend.Streams())
}

// Request trailers that the backend does not accept end the call: without them
// it would wait for the request's end for ever.
func TestRequestTrailersThatTheBackendDoesNotAccept(t *testing.T) {
	p, _ := to(t, options{}, rawh2.Options{Settings: setting(http2.SettingMaxHeaderListSize, 400)}, hold)
	for name, wait := range map[string]bool{"behind the body": false, "before there is a stream": true} {
		t.Run(name, func(t *testing.T) {
			c := p.dial(rawh2.Options{})
			s := p.open(c, false)
			if wait {
				require.NoError(t, s.Data(message, false))
			}
			require.NoError(t, s.Trailers(rawh2.F("x", strings.Repeat("x", 400))))
			requireLocal(t, p.reply(s), stream.Internal, stream.ProxyInternal)
			p.settles()
		})
	}
}

func TestRequestThatEndsInsideAMessageWithTrailers(t *testing.T) {
	p, _ := to(t, options{}, rawh2.Options{}, hold)
	s := p.open(p.dial(rawh2.Options{}), false)
	require.NoError(t, s.Data(message[:6], false))
	require.NoError(t, s.Trailers(rawh2.F("x", "1")))
	requireLocal(t, p.reply(s), stream.Internal, stream.RequestMalformed)
	p.settles()
}

// A response that the client's limit on headers keeps out leaves room for one
// that says so, in the client's content type.
func TestResponseThatTheClientDoesNotAccept(t *testing.T) {
	long := rawh2.F("long", strings.Repeat("x", 600))
	for name, answer := range map[string]func(*rawh2.Stream){
		"trailers only": func(s *rawh2.Stream) { _ = s.Status(0, "", long) },
		"head":          func(s *rawh2.Stream) { _ = s.Headers(rawh2.ResponseFields(long), false) },
		"trailers": func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(), false)
			_ = s.Trailers(rawh2.F("grpc-status", "0"), long)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := to(t, options{}, rawh2.Options{}, answer)
			c := p.dial(rawh2.Options{Settings: setting(http2.SettingMaxHeaderListSize, 500)})
			fields := rawh2.RequestFields(method, "test")
			fields[4].Value = "application/grpc+proto"
			s, err := c.NewStream(fields, true)
			require.NoError(t, err)
			r := p.reply(s)
			requireLocal(t, r, stream.Internal, stream.BackendProtocol)
			if r.TrailersOnly {
				require.Equal(t, "application/grpc+proto", r.Trailer.Get("content-type"))
			}
			p.settles()
		})
	}
}

// A local answer is in the client's content type even when the request's head is
// no longer at hand.
func TestContentTypeOutlivesTheHead(t *testing.T) {
	p, _ := to(t, options{}, rawh2.Options{}, func(s *rawh2.Stream) {
		_, _ = s.AwaitBody(s.Context(), 2*replayLimit)
		s.Conn().Hangup()
	})
	fields := rawh2.RequestFields(method, "test")
	fields[4].Value = "application/grpc+json"
	s, err := p.dial(rawh2.Options{}).NewStream(fields, false)
	require.NoError(t, err)
	require.NoError(t, s.Data(rawh2.Frame(0, make([]byte, 3*replayLimit))[:2*replayLimit], false))
	r := p.reply(s)
	requireLocal(t, r, stream.Unavailable, stream.BackendDisconnected)
	require.Equal(t, "application/grpc+json", r.Trailer.Get("content-type"))
}

// The backend is told what remains of the shorter of both deadlines.
func TestRouteTimeoutShorterThanTheClients(t *testing.T) {
	told := make(chan string, 1)
	p, _ := to(t, options{timeout: 10 * time.Second}, rawh2.Options{}, func(s *rawh2.Stream) {
		told <- s.Request().Get("grpc-timeout")
		echo(s)
	})
	c := p.dial(rawh2.Options{})
	for _, client := range []string{"99999999H", "60S"} {
		requireOK(t, p.reply(p.open(c, true, rawh2.F("grpc-timeout", client))), nil)
		got := <-told
		require.True(t, got == "10000000u" || strings.HasPrefix(got, "9"), got)
		require.NotEqual(t, client, got)
	}
}

// A backend that has answered and takes no more of the request does not keep the
// call for ever, even if it does not say so.
func TestBackendThatAnswersAndNeverReads(t *testing.T) {
	p, backend := to(t, options{}, rawh2.Options{ManualWindow: true}, func(s *rawh2.Stream) {
		_, _ = s.AwaitBody(s.Context(), 65535)
		_ = s.OK([]byte("enough"))
	})
	s := p.open(p.dial(rawh2.Options{}), false)
	require.NoError(t, s.Data(rawh2.Frame(0, make([]byte, 100<<10)), true))
	requireOK(t, p.reply(s), rawh2.Frame(0, []byte("enough")))
	code, err := backend.Streams()[0].AwaitReset(p.safe())
	require.NoError(t, err)
	require.Equal(t, http2.ErrCodeNo, code)
	p.settles()
}

// A client that writes its request before it reads the answer gets rid of it
// once the call is over, whatever of it the backend has not taken.
func TestClientThatWritesFirstAndReadsThen(t *testing.T) {
	answer := rawh2.Frame(0, make([]byte, 2*window))
	p, _ := to(t, options{}, rawh2.Options{Settings: setting(http2.SettingInitialWindowSize, 1000), ManualWindow: true}, func(s *rawh2.Stream) {
		_, _ = s.AwaitBody(s.Context(), 1000)
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Data(answer[:window-1000], false)
		_ = s.Trailers(rawh2.F("grpc-status", "8"))
		_ = s.Reset(http2.ErrCodeNo)
	})
	c := p.dial(rawh2.Options{Settings: setting(http2.SettingInitialWindowSize, 10)})
	c.SetManualWindow(true)
	s := p.open(c, false)
	request := rawh2.Frame(0, make([]byte, 5*window))
	require.NoError(t, s.Data(request, true), "all of it can be written")
	require.NoError(t, c.WindowUpdate(s.ID(), window))
	require.Equal(t, "8", p.reply(s).Trailer.Get("grpc-status"))
	p.settles()
}

// Messages that come before one that is too long are passed on.
func TestMessagesBeforeOneThatIsTooLong(t *testing.T) {
	first := bytes.Repeat(message, 3)
	p, _ := to(t, options{maxMessage: 100}, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.DataFrame(append(append([]byte{}, first...), rawh2.Frame(0, make([]byte, 101))...), false)
	})
	r := p.reply(p.open(p.dial(rawh2.Options{}), true))
	requireLocal(t, r, stream.ResourceExhausted, stream.MessageTooLarge)
	require.Equal(t, first, r.Body)
	p.settles()
}
