package kitexgrpc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal) // what goes wrong here is meant to
	goleak.VerifyTestMain(m, handlertest.LeakOptions()...)
}

const (
	safety = 60 * time.Second
	tick   = 5 * time.Millisecond
)

func newBackends(t *testing.T, change func(*Options)) *Backends {
	opts := Options{
		Options:       upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
		MaxHeaderList: 1 << 20,
	}
	if change != nil {
		change(&opts)
	}
	b := NewBackends(opts)
	b.Configure("c", upstream.ClusterOptions{Connections: 4, Idle: -1})
	t.Cleanup(b.Close)
	return b
}

func listen(t *testing.T, opts rawh2.Options, script func(*rawh2.Stream)) *rawh2.Server {
	s, err := rawh2.Listen("", opts, script)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// hold leaves every stream open until its connection ends.
func hold(s *rawh2.Stream) { <-s.Context().Done() }

func answerOK(s *rawh2.Stream) { _ = s.OK([]byte("answer")) }

func request() *stream.Request {
	return &stream.Request{Method: "/test.Service/Method", Authority: "test"}
}

func open(t *testing.T, b *Backends, address string) stream.Outbound {
	t.Helper()
	out, err := b.Open(t.Context(), "c", address, request())
	require.NoError(t, err)
	return out
}

// TestStreamsSpreadOverTheConnectionsThatTakeThem: streams that stay open fill
// every connection up to what the backend's SETTINGS allow, and one more waits
// for an end.
func TestStreamsSpreadOverTheConnectionsThatTakeThem(t *testing.T) {
	const limit, conns = 3, 4
	s := listen(t, rawh2.Options{Settings: []http2.Setting{rawh2.Setting(http2.SettingMaxConcurrentStreams, limit)}}, hold)
	b := newBackends(t, nil)
	var all []stream.Outbound
	for range limit * conns {
		all = append(all, open(t, b, s.Addr()))
	}
	require.Equal(t, upstream.Stats{Connections: conns, Streams: limit * conns}, b.Stats())

	waiting := make(chan stream.Outbound)
	go func() { // ends when a stream has
		out, _ := b.Open(t.Context(), "c", s.Addr(), request())
		waiting <- out
	}()
	all[0].Abort()
	all[0] = <-waiting
	require.NotNil(t, all[0])
	for _, out := range all {
		out.Abort()
	}
	require.Equal(t, upstream.Stats{Connections: conns}, b.Stats())
	require.Len(t, s.Conns(), conns)
}

func TestWaitingForAStreamEndsWithTheCall(t *testing.T) {
	s := listen(t, rawh2.Options{Settings: []http2.Setting{rawh2.Setting(http2.SettingMaxConcurrentStreams, 0)}}, hold)
	b := newBackends(t, nil)
	b.Configure("c", upstream.ClusterOptions{Connections: 1, Idle: -1})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { // ends with ctx
		_, err := b.Open(ctx, "c", s.Addr(), request())
		failed <- err
	}()
	_, err := s.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	cancel()
	require.Error(t, <-failed)
}

// TestRetiredConnectionsAreStillWatched: one that drains is ended when nobody
// reads it any more, and by Close.
func TestRetiredConnectionsAreStillWatched(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *Backends, st *rawh2.Stream){
		"reader gone": func(t *testing.T, _ *Backends, st *rawh2.Stream) {
			require.NoError(t, st.Headers(rawh2.ResponseFields(), false))
			require.NoError(t, st.Trailers(rawh2.F("grpc-status", "99999999999")))
		},
		"Close": func(_ *testing.T, b *Backends, _ *rawh2.Stream) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, rawh2.Options{}, hold)
			b := newBackends(t, nil)
			one, two := open(t, b, s.Addr()), open(t, b, s.Addr())
			defer one.Abort()
			defer two.Abort()
			st, err := s.AwaitStream(t.Context(), 2)
			require.NoError(t, err)
			require.NoError(t, st.Conn().GoAway(3, http2.ErrCodeNo, ""))
			require.Eventually(t, func() bool { return b.Stats().Connections == 0 }, safety, tick)
			require.Equal(t, int64(2), b.Stats().Streams)
			end(t, b, st)
			_, err = one.Header()
			require.Equal(t, stream.BackendDisconnected, stream.AsFailure(err).Reason)
		})
	}
}

func TestABurstSharesOneDial(t *testing.T) {
	s := listen(t, rawh2.Options{WithholdSettings: true}, hold)
	b := newBackends(t, nil)
	var opened sync.WaitGroup
	for range 20 {
		opened.Go(func() {
			out, err := b.Open(t.Context(), "c", s.Addr(), request())
			if err == nil {
				out.Abort()
			}
		})
	}
	c, err := s.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, s.Streams(), "no stream before the backend's limits are known")
	require.NoError(t, c.SendSettings())
	opened.Wait()
	require.Len(t, s.Conns(), 1)
}

func TestStreamLimitOfTheBackendIsAwaited(t *testing.T) {
	s := listen(t, rawh2.Options{Settings: []http2.Setting{rawh2.Setting(http2.SettingMaxConcurrentStreams, 1)}}, answerOK)
	b := newBackends(t, nil)
	b.Configure("c", upstream.ClusterOptions{Connections: 1, Idle: -1})
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() { requireAnswer(t, b, s.Addr()) })
	}
	calls.Wait()
	require.Len(t, s.Streams(), 20, "none was refused and sent again")
	require.Len(t, s.Conns(), 1)
}

// requireAnswer makes a call that answerOK answers.
func requireAnswer(t *testing.T, b *Backends, address string) {
	out := open(t, b, address)
	defer out.Abort()
	_ = out.Write(nil, true) // fails if the answer is already there
	h, err := out.Header()
	require.NoError(t, err)
	require.NotNil(t, h)
	got := make([]byte, stream.PrefixLen+len("answer"))
	require.NoError(t, out.Read(got))
	require.Equal(t, "answer", string(got[stream.PrefixLen:]))
	require.Error(t, out.Read(got[:1]))
	require.Equal(t, stream.OK, out.Trailer().Status.Code)
}

func TestConnectionIsReplacedAfterGoAway(t *testing.T) {
	s := listen(t, rawh2.Options{}, answerOK)
	b := newBackends(t, nil)
	requireAnswer(t, b, s.Addr())
	c, err := s.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, c.GoAway(1, http2.ErrCodeNo, ""))
	require.NoError(t, c.AwaitClosed(t.Context()), "nothing runs on it")
	requireAnswer(t, b, s.Addr())
	require.Len(t, s.Conns(), 2)
	require.Equal(t, 1, b.Stats().Connections)
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := listen(t, rawh2.Options{}, answerOK)
	b := newBackends(t, func(o *Options) { o.IdleTimeout = time.Nanosecond })
	requireAnswer(t, b, s.Addr())
	c, err := s.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, c.AwaitClosed(t.Context()))
	require.Zero(t, b.Stats().Connections)
	requireAnswer(t, b, s.Addr())
}

// TestConnectionThatNobodyReadsIsEnded: Kitex's reader panics on this status.
func TestConnectionThatNobodyReadsIsEnded(t *testing.T) {
	s := listen(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Trailers(rawh2.F("grpc-status", "99999999999"))
	})
	b := newBackends(t, nil)
	out := open(t, b, s.Addr())
	defer out.Abort()
	_, err := out.Header()
	require.NoError(t, err)
	err = out.Read(make([]byte, 1))
	require.Equal(t, stream.BackendDisconnected, stream.AsFailure(err).Reason)
	require.Eventually(t, func() bool { return b.Stats().Connections == 0 }, safety, tick)
}

func TestUnreachable(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refusing := free.Addr().String()
	require.NoError(t, free.Close())
	silent, err := rawh2.ListenTCP("", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	require.NoError(t, err)
	defer silent.Close()
	http1, err := rawh2.ListenTCP("", func(c net.Conn) {
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat(" ", 64)))
		_, _ = io.Copy(io.Discard, c)
	})
	require.NoError(t, err)
	defer http1.Close()

	for name, test := range map[string]struct{ address, says string }{
		"refused":       {refusing, "connection refused"},
		"silent":        {silent.Addr(), "timeouts.connect"},
		"not HTTP/2":    {http1.Addr(), "does not speak HTTP/2"},
		"no such host":  {"no-such-host.invalid:1", "no-such-host.invalid"},
		"no such file":  {"unix:///no/such/socket", "no such file"},
		"a bad address": {"nonsense", "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			b := newBackends(t, func(o *Options) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				if name == "silent" {
					o.ConnectTimeout = 50 * time.Millisecond
				}
			})
			_, err := b.Open(t.Context(), "c", test.address, request())
			f := stream.AsFailure(err)
			require.Equal(t, stream.BackendUnreachable, f.Reason)
			require.Equal(t, stream.Unavailable, f.Code)
			require.True(t, f.Unprocessed)
			require.Contains(t, f.Message, `cluster "c": instance `+test.address)
			require.Contains(t, f.Message, test.says)
			require.Contains(t, log.String(), "cannot be reached")
			require.True(t, b.Down("c", test.address))
		})
	}
}

func TestOpenEndsWithTheCall(t *testing.T) {
	s := listen(t, rawh2.Options{WithholdSettings: true}, hold)
	b := newBackends(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { // ends with ctx
		_, err := b.Open(ctx, "c", s.Addr(), request())
		failed <- err
	}()
	_, err := s.AwaitConn(t.Context(), 1)
	require.NoError(t, err)
	cancel()
	require.Error(t, <-failed)
}

func TestCloseEndsEverything(t *testing.T) {
	s := listen(t, rawh2.Options{}, hold)
	b := newBackends(t, nil)
	out := open(t, b, s.Addr())
	defer out.Abort()
	_, err := s.AwaitStream(t.Context(), 1)
	require.NoError(t, err)
	b.Close()
	_, err = out.Header()
	require.Equal(t, stream.BackendDisconnected, stream.AsFailure(err).Reason)
	_, err = b.Open(t.Context(), "c", s.Addr(), request())
	require.Equal(t, stream.BackendUnreachable, stream.AsFailure(err).Reason)
}
