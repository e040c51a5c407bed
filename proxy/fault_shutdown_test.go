package proxy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestFaultNoRoute(t *testing.T) {
	cfg := faultConfig(loopback.Free(t))
	cfg.Default = nil
	delete(cfg.Clusters, "default")
	f := startFaultProxy(t, cfg)
	s := f.open(f.dial(rawh2.Options{}), "/nobody.Knows/This")
	reply, err := s.AwaitReply(f.safe())
	require.NoError(t, err)
	assert.True(t, reply.TrailersOnly)
	requireFailure(t, f.result(s), codes.Unimplemented, stream.NoRoute, "/nobody.Knows/This")
	f.lives()
}

// drainable is a backend whose calls end when the test says so.
type drainable struct {
	*rawh2.Server
	finish chan struct{} // closed to let unary calls end
}

func startDrainable(t *testing.T) *drainable {
	t.Helper()
	d := &drainable{finish: make(chan struct{})}
	d.Server = startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		if s.Request().Get("shape") == "stream" {
			echoEachRaw(s)
			return
		}
		select {
		case <-d.finish:
			echoRaw(s)
		case <-s.Context().Done():
		}
	})
	return d
}

// startShort runs a proxy whose grace time is 300ms.
func startShort(t *testing.T, backend *drainable) *faultProxy {
	t.Helper()
	cfg := faultConfig(backend.Addr())
	cfg.Timeouts.Shutdown = conf.Duration(grace)
	return startFaultProxy(t, cfg)
}

const grace = 300 * time.Millisecond

// openStream opens a stream and checks that it is under way.
func (f *faultProxy) openStream(c *rawh2.Conn) *rawh2.Stream {
	f.t.Helper()
	s, err := c.NewStream(rawh2.RequestFields(faultMethod, f.addr, rawh2.F("shape", "stream")), false)
	require.NoError(f.t, err)
	require.NoError(f.t, s.Message(0, []byte("ping")))
	_, err = s.AwaitMessages(f.safe(), 1)
	require.NoError(f.t, err)
	return s
}

func TestFaultShutdown(t *testing.T) {
	backend := startDrainable(t)
	f := startShort(t, backend)
	client := f.dial(rawh2.Options{})
	running := f.openStream(client)
	unary := f.open(client, faultMethod)
	require.NoError(t, unary.Data(rawh2.Frame(0, []byte("x")), true))
	_, err := backend.AwaitStream(f.safe(), 2)
	require.NoError(t, err)

	f.cancel()
	_, err = client.AwaitGoAway(f.safe())
	require.NoError(t, err)
	close(backend.finish)
	requireOK(t, f.result(unary), rawh2.Frame(0, []byte("x")))
	requireFailure(t, f.result(running), codes.Unavailable, stream.Shutdown)
	assert.Equal(t, string(rawh2.Frame(0, []byte("ping"))), string(f.result(running).body))
	require.NoError(t, f.stop())
	_, err = rawh2.Dial(f.safe(), f.addr, rawh2.Options{})
	assert.Error(t, err, "nothing listens any more")
}

// Calls that are at an end do not make the proxy wait for its grace time.
func TestFaultShutdownDoesNotDawdle(t *testing.T) {
	backend := startDrainable(t)
	cfg := faultConfig(backend.Addr())
	cfg.Timeouts.Shutdown = conf.Duration(time.Hour)
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{})
	close(backend.finish)
	requireOK(t, f.rawCall(client, faultMethod, nil), rawh2.Frame(0, nil))
	require.NoError(t, f.stop(), "an idle client does not hold up the end")
}

// A GOAWAY for the largest stream number says that calls on their way are
// still taken; the client that has not yet seen it must not lose its call.
func TestFaultCallThatCrossesTheGoAway(t *testing.T) {
	backend := startDrainable(t)
	cfg := faultConfig(backend.Addr())
	cfg.Timeouts.Shutdown = conf.Duration(5 * time.Second)
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{ManualPong: true}) // the proxy waits for the answer to its PING
	unary := f.open(client, faultMethod)
	require.NoError(t, unary.Data(rawh2.Frame(0, []byte("x")), true))
	_, err := backend.AwaitStream(f.safe(), 1)
	require.NoError(t, err)

	f.cancel()
	goAway, err := client.AwaitGoAway(f.safe())
	require.NoError(t, err)
	if goAway.LastID < math.MaxInt32 {
		t.Skipf("the proxy gives a last stream at once: %v", goAway)
	}
	close(backend.finish)
	requireOK(t, f.rawCall(client, faultMethod, []byte("crossing")), rawh2.Frame(0, []byte("crossing")))
	requireOK(t, f.result(unary), rawh2.Frame(0, []byte("x")))
	client.Close()
	require.NoError(t, f.stop())
}

func TestFaultShutdownWithADeadBackend(t *testing.T) {
	backend := startDrainable(t)
	f := startShort(t, backend)
	running := f.openStream(f.dial(rawh2.Options{}))
	backend.Close()
	requireFailure(t, f.result(running), codes.Unavailable, stream.BackendDisconnected, "default", backend.Addr())
	require.NoError(t, f.stop())
}

func TestFaultShutdownLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("life", func(t *testing.T) {
		backend := startDrainable(t)
		close(backend.finish)
		f := startShort(t, backend)
		client := f.dial(rawh2.Options{})
		f.openStream(client) // still open at the end
		requireOK(t, f.rawCall(client, faultMethod, nil), rawh2.Frame(0, nil))
		f.standing++
		f.lives()
	})
	goleak.VerifyNone(t, append(handlertest.LeakOptions(), before)...)
}
