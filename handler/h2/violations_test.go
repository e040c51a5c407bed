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

// A violation is made by a peer with a stream that is open.
type violation struct {
	name string
	do   func(c *rawh2.Conn, s *rawh2.Stream) error
	code http2.ErrCode
	conn bool         // the connection is at an end with it, not the stream only
	with rawh2.Fields // of the request
}

func rawFrame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) func(*rawh2.Conn, *rawh2.Stream) error {
	return func(c *rawh2.Conn, _ *rawh2.Stream) error { return c.RawFrame(kind, flags, id, []byte(payload)) }
}

func setting(id http2.SettingID, v uint32) func(*rawh2.Conn, *rawh2.Stream) error {
	return func(c *rawh2.Conn, _ *rawh2.Stream) error { return c.SendSettings(http2.Setting{ID: id, Val: v}) }
}

// Of either side. Stream 1 is open.
var violations = []violation{
	{"DATA on stream 0", rawFrame(http2.FrameData, 0, 0, "x"), http2.ErrCodeProtocol, true, nil},
	{"DATA on an idle stream", rawFrame(http2.FrameData, 0, 99, "x"), http2.ErrCodeProtocol, true, nil},
	{"DATA with too much padding", rawFrame(http2.FrameData, http2.FlagDataPadded, 1, "\x02x"), http2.ErrCodeProtocol, true, nil},
	{"DATA without its padding's length", rawFrame(http2.FrameData, http2.FlagDataPadded, 1, ""), http2.ErrCodeProtocol, true, nil},
	{"HEADERS on stream 0", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, "\x88"), http2.ErrCodeProtocol, true, nil},
	{"HEADERS on an even stream", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2, "\x88"), http2.ErrCodeProtocol, true, nil},
	{"HEADERS with too much padding", rawFrame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, "\x09x"), http2.ErrCodeProtocol, true, nil},
	{"HEADERS without their priority", rawFrame(http2.FrameHeaders, http2.FlagHeadersPriority, 1, "1234"), http2.ErrCodeFrameSize, true, nil},
	{"a header block that cannot be decoded", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\xff\xff\xff\x7f"), http2.ErrCodeCompression, true, nil},
	{"a header block cut off", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x40\x05a"), http2.ErrCodeCompression, true, nil},
	{"a header table beyond what is allowed", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x3f\xe2\x1f"), http2.ErrCodeCompression, true, nil},
	{"CONTINUATION alone", rawFrame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, ""), http2.ErrCodeProtocol, true, nil},
	{"CONTINUATION on another stream", func(c *rawh2.Conn, _ *rawh2.Stream) error {
		_ = c.RawFrame(http2.FrameHeaders, 0, 1, nil)
		return c.RawFrame(http2.FrameContinuation, 0, 3, nil)
	}, http2.ErrCodeProtocol, true, nil},
	{"PING in a header block", func(c *rawh2.Conn, _ *rawh2.Stream) error {
		_ = c.RawFrame(http2.FrameHeaders, 0, 1, nil)
		return c.Ping([8]byte{})
	}, http2.ErrCodeProtocol, true, nil},
	{"empty CONTINUATION frames", func(c *rawh2.Conn, _ *rawh2.Stream) error {
		_ = c.RawFrame(http2.FrameHeaders, 0, 1, nil)
		for range maxEmptyPieces {
			_ = c.RawFrame(http2.FrameContinuation, 0, 1, nil)
		}
		return nil
	}, http2.ErrCodeEnhanceYourCalm, true, nil},
	{"a header block that never ends", func(c *rawh2.Conn, _ *rawh2.Stream) error {
		_ = c.RawFrame(http2.FrameHeaders, 0, 1, nil)
		for range 2 * 64 / 16 {
			_ = c.RawFrame(http2.FrameContinuation, 0, 1, make([]byte, maxFrameSize))
		}
		return c.RawFrame(http2.FrameContinuation, 0, 1, []byte("x"))
	}, http2.ErrCodeEnhanceYourCalm, true, nil},
	{"PRIORITY on stream 0", rawFrame(http2.FramePriority, 0, 0, "12345"), http2.ErrCodeProtocol, true, nil},
	{"PRIORITY too short", rawFrame(http2.FramePriority, 0, 1, "1234"), http2.ErrCodeFrameSize, false, nil},
	{"PRIORITY on itself", rawFrame(http2.FramePriority, 0, 1, "\x00\x00\x00\x01x"), http2.ErrCodeProtocol, false, nil},
	{"RST_STREAM on stream 0", rawFrame(http2.FrameRSTStream, 0, 0, "1234"), http2.ErrCodeProtocol, true, nil},
	{"RST_STREAM on an idle stream", rawFrame(http2.FrameRSTStream, 0, 99, "1234"), http2.ErrCodeProtocol, true, nil},
	{"RST_STREAM too short", rawFrame(http2.FrameRSTStream, 0, 1, "123"), http2.ErrCodeFrameSize, true, nil},
	{"SETTINGS on a stream", rawFrame(http2.FrameSettings, 0, 1, ""), http2.ErrCodeProtocol, true, nil},
	{"SETTINGS of a wrong length", rawFrame(http2.FrameSettings, 0, 0, "12345"), http2.ErrCodeFrameSize, true, nil},
	{"SETTINGS acknowledged with a payload", rawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, "123456"), http2.ErrCodeFrameSize, true, nil},
	{"ENABLE_PUSH of 2", setting(http2.SettingEnablePush, 2), http2.ErrCodeProtocol, true, nil},
	{"INITIAL_WINDOW_SIZE too large", setting(http2.SettingInitialWindowSize, 1<<31), http2.ErrCodeFlowControl, true, nil},
	{"INITIAL_WINDOW_SIZE too large for a stream", func(c *rawh2.Conn, s *rawh2.Stream) error {
		_ = c.WindowUpdate(s.ID(), 1<<20)
		return c.SendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	}, http2.ErrCodeFlowControl, true, nil},
	{"MAX_FRAME_SIZE too small", setting(http2.SettingMaxFrameSize, 1<<14-1), http2.ErrCodeProtocol, true, nil},
	{"MAX_FRAME_SIZE too large", setting(http2.SettingMaxFrameSize, 1<<24), http2.ErrCodeProtocol, true, nil},
	{"PUSH_PROMISE", rawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, "\x00\x00\x00\x02\x88"), http2.ErrCodeProtocol, true, nil},
	{"PING on a stream", rawFrame(http2.FramePing, 0, 1, "12345678"), http2.ErrCodeProtocol, true, nil},
	{"PING too short", rawFrame(http2.FramePing, 0, 0, "1234567"), http2.ErrCodeFrameSize, true, nil},
	{"GOAWAY on a stream", rawFrame(http2.FrameGoAway, 0, 1, "12345678"), http2.ErrCodeProtocol, true, nil},
	{"GOAWAY too short", rawFrame(http2.FrameGoAway, 0, 0, "1234567"), http2.ErrCodeFrameSize, true, nil},
	{"WINDOW_UPDATE too short", rawFrame(http2.FrameWindowUpdate, 0, 1, "123"), http2.ErrCodeFrameSize, true, nil},
	{"WINDOW_UPDATE of 0", rawFrame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00"), http2.ErrCodeProtocol, false, nil},
	{"WINDOW_UPDATE of 0 for the connection", rawFrame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), http2.ErrCodeProtocol, true, nil},
	{"WINDOW_UPDATE beyond the largest window", rawFrame(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff"), http2.ErrCodeFlowControl, false, nil},
	{"WINDOW_UPDATE beyond the connection's largest", rawFrame(http2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff"), http2.ErrCodeFlowControl, true, nil},
	{"WINDOW_UPDATE on an idle stream", rawFrame(http2.FrameWindowUpdate, 0, 99, "\x00\x00\x00\x01"), http2.ErrCodeProtocol, true, nil},
	{"a frame too large", rawFrame(http2.FrameData, 0, 1, strings.Repeat("x", maxFrameSize+1)), http2.ErrCodeFrameSize, true, nil},
}

// Of clients only.
var clientViolations = []violation{
	{"DATA after END_STREAM", afterEndOf(func(s *rawh2.Stream) error { return s.DataFrame([]byte("x"), false) }), http2.ErrCodeStreamClosed, false, nil},
	{"HEADERS after END_STREAM", afterEndOf(func(s *rawh2.Stream) error { return s.Trailers() }), http2.ErrCodeStreamClosed, false, nil},
	{"trailers without END_STREAM", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		return s.Headers(rawh2.Fields{rawh2.F("a", "b")}, false)
	}, http2.ErrCodeProtocol, false, nil},
	{"trailers with a pseudo-header", func(_ *rawh2.Conn, s *rawh2.Stream) error { return s.Trailers(rawh2.F(":path", "/")) }, http2.ErrCodeProtocol, false, nil},
	{"trailers too long", func(_ *rawh2.Conn, s *rawh2.Stream) error {
		return s.Trailers(rawh2.F("a", strings.Repeat("x", 40<<10)), rawh2.F("b", strings.Repeat("x", 40<<10)))
	}, http2.ErrCodeProtocol, false, nil},
	{"DATA beyond the window", func(_ *rawh2.Conn, s *rawh2.Stream) error { return overfill(s, 70<<10) }, http2.ErrCodeFlowControl, false, nil},
	{"a body longer than content-length", body("xx", false), http2.ErrCodeProtocol, false, rawh2.Fields{rawh2.F("content-length", "1")}},
	{"a body shorter than content-length", body("xx", true), http2.ErrCodeProtocol, false, rawh2.Fields{rawh2.F("content-length", "3")}},
	{"a stream with an older number", func(c *rawh2.Conn, _ *rawh2.Stream) error {
		_ = c.HeadersFrame(9, rawRequest(), true)
		return c.HeadersFrame(7, rawRequest(), true)
	}, http2.ErrCodeStreamClosed, true, nil},
}

func afterEndOf(do func(*rawh2.Stream) error) func(*rawh2.Conn, *rawh2.Stream) error {
	return func(_ *rawh2.Conn, s *rawh2.Stream) error {
		_ = s.DataFrame(nil, true)
		return do(s)
	}
}

func body(b string, last bool) func(*rawh2.Conn, *rawh2.Stream) error {
	return func(_ *rawh2.Conn, s *rawh2.Stream) error { return s.DataFrame([]byte(b), last) }
}

// overfill sends n bytes whatever the window.
func overfill(s *rawh2.Stream, n int) (err error) {
	for ; n > 0 && err == nil; n -= 1 << 10 {
		err = s.DataFrame(make([]byte, 1<<10), false)
	}
	return err
}

func TestViolationsOfClients(t *testing.T) {
	for _, v := range append(append([]violation{}, violations...), clientViolations...) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.StreamWindow = 65535
			conns := make(chan *Conn, 10)
			cfg.Begin = func(s *Stream, _ []hpack.HeaderField, _ bool) { // credits nothing
				s.SetEvents(newEar())
				conns <- s.Conn()
			}
			client := rawClient(t, cfg, rawh2.Options{})
			s, err := client.NewStream(rawRequest(v.with...), false)
			require.NoError(t, err)
			awaitAck(t, await(t, conns, "the request"))
			require.NoError(t, v.do(client, s))
			if v.conn {
				requireGoAway(t, client, v.code)
				return
			}
			code, err := s.AwaitReset(context.Background())
			require.NoError(t, err)
			require.Equal(t, v.code, code)
			require.NoError(t, client.Ping([8]byte{}))
			require.NoError(t, client.AwaitPongs(context.Background(), 1)) // the connection lives
			require.Empty(t, goAways(client))
		})
	}
}

func goAways(c *rawh2.Conn) (all []rawh2.Event) {
	for _, e := range c.Events() {
		if e.Kind == rawh2.GoAwayEvent {
			all = append(all, e)
		}
	}
	return all
}
