package rawh2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair starts a server with a script and a client connected to it.
func pair(t *testing.T, server, client Options, script func(*Stream)) (*Server, *Conn) {
	t.Helper()
	return pairAt(t, "", server, client, script)
}

// pairAt is pair with a server at addr.
func pairAt(t *testing.T, addr string, server, client Options, script func(*Stream)) (*Server, *Conn) {
	t.Helper()
	s, err := Listen(addr, server, script)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	c, err := Dial(t.Context(), s.Addr(), client)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return s, c
}

func open(t *testing.T, c *Conn, endStream bool) *Stream {
	t.Helper()
	s, err := c.NewStream(RequestFields("/a.B/C", "host"), endStream)
	require.NoError(t, err)
	return s
}

// echo answers a stream with the bytes of its request.
func echo(s *Stream) {
	body, err := s.AwaitEndStream(s.Context())
	if err != nil {
		return
	}
	_ = s.Headers(ResponseFields(), false)
	_ = s.Data(body, false)
	_ = s.Trailers(F("grpc-status", "0"))
}

func TestOrdinaryCall(t *testing.T) {
	srv, c := pair(t, Options{}, Options{}, echo)
	s := open(t, c, false)
	require.NoError(t, s.Message(0, []byte("one")))
	require.NoError(t, s.Data(Frame(1, []byte("two")), true))

	reply, err := s.AwaitReply(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "200", reply.Header.Get(":status"))
	assert.Equal(t, "0", reply.Trailer.Get("grpc-status"))
	assert.False(t, reply.TrailersOnly)
	messages, rest := Messages(reply.Body)
	assert.Equal(t, [][]byte{[]byte("one"), []byte("two")}, messages)
	assert.Empty(t, rest)

	got, err := srv.AwaitStream(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, RequestFields("/a.B/C", "host"), got.Request(), "order is kept")
}

func TestTrailersOnlyReply(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, func(s *Stream) { _ = s.Status(5, "gone", F("k", "1"), F("k", "2")) })
	reply, err := open(t, c, true).AwaitReply(t.Context())
	require.NoError(t, err)
	assert.True(t, reply.TrailersOnly)
	assert.Nil(t, reply.Header)
	assert.Equal(t, "gone", reply.Trailer.Get("grpc-message"))
	assert.Equal(t, []string{"1", "2"}, reply.Trailer.Values("k"))
}

func TestLargeMessageCrossesWindowsAndFrames(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, echo)
	s := open(t, c, false)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB against a 64 KiB window
	require.NoError(t, s.Data(Frame(0, payload), true))
	reply, err := s.AwaitReply(t.Context())
	require.NoError(t, err)
	messages, _ := Messages(reply.Body)
	require.Len(t, messages, 1)
	assert.True(t, bytes.Equal(payload, messages[0]))
}

func TestManualWindowMakesASlowReader(t *testing.T) {
	sent := make(chan error, 1)
	_, c := pair(t, Options{}, Options{ManualWindow: true}, func(s *Stream) {
		_ = s.Headers(ResponseFields(), false)
		sent <- s.Data(make([]byte, 100<<10), true)
	})
	s := open(t, c, true)
	body, err := s.AwaitBody(t.Context(), 65535)
	require.NoError(t, err)
	assert.Len(t, body, 65535, "no more than the window")
	require.NoError(t, c.WindowUpdate(0, 100<<10))
	require.NoError(t, c.WindowUpdate(s.ID(), 100<<10))
	body, err = s.AwaitEndStream(t.Context())
	require.NoError(t, err)
	assert.Len(t, body, 100<<10)
	require.NoError(t, <-sent)
}

func TestResetEndsWaitsAndSends(t *testing.T) {
	serverSaw := make(chan error, 1)
	_, c := pair(t, Options{}, Options{ManualWindow: true}, func(s *Stream) {
		_ = s.Headers(ResponseFields(), false)
		serverSaw <- s.Data(make([]byte, 1<<20), true) // blocks for window until the reset
	})
	s := open(t, c, true)
	_, err := s.AwaitBody(t.Context(), 65535)
	require.NoError(t, err)
	require.NoError(t, s.Reset(http2.ErrCodeCancel))
	var reset *ResetError
	require.ErrorAs(t, <-serverSaw, &reset)
	assert.Equal(t, http2.ErrCodeCancel, reset.Code)
}

func TestClientSeesReset(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, func(s *Stream) { _ = s.Reset(http2.ErrCodeRefusedStream) })
	s := open(t, c, true)
	code, err := s.AwaitReset(t.Context())
	require.NoError(t, err)
	assert.Equal(t, http2.ErrCodeRefusedStream, code)
	_, err = s.AwaitEndStream(t.Context())
	var reset *ResetError
	assert.ErrorAs(t, err, &reset, "a wait for what will not come any more ends")
	reply, err := s.AwaitReply(t.Context())
	require.NoError(t, err)
	assert.Equal(t, http2.ErrCodeRefusedStream, reply.Reset.Code)
}

func TestReadFrameKeepsOrder(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, func(s *Stream) {
		_ = s.Data([]byte("early"), false)
		_ = s.Headers(Fields{F("x", "1")}, false)
		_ = s.Headers(Fields{F("x", "2")}, true)
		_ = s.Data([]byte("late"), true)
	})
	s := open(t, c, true)
	var got []string
	for range 4 {
		e, err := s.ReadFrame(t.Context())
		require.NoError(t, err)
		got = append(got, e.String())
	}
	assert.Equal(t, []string{
		"DATA(stream 1 5 bytes)", `HEADERS(stream 1 x="1")`, `HEADERS(stream 1 x="2" END_STREAM)`,
		"DATA(stream 1 4 bytes END_STREAM)",
	}, got)
}

func TestConnectionFrames(t *testing.T) {
	srv, c := pair(t,
		Options{WithholdSettings: true},
		Options{Settings: []http2.Setting{Setting(http2.SettingEnablePush, 0)}}, nil)
	sc, err := srv.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	settings, err := sc.AwaitSettings(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []http2.Setting{Setting(http2.SettingEnablePush, 0)}, settings)
	assert.Empty(t, c.Events(), "nothing comes before the SETTINGS that are withheld")

	require.NoError(t, sc.SendSettings(Setting(http2.SettingMaxConcurrentStreams, 1)))
	require.NoError(t, c.AwaitSettingsAck(t.Context(), 1))
	require.NoError(t, sc.AwaitSettingsAck(t.Context(), 1))
	require.NoError(t, c.Ping([8]byte{1}))
	require.NoError(t, c.AwaitPongs(t.Context(), 1))
	require.NoError(t, sc.GoAway(7, http2.ErrCodeEnhanceYourCalm, "calm"))
	e, err := c.AwaitGoAway(t.Context())
	require.NoError(t, err)
	assert.Equal(t, `GOAWAY(stream 0 last=7 ENHANCE_YOUR_CALM "calm")`, e.String())

	sc.Hangup()
	require.NoError(t, c.AwaitClosed(t.Context()))
	assert.ErrorIs(t, c.Err(), io.EOF)
	_, err = c.NewStream(RequestFields("/a.B/C", "host"), true)
	assert.Error(t, err)
}

func TestHeaderBlockInContinuations(t *testing.T) {
	srv, c := pair(t, Options{}, Options{}, echo)
	big := strings.Repeat("\x07~", 50<<10)
	s, err := c.NewStream(RequestFields("/a.B/C", "host", F("big", big)), true)
	require.NoError(t, err)
	_, err = s.AwaitReply(t.Context())
	require.NoError(t, err)
	assert.Equal(t, big, srv.Streams()[0].Request().Get("big"))
}

func TestBrokenHeaderBlockEndsTheConnection(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, func(s *Stream) {
		_ = s.Conn().RawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.ID(), []byte{0xff, 0xff, 0xff, 0xff, 0xff})
	})
	s := open(t, c, true)
	_, err := s.AwaitReply(t.Context())
	require.ErrorContains(t, err, "header block of stream 1")
}

func TestAbortIsATCPReset(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, func(s *Stream) { s.Conn().Abort() })
	_, err := open(t, c, true).AwaitReply(t.Context())
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	assert.ErrorContains(t, err, "reset by peer")
}

func TestServerComesBackOnItsPort(t *testing.T) {
	first, c := pairAt(t, loopback.Free(t), Options{}, Options{}, echo)
	_, err := open(t, c, true).AwaitReply(t.Context())
	require.NoError(t, err)
	first.Close()
	_, err = Dial(t.Context(), first.Addr(), Options{})
	require.Error(t, err)

	_, c = pairAt(t, first.Addr(), Options{}, Options{}, echo)
	_, err = open(t, c, true).AwaitReply(t.Context())
	require.NoError(t, err)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	_, c := pair(t, Options{}, Options{}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := open(t, c, true).AwaitReply(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "a reply on stream 1")
}

func TestTCPServer(t *testing.T) {
	srv, err := ListenTCP("", func(nc net.Conn) {
		_, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, nc) // until Close
	})
	require.NoError(t, err)
	defer srv.Close()
	c, err := Dial(t.Context(), srv.Addr(), Options{})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.AwaitClosed(t.Context()))
	assert.ErrorIs(t, c.Err(), http2.ErrFrameTooLarge)
	assert.Equal(t, 1, srv.Accepted())
}

// The two parties are only worth something if the real gRPC understands them.
func TestAgainstGRPCGo(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		srv, err := Listen("", Options{}, func(s *Stream) {
			_, _ = s.AwaitEndStream(s.Context())
			if s.Request().Get(":path") == healthpb.Health_Check_FullMethodName {
				_ = s.OK([]byte{8, byte(healthpb.HealthCheckResponse_SERVING)})
				return
			}
			_ = s.Status(9, "not this one")
		})
		require.NoError(t, err)
		defer srv.Close()
		cc, err := grpc.NewClient(srv.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer func() { _ = cc.Close() }()
		reply, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
		require.NoError(t, err)
		assert.Equal(t, healthpb.HealthCheckResponse_SERVING, reply.GetStatus())
		err = cc.Invoke(t.Context(), "/a.B/C", &healthpb.HealthCheckRequest{}, reply)
		assert.Equal(t, "not this one", status.Convert(err).Message())
	})
	t.Run("client", func(t *testing.T) {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		gs := grpc.NewServer()
		healthpb.RegisterHealthServer(gs, health.NewServer())
		served := make(chan error, 1)
		go func() { served <- gs.Serve(lis) }()
		defer func() { gs.Stop(); <-served }()
		c, err := Dial(t.Context(), lis.Addr().String(), Options{})
		require.NoError(t, err)
		defer c.Close()
		s, err := c.NewStream(RequestFields(healthpb.Health_Check_FullMethodName, "host"), false)
		require.NoError(t, err)
		require.NoError(t, s.Data(Frame(0, nil), true))
		reply, err := s.AwaitReply(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "0", reply.Trailer.Get("grpc-status"), reply.Trailer)
		assert.False(t, errors.Is(c.Err(), io.EOF))
	})
}
