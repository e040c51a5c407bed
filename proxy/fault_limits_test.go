package proxy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Clients that want more than the configured limits.

func TestFaultRequestHeadersTooLarge(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	cfg := faultConfig(backend.Addr())
	cfg.Limits.HeaderList = 16 << 10
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{})
	// A refusal may be of the stream, or of the whole connection, and that
	// before everything is written.
	var reply rawh2.Reply
	s, err := client.NewStream(rawh2.RequestFields(faultMethod, f.addr, rawh2.F("big", strings.Repeat("~", 64<<10))), true)
	if err == nil {
		reply, err = s.AwaitReply(f.safe())
	}
	if err != nil {
		require.NoError(t, client.AwaitClosed(f.safe()))
	}
	assert.NotEqual(t, "0", reply.Trailer.Get("grpc-status"), "%v", reply.Trailer)
	assert.Empty(t, backend.Streams(), "the backend must not see it")
	f.lives()
}

func TestFaultTooManyStreams(t *testing.T) {
	const limit = 3
	backend := startRaw(t, rawh2.Options{}, echoEachRaw)
	cfg := faultConfig(backend.Addr())
	cfg.Limits.StreamsPerConnection = limit
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{})
	settings, err := client.AwaitSettings(f.safe())
	require.NoError(t, err)
	assert.Contains(t, settings, rawh2.Setting(http2.SettingMaxConcurrentStreams, limit), "the limit is announced")

	ping := rawh2.Frame(0, []byte("ping"))
	var open []*rawh2.Stream
	for range limit {
		s := f.open(client, faultMethod)
		require.NoError(t, s.Data(ping, false))
		_, err := s.AwaitBody(f.safe(), len(ping))
		require.NoError(t, err)
		open = append(open, s)
	}
	for range 5 {
		requireRefused(f, f.open(client, faultMethod))
	}
	for _, s := range open {
		require.NoError(t, s.Data(ping, false))
		_, err := s.AwaitBody(f.safe(), 2*len(ping))
		require.NoError(t, err, "the others live")
	}
	requireOK(t, f.rawCall(f.dial(rawh2.Options{}), faultMethod, []byte("ping")), ping)

	for _, s := range open {
		require.NoError(t, s.Data(nil, true))
		require.Equal(t, codes.OK, f.result(s).code)
	}
	f.settles()
	requireOK(t, f.rawCall(client, faultMethod, []byte("ping")), ping)
	f.lives()
}

// requireRefused checks that a stream was refused in the way that lets every
// client send its call again (RFC 9113 section 8.7).
func requireRefused(f *faultProxy, s *rawh2.Stream) {
	f.t.Helper()
	reply, err := s.AwaitReply(f.safe())
	require.NoError(f.t, err)
	require.NotNil(f.t, reply.Reset, "%v", reply.Trailer)
	require.Equal(f.t, http2.ErrCodeRefusedStream, reply.Reset.Code)
}

// A call whose answer the client does not read is open, though its backend has
// ended it: what is kept for it counts.
func TestFaultUnreadAnswersCountAsStreams(t *testing.T) {
	const limit = 4
	answer := make([]byte, 4<<10) // fits the window that a backend's stream begins with
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) { _ = s.OK(answer) })
	cfg := faultConfig(backend.Addr())
	cfg.Limits.StreamsPerConnection = limit
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{
		ManualWindow: true, Settings: []http2.Setting{rawh2.Setting(http2.SettingInitialWindowSize, 10)},
	})
	var open []*rawh2.Stream
	for range limit {
		s := f.open(client, faultMethod)
		require.NoError(t, s.Data(nil, true))
		_, err := s.AwaitBody(f.safe(), 10)
		require.NoError(t, err)
		open = append(open, s)
	}
	f.settles() // the relay is done with them
	for range 5 {
		requireRefused(f, f.open(client, faultMethod))
	}
	for _, s := range open {
		require.NoError(t, client.WindowUpdate(s.ID(), 1<<20))
	}
	require.NoError(t, client.WindowUpdate(0, 1<<20))
	for _, s := range open {
		requireOK(t, f.result(s), rawh2.Frame(0, answer))
	}
	next := f.open(client, faultMethod)
	require.NoError(t, next.Data(nil, true))
	_, err := next.AwaitBody(f.safe(), 10)
	require.NoError(t, err, "room that was made is used")
	client.Close()
	f.lives()
}

// A client that keeps to the limit may open a stream the moment another has
// ended, and must never be told that it has too many.
func TestFaultStreamLimitIsExact(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	cfg := faultConfig(backend.Addr())
	cfg.Limits.StreamsPerConnection = 1
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{})
	refused := 0
	const calls = 500
	for range calls {
		if r := f.rawCall(client, faultMethod, nil); r.code != codes.OK {
			assert.Equal(t, string(stream.TooManyStreams), r.reason)
			refused++
		}
	}
	assert.Zero(t, refused, "calls of %d refused to a client that has one stream at a time", calls)
	f.lives()
}

func TestFaultTooManyConnections(t *testing.T) {
	const limit = 2
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	cfg := faultConfig(backend.Addr())
	cfg.Limits.Connections = limit
	f := startFaultProxy(t, cfg)
	answers := func(c *rawh2.Conn) bool {
		s, err := c.NewStream(rawh2.RequestFields(faultMethod, f.addr), true)
		if err != nil {
			return false
		}
		reply, err := s.AwaitReply(f.safe())
		return err == nil && reply.Trailer.Get("grpc-status") == "0"
	}
	// connect returns when the proxy lets a client in. It turns away a client
	// while another connection, of a client or of the proxy's own to see that
	// it is ready, has not ended for it yet.
	connect := func() *rawh2.Conn {
		for ctx := f.safe(); ; {
			c, err := rawh2.Dial(ctx, f.addr, rawh2.Options{})
			if err == nil {
				t.Cleanup(c.Close)
				if answers(c) {
					return c
				}
				c.Close()
			}
			require.NoError(t, ctx.Err())
		}
	}
	var clients []*rawh2.Conn
	for range limit {
		clients = append(clients, connect())
	}
	surplus := f.dial(rawh2.Options{})
	require.NoError(t, surplus.AwaitClosed(f.safe()))
	for _, c := range clients {
		require.True(t, answers(c), "those there are not disturbed")
	}
	clients[0].Close()
	connect() // room that was made is used
	f.settles()
	require.True(t, answers(clients[1]))
}
