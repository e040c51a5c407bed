package h2

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// lie is what a backend does with a stream, and how the client's side ends.
type lie struct {
	name string
	do   func(c *rawh2.Conn, s *rawh2.Stream) error
	code http2.ErrCode
}

var head = rawh2.Fields{rawh2.F(":status", "200")}

var lies = []lie{
	{"DATA before the head", func(_ *rawh2.Conn, s *rawh2.Stream) error { return s.DataFrame([]byte("x"), false) }, http2.ErrCodeProtocol},
	{"the head twice", func(_ *rawh2.Conn, s *rawh2.Stream) error { _ = s.Headers(head, false); return s.Headers(head, false) }, http2.ErrCodeProtocol},
	{"trailers without END_STREAM", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		_ = s.Headers(head, false)
		return s.Headers(rawh2.Fields{rawh2.F("a", "b")}, false)
	}, http2.ErrCodeProtocol},
	{"frames after END_STREAM", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		_ = s.Headers(head, true)
		return s.DataFrame([]byte("x"), false)
	}, http2.ErrCodeStreamClosed},
	{"DATA beyond the window", func(_ *rawh2.Conn, s *rawh2.Stream) error { _ = s.Headers(head, false); return overfill(s, 70<<10) }, http2.ErrCodeFlowControl},
	{"no status", answer(rawh2.F("a", "b")), http2.ErrCodeProtocol},
	{"a status of two digits", answer(rawh2.F(":status", "20")), http2.ErrCodeProtocol},
	{"a status that is no number", answer(rawh2.F(":status", "2x0")), http2.ErrCodeProtocol},
	{"a status below 100", answer(rawh2.F(":status", "099")), http2.ErrCodeProtocol},
	{"status twice", answer(rawh2.F(":status", "200"), rawh2.F(":status", "200")), http2.ErrCodeProtocol},
	{"status behind other fields", answer(rawh2.F("a", "b"), rawh2.F(":status", "200")), http2.ErrCodeProtocol},
	{"status 101", answer(rawh2.F(":status", "101")), http2.ErrCodeProtocol},
	{"a request's pseudo-header", answer(rawh2.F(":status", "200"), rawh2.F(":path", "/")), http2.ErrCodeProtocol},
	{"a field of HTTP/1", answer(rawh2.F(":status", "200"), rawh2.F("connection", "close")), http2.ErrCodeProtocol},
	{"a capital", answer(rawh2.F(":status", "200"), rawh2.F("A", "b")), http2.ErrCodeProtocol},
	{"a line break", answer(rawh2.F(":status", "200"), rawh2.F("a", "b\r\nc")), http2.ErrCodeProtocol},
	{"an interim response that ends the stream", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		return s.Headers(rawh2.Fields{rawh2.F(":status", "103")}, true)
	}, http2.ErrCodeProtocol},
	{"a head too long", answer(rawh2.F(":status", "200"), rawh2.F("a", strings.Repeat("x", 70<<10))), http2.ErrCodeCancel},
	{"two content-lengths", answer(rawh2.F(":status", "200"), rawh2.F("content-length", "1"), rawh2.F("content-length", "2")), http2.ErrCodeProtocol},
	{"a body without content", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		_ = s.Headers(append(head, rawh2.F("content-length", "5")), false)
		return s.Trailers()
	}, http2.ErrCodeProtocol},
}

func answer(fields ...rawh2.Field) func(*rawh2.Conn, *rawh2.Stream) error {
	return func(_ *rawh2.Conn, s *rawh2.Stream) error { return s.Headers(fields, false) }
}

// The backend is told, and so is who waits; another stream goes on.
func TestLiesOfBackends(t *testing.T) {
	for _, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.StreamWindow = 65535
			c, raw, _ := rawServer(t, cfg, rawh2.Options{})
			_, e := open(t, c, false)
			_, healthy := open(t, c, true)
			s := raw.stream(t, 1)
			other := raw.stream(t, 2)
			require.NoError(t, l.do(raw.Conn, s))
			var reset *ResetError
			require.ErrorAs(t, e.awaitClosed(t), &reset)
			require.Equal(t, l.code, reset.Code)
			require.NotEmpty(t, reset.Reason)
			code, err := s.AwaitReset(context.Background())
			require.NoError(t, err)
			require.Equal(t, l.code, code)
			require.NoError(t, other.Headers(head, true))
			require.NoError(t, healthy.awaitClosed(t))
			require.Equal(t, 1, e.closed)
		})
	}
}

func TestViolationsOfBackends(t *testing.T) {
	push := violation{"ENABLE_PUSH of 1", setting(http2.SettingEnablePush, 1), http2.ErrCodeProtocol, true, nil}
	for _, v := range append([]violation{push}, violations...) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c, raw, ended := rawServer(t, testConfig(), rawh2.Options{})
			_, e := open(t, c, false)
			s := raw.stream(t, 1)
			awaitAck(t, c)
			require.NoError(t, v.do(raw.Conn, s))
			err := e.awaitClosed(t)
			if !v.conn {
				var reset *ResetError
				require.ErrorAs(t, err, &reset)
				require.Equal(t, v.code, reset.Code)
				return
			}
			var lost *LostError
			var fault *ConnError
			require.ErrorAs(t, err, &lost)
			require.False(t, lost.Unprocessed)
			require.ErrorAs(t, await(t, ended, "Serve"), &fault)
			require.Equal(t, v.code, fault.Code)
			requireGoAway(t, raw.Conn, v.code)
		})
	}
}

// What a backend may do, and what it means.
func TestInterimResponses(t *testing.T) {
	c, raw, _ := rawServer(t, testConfig(), rawh2.Options{})
	_, e := open(t, c, true)
	s := raw.stream(t, 1)
	for range 3 {
		require.NoError(t, s.Headers(rawh2.Fields{rawh2.F(":status", "103"), rawh2.F("content-length", "7")}, false))
	}
	require.NoError(t, s.Headers(head, false))
	require.NoError(t, s.DataFrame([]byte("body"), false))
	require.NoError(t, s.Trailers(rawh2.F("a", "b")))
	require.NoError(t, e.awaitClosed(t))
	require.Equal(t, [][]hpack.HeaderField{{{Name: ":status", Value: "200"}}}, e.heads)
	require.Equal(t, "body", string(e.body))
	require.Equal(t, [][]hpack.HeaderField{{{Name: "a", Value: "b"}}}, e.trailers)
}

func TestGoAwayOfBackend(t *testing.T) {
	changed := make(chan struct{}, 100)
	cfg := testConfig()
	cfg.Changed = func(*Conn) { changed <- struct{}{} }
	c, raw, ended := rawServer(t, cfg, rawh2.Options{})
	_, first := open(t, c, true)
	_, second := open(t, c, true)
	s := raw.stream(t, 1)
	raw.stream(t, 2)
	require.NoError(t, raw.GoAway(1, http2.ErrCodeNo, "bye"))
	var lost *LostError
	require.ErrorAs(t, second.awaitClosed(t), &lost)
	require.True(t, lost.Unprocessed)
	await(t, changed, "Changed")
	require.False(t, c.Usable())
	_, err := c.Open(request(), true, newEar())
	require.ErrorIs(t, err, ErrDraining)
	require.NoError(t, s.Headers(head, true)) // the first goes on to its end
	require.NoError(t, first.awaitClosed(t))
	require.NoError(t, await(t, ended, "Serve"))
	require.NoError(t, raw.AwaitClosed(context.Background()))
}

func TestResetByBackend(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeNo, http2.ErrCodeCancel} {
		c, raw, _ := rawServer(t, testConfig(), rawh2.Options{})
		_, e := open(t, c, false)
		require.NoError(t, raw.stream(t, 1).Reset(code))
		require.Equal(t, &ResetError{Code: code}, e.awaitClosed(t))
		require.Zero(t, c.Streams())
	}
}

// A backend that answers before it has the whole request resets the rest, and
// by then the stream may have ended: that is no flood, however often.
func TestLateResetsOfBackend(t *testing.T) {
	c, raw, _ := rawServer(t, testConfig(), rawh2.Options{})
	_, e := open(t, c, true)
	s := raw.stream(t, 1)
	require.NoError(t, s.Headers(head, true))
	require.NoError(t, e.awaitClosed(t))
	for range 2 * int(allowances[floodStray].burst) {
		require.NoError(t, s.Reset(http2.ErrCodeNo))
	}
	require.NoError(t, raw.Ping([8]byte{}))
	require.NoError(t, raw.AwaitPongs(context.Background(), 1))
	require.Empty(t, goAways(raw.Conn))
}

func TestStreamsThatBackendsAllow(t *testing.T) {
	c, raw, _ := rawServer(t, testConfig(), rawh2.Options{Settings: []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: 1}, {ID: http2.SettingMaxHeaderListSize, Val: 400},
	}})
	require.Equal(t, uint32(1), c.MaxStreams())
	_, err := c.Open(request(hpack.HeaderField{Name: "a", Value: strings.Repeat("x", 400)}), true, newEar())
	require.ErrorIs(t, err, ErrHeaderList)
	_, e := open(t, c, true)
	_, err = c.Open(request(), true, newEar())
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, raw.stream(t, 1).Headers(head, true))
	require.NoError(t, e.awaitClosed(t))
	open(t, c, true)
}

func TestSilentBackendBeforeSettings(t *testing.T) {
	c, raw, ended := rawServer(t, testConfig(), rawh2.Options{WithholdSettings: true})
	require.NoError(t, raw.Ping([8]byte{}))
	var fault *ConnError
	require.ErrorAs(t, await(t, ended, "Serve"), &fault)
	require.Equal(t, http2.ErrCodeProtocol, fault.Code)
	select {
	case <-c.Settled():
		require.Fail(t, "it has no SETTINGS")
	default:
	}
}
