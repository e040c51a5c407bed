package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Backends that are not there, not there any more, or there again.

func TestFaultBackendDown(t *testing.T) {
	addr := loopback.Free(t)
	cfg := faultConfig(addr)
	cfg.Timeouts.Connect = conf.Duration(time.Hour)
	f := startFaultProxy(t, cfg)
	// The second call finds the proxy with a failure it remembers.
	for range 2 {
		r := f.call(f.safe(), faultMethod, nil) // a refused connection is known at once, whatever the times
		requireFailure(t, r, codes.Unavailable, stream.BackendUnreachable, "default", addr)
	}
	f.lives()
}

func TestFaultBackendNeverSpeaks(t *testing.T) {
	silent, err := rawh2.ListenTCP("", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	require.NoError(t, err)
	defer silent.Close()
	cfg := faultConfig(silent.Addr())
	cfg.Timeouts.Connect = conf.Duration(200 * time.Millisecond)
	f := startFaultProxy(t, cfg)
	r := f.call(f.safe(), faultMethod, nil)
	requireFailure(t, r, codes.Unavailable, stream.BackendUnreachable, "default", silent.Addr())
	assert.GreaterOrEqual(t, r.took, 200*time.Millisecond, "timeouts.connect is waited for")
	f.lives()
}

func TestFaultBackendSpeaksHTTP1(t *testing.T) {
	old, err := rawh2.ListenTCP("", func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	require.NoError(t, err)
	defer old.Close()
	f := startFaultProxy(t, faultConfig(old.Addr()))
	requireFailure(t, f.call(f.safe(), faultMethod, nil), codes.Unavailable, stream.BackendUnreachable, "default", old.Addr())
	f.lives()
}

func TestFaultBackendClosesAtOnce(t *testing.T) {
	shut, err := rawh2.ListenTCP("", func(net.Conn) {})
	require.NoError(t, err)
	defer shut.Close()
	f := startFaultProxy(t, faultConfig(shut.Addr()))
	requireFailure(t, f.call(f.safe(), faultMethod, nil), codes.Unavailable, stream.BackendUnreachable, "default", shut.Addr())
	f.lives()
}

func TestFaultBackendComesBack(t *testing.T) {
	first, err := rawh2.Listen(loopback.Free(t), rawh2.Options{}, echoRaw)
	require.NoError(t, err)
	defer first.Close()
	f := startFaultProxy(t, faultConfig(first.Addr()))
	client := f.dial(rawh2.Options{}) // one connection throughout
	message := rawh2.Frame(0, []byte("hello"))
	requireOK(t, f.rawCall(client, faultMethod, []byte("hello")), message)

	first.Close()
	// The first calls may still find the lost connection.
	var r callResult
	require.Eventually(t, func() bool {
		r = f.rawCall(client, faultMethod, nil)
		assert.Equal(t, codes.Unavailable, r.code, r.message)
		return r.reason == string(stream.BackendUnreachable)
	}, faultSafety, time.Millisecond)
	requireFailure(t, r, codes.Unavailable, stream.BackendUnreachable, "default", first.Addr())

	second, err := rawh2.Listen(first.Addr(), rawh2.Options{}, echoRaw)
	require.NoError(t, err)
	defer second.Close()
	require.Eventually(t, func() bool {
		return f.rawCall(client, faultMethod, []byte("hello")).code == codes.OK
	}, faultSafety, 20*time.Millisecond, "a backend that is back is used again")
	f.lives()
}

func TestFaultOneOfTwoInstancesDown(t *testing.T) {
	up, down := startRaw(t, rawh2.Options{}, echoRaw), loopback.Free(t)
	f := startFaultProxy(t, faultConfig(up.Addr(), down))
	for range 50 {
		requireOK(t, f.call(f.safe(), faultMethod, []byte("x")), []byte("x"))
	}
	f.lives()
}

func TestFaultOneOfTwoInstancesSilent(t *testing.T) {
	silent, err := rawh2.ListenTCP("", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	require.NoError(t, err)
	defer silent.Close()
	up := startRaw(t, rawh2.Options{}, echoRaw)
	cfg := faultConfig(up.Addr(), silent.Addr())
	cfg.Timeouts.Connect = conf.Duration(100 * time.Millisecond)
	f := startFaultProxy(t, cfg)
	for range 10 {
		requireOK(t, f.call(f.safe(), faultMethod, []byte("x")), []byte("x"))
	}
	f.lives()
}

// The ways a backend's connection can be lost.
var faultDeaths = map[string]func(*rawh2.Conn){"FIN": (*rawh2.Conn).Hangup, "RST": (*rawh2.Conn).Abort}

func TestFaultBackendDiesMidStream(t *testing.T) {
	for name, die := range faultDeaths {
		t.Run(name, func(t *testing.T) {
			backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
				_ = s.Headers(rawh2.ResponseFields(), false)
				_ = s.Message(0, []byte("first"))
			})
			f := startFaultProxy(t, faultConfig(backend.Addr()))
			call, err := f.client.NewStream(f.safe(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, faultMethod)
			require.NoError(t, err)
			var got []byte
			require.NoError(t, call.RecvMsg(&got))
			require.Equal(t, "first", string(got))

			at, err := backend.AwaitStream(f.safe(), 1)
			require.NoError(t, err)
			die(at.Conn())
			r := streamEnd(call)
			requireFailure(t, r, codes.Unavailable, stream.BackendDisconnected, "default", backend.Addr())
			f.lives()
		})
	}
}

func TestFaultBackendDiesInsideAMessage(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Data(append(rawh2.Prefix(0, 1000), "not all of it"...), false)
		s.Conn().Hangup()
	})
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	// A raw client, since grpc-go's says only that the message ends early.
	r := f.rawCall(f.dial(rawh2.Options{}), faultMethod, nil)
	requireFailure(t, r, codes.Unavailable, stream.BackendDisconnected, "default", backend.Addr())
	f.lives()
}

// A backend that has the request may have acted on it: it is not asked again.
func TestFaultBackendDiesBeforeItAnswers(t *testing.T) {
	for name, die := range faultDeaths {
		t.Run(name, func(t *testing.T) {
			backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
				_, _ = s.AwaitEndStream(s.Context())
				die(s.Conn())
			})
			f := startFaultProxy(t, faultConfig(backend.Addr()))
			r := f.call(f.safe(), faultMethod, []byte("do it once"))
			requireFailure(t, r, codes.Unavailable, stream.BackendDisconnected, "default", backend.Addr())
			assert.Len(t, backend.Streams(), 1, "the call must not be sent twice")
			f.lives()
		})
	}
}

// streamEnd reads a stream of the gRPC client to its end.
func streamEnd(call grpc.ClientStream) callResult {
	for {
		var m []byte
		err := call.RecvMsg(&m)
		if err == nil {
			continue
		}
		return resultOf(err, call.Trailer())
	}
}
