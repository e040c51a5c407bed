package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Backends that did not begin a call: it is sent again as long as that loses
// nothing, and no client notices.

// faultRequest is what the resend tests send: three messages, all different.
var faultRequest = bytes.Join([][]byte{
	rawh2.Frame(0, []byte("one")), rawh2.Frame(0, bytes.Repeat([]byte("2"), 20_000)), rawh2.Frame(1, []byte("three")),
}, nil)

// sendRequest sends faultRequest, and in the middle of it does what the test wants.
func sendRequest(t *testing.T, s *rawh2.Stream, inBetween func()) {
	t.Helper()
	const firstPart = 8 // the first message
	require.NoError(t, s.Data(faultRequest[:firstPart], false))
	inBetween()
	require.NoError(t, s.Data(faultRequest[firstPart:], true))
}

func TestFaultUnprocessedCallIsSentAgain(t *testing.T) {
	refusals := map[string]func(*rawh2.Stream){
		"GOAWAY": func(s *rawh2.Stream) { _ = s.Conn().GoAway(0, http2.ErrCodeNo, "restarting") },
		"GOAWAY and close": func(s *rawh2.Stream) {
			_ = s.Conn().GoAway(0, http2.ErrCodeNo, "restarting")
			s.Conn().Hangup()
		},
		"REFUSED_STREAM": func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeRefusedStream) },
	}
	// What the backend has received when it refuses, in bytes.
	received := map[string]int{"headers": 0, "one message": 8, "everything": len(faultRequest)}
	for how, refuse := range refusals {
		for when, n := range received {
			t.Run(how+" after "+when, func(t *testing.T) {
				var streams atomic.Int32
				refused := make(chan struct{})
				backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
					if streams.Add(1) > 1 {
						echoRaw(s)
						return
					}
					_, _ = s.AwaitBody(s.Context(), n)
					refuse(s)
					close(refused)
				})
				f := startFaultProxy(t, faultConfig(backend.Addr()))
				call := f.open(f.dial(rawh2.Options{}), faultMethod)
				sendRequest(t, call, func() {
					if n < len(faultRequest) {
						<-refused
					}
				})
				requireOK(t, f.result(call), faultRequest)
				assert.Len(t, backend.Streams(), 2)
				f.lives()
			})
		}
	}
}

func TestFaultRefusedForEver(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeRefusedStream) })
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	r := f.call(f.safe(), faultMethod, []byte("x"))
	requireFailure(t, r, codes.Unavailable, stream.BackendRefused, "default", backend.Addr())
	attempts := len(backend.Streams())
	assert.Greater(t, attempts, 1, "attempts")
	assert.LessOrEqual(t, attempts, 10, "attempts are bounded")
	f.lives()
}

// A backend that sends GOAWAY on every connection must not make the proxy
// reconnect without end.
func TestFaultGoAwayForEver(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Conn().GoAway(0, http2.ErrCodeNo, "never")
		s.Conn().Hangup()
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	r := f.call(f.safe(), faultMethod, []byte("x"))
	requireFailure(t, r, codes.Unavailable, stream.BackendRefused, "default", backend.Addr())
	assert.LessOrEqual(t, len(backend.Streams()), 10, "attempts are bounded")
	f.lives()
}

func TestFaultRefusedAfterHeadersIsNotSentAgain(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Reset(http2.ErrCodeRefusedStream)
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	r := f.call(f.safe(), faultMethod, []byte("x"))
	requireFailure(t, r, codes.Unavailable, stream.BackendRefused, "default", backend.Addr())
	assert.Len(t, backend.Streams(), 1)
	f.lives()
}

func TestFaultRefusedAfterLargeRequestIsNotSentAgain(t *testing.T) {
	const size = 256 << 10 // four times the replay buffer
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_, _ = s.AwaitBody(s.Context(), size/2)
		_ = s.Reset(http2.ErrCodeRefusedStream)
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	r := f.call(f.safe(), faultMethod, make([]byte, size))
	requireFailure(t, r, codes.Unavailable, stream.BackendRefused, "default", backend.Addr())
	assert.Len(t, backend.Streams(), 1)
	f.lives()
}

// callMany makes n calls, a few at a time, and returns the ends that are not OK.
func (f *faultProxy) callMany(n, atOnce int) []callResult {
	var (
		left   atomic.Int64
		mu     sync.Mutex
		failed []callResult
		all    sync.WaitGroup
	)
	left.Store(int64(n))
	ctx := f.safe()
	for range atOnce {
		all.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				payload := fmt.Appendf(nil, "call %d", i)
				r := f.call(ctx, faultMethod, payload)
				if r.code != codes.OK || !bytes.Equal(r.body, payload) {
					mu.Lock()
					failed = append(failed, r)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}

func TestFaultGracefulGoAwayLosesNothing(t *testing.T) {
	const before = 50 // streams that come before the GOAWAY
	var streams atomic.Int32
	drained := make(chan struct{})
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		// From here on calls stay open, so that some are when the GOAWAYs go out.
		if n := streams.Add(1); n >= before {
			select {
			case <-drained:
			case <-s.Context().Done():
			}
		}
		echoRaw(s)
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	result := make(chan error, 1)
	go func() {
		defer close(drained)
		result <- drainInTwoSteps(f.safe(), backend, before)
	}()
	assert.Empty(t, f.callMany(200, 16))
	require.NoError(t, <-result)
	conns := backend.Conns()
	assert.Greater(t, len(conns), 1, "the calls after the GOAWAY are made on another connection")
	f.lives()
}

// drainInTwoSteps ends the first connection as grpc-go does, once some streams
// have come: GOAWAY for the largest stream number there is, then, when an
// answered PING shows that the proxy has seen it, GOAWAY for the last stream
// that came.
func drainInTwoSteps(ctx context.Context, backend *rawh2.Server, after int) error {
	s, err := backend.AwaitStream(ctx, after)
	if err != nil {
		return err
	}
	c := s.Conn()
	if err := c.GoAway(math.MaxInt32, http2.ErrCodeNo, ""); err != nil {
		return err
	}
	if err := c.Ping([8]byte{1}); err != nil {
		return err
	}
	if err := c.AwaitPongs(ctx, 1); err != nil {
		return err
	}
	last := uint32(0)
	for _, s := range backend.Streams() {
		if s.Conn() == c {
			last = max(last, s.ID())
		}
	}
	return c.GoAway(last, http2.ErrCodeNo, "")
}

func TestFaultGracefulStopOfOneInstanceLosesNothing(t *testing.T) {
	staying, leaving := startGRPCEcho(t), startGRPCEcho(t)
	f := startFaultProxy(t, faultConfig(staying.addr, leaving.addr))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f.callMany(20, 2) // so that the connection is in use
		leaving.server.GracefulStop()
	}()
	assert.Empty(t, f.callMany(1000, 16))
	<-stopped
	assert.Empty(t, f.callMany(50, 4), "calls after the instance has gone")
	f.lives()
}

// oneAtATime echoes, and refuses what exceeds one stream on a connection.
type oneAtATime struct {
	mu      sync.Mutex
	open    map[*rawh2.Conn]int
	refused int
}

func (o *oneAtATime) serve(s *rawh2.Stream) {
	o.mu.Lock()
	if o.open == nil {
		o.open = map[*rawh2.Conn]int{}
	}
	tooMany := o.open[s.Conn()] > 0
	if tooMany {
		o.refused++
	} else {
		o.open[s.Conn()]++
	}
	o.mu.Unlock()
	if tooMany {
		_ = s.Reset(http2.ErrCodeRefusedStream)
		return
	}
	body, err := s.AwaitEndStream(s.Context())
	if err == nil {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Data(body, false)
	}
	// Before the trailers: after them the proxy may open the next stream.
	o.mu.Lock()
	o.open[s.Conn()]--
	o.mu.Unlock()
	_ = s.Trailers(rawh2.F("grpc-status", "0"))
}

func TestFaultBackendTakesOneStreamAtATime(t *testing.T) {
	var script oneAtATime
	backend := startRaw(t, rawh2.Options{Settings: []http2.Setting{
		rawh2.Setting(http2.SettingMaxConcurrentStreams, 1),
	}}, script.serve)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	assert.Empty(t, f.callMany(60, 20))
	assert.Zero(t, script.refused, "the backend's limit is kept")
	assert.LessOrEqual(t, len(backend.Conns()), 4, "connections")
	f.lives()
}

// Streams opened before the backend's SETTINGS could exceed a limit that the
// proxy does not know yet.
func TestFaultSettingsComeLate(t *testing.T) {
	var script oneAtATime
	backend := startRaw(t, rawh2.Options{WithholdSettings: true}, script.serve)
	ctx, cancel := context.WithCancel(t.Context())
	var settings sync.WaitGroup
	defer settings.Wait()
	defer cancel()
	settings.Go(func() { // ends with ctx
		for i := 1; ; i++ {
			c, err := backend.AwaitConn(ctx, i)
			if err != nil {
				return
			}
			time.AfterFunc(100*time.Millisecond, func() { // the lateness is the case
				_ = c.SendSettings(rawh2.Setting(http2.SettingMaxConcurrentStreams, 1))
			})
		}
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	assert.Empty(t, f.callMany(20, 10))
	assert.Zero(t, script.refused, "the backend's limit is kept")
	f.lives()
}
