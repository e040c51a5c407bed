package proxy_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Messages that claim too much, are too much, or stop too early.

// A prefix is a promise, not a reason to reserve memory.
func TestFaultRequestClaims4GiB(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, nil)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	before := reservedHeap()
	var calls []*rawh2.Stream
	client := f.dial(rawh2.Options{})
	for range 8 {
		s := f.open(client, faultMethod)
		require.NoError(t, s.Data(rawh2.Prefix(0, 1<<32-1), false))
		require.NoError(t, s.Data(make([]byte, 100<<10), false))
		calls = append(calls, s)
	}
	for i := range calls {
		at, err := backend.AwaitStream(f.safe(), i+1)
		require.NoError(t, err)
		// Nothing waits for the whole message: what has come moves on.
		_, err = at.AwaitBody(f.safe(), 64<<10)
		require.NoError(t, err)
	}
	requireHeapGrowth(t, before)
	for _, s := range calls {
		require.NoError(t, s.Reset(http2.ErrCodeCancel))
	}
	for _, at := range backend.Streams() {
		_, err := at.AwaitReset(f.safe())
		require.NoError(t, err, "the cancel reaches the backend")
	}
	f.lives()
}

// The beginning of a message of which nothing more comes.
func TestFaultPrefixAloneThenCancel(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, nil)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	before := reservedHeap()
	s := f.open(f.dial(rawh2.Options{}), faultMethod)
	require.NoError(t, s.Data(rawh2.Prefix(0, 1<<32-1), false))
	at, err := backend.AwaitStream(f.safe(), 1)
	require.NoError(t, err)
	require.NoError(t, s.Reset(http2.ErrCodeCancel))
	_, err = at.AwaitReset(f.safe())
	require.NoError(t, err)
	requireHeapGrowth(t, before)
	f.lives()
}

const messageLimit = 1 << 20

// startLimited runs a proxy with limits.message = messageLimit.
func startLimited(t *testing.T, backend *rawh2.Server) *faultProxy {
	t.Helper()
	cfg := faultConfig(backend.Addr())
	cfg.Limits.Message = messageLimit
	return startFaultProxy(t, cfg)
}

func TestFaultMessageOfExactlyTheLimitPasses(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	f := startLimited(t, backend)
	message := make([]byte, messageLimit)
	requireOK(t, f.call(f.safe(), faultMethod, message), message)
	f.lives()
}

func TestFaultRequestTooLarge(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, nil)
	f := startLimited(t, backend)
	s := f.open(f.dial(rawh2.Options{}), faultMethod)
	require.NoError(t, s.Data(rawh2.Prefix(0, messageLimit+1), false))
	requireFailure(t, f.result(s), codes.ResourceExhausted, stream.MessageTooLarge, "1048577", "1048576")
	requireRequestReset(t, f, backend)
	f.lives()
}

// The limit holds for the second message as for the first, and what was good
// before it got through.
func TestFaultSecondRequestMessageTooLarge(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, nil)
	f := startLimited(t, backend)
	s := f.open(f.dial(rawh2.Options{}), faultMethod)
	require.NoError(t, s.Message(0, []byte("good")))
	require.NoError(t, s.Data(rawh2.Prefix(1, 1<<32-1), false))
	requireFailure(t, f.result(s), codes.ResourceExhausted, stream.MessageTooLarge)
	requireRequestReset(t, f, backend)
	f.lives()
}

func TestFaultResponseTooLarge(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.ResponseFields(), false)
		_ = s.Message(0, []byte("good"))
		_ = s.Data(rawh2.Prefix(0, messageLimit+1), false)
	})
	f := startLimited(t, backend)
	r := f.rawCallWith()
	requireFailure(t, r, codes.ResourceExhausted, stream.MessageTooLarge, "1048577", "1048576")
	assert.Equal(t, rawh2.Frame(0, []byte("good")), r.body, "what was good before got through, and nothing else")
	_, err := backend.Streams()[0].AwaitReset(f.safe())
	require.NoError(t, err)
	f.lives()
}

// TestFaultMessageLimitOfARoute: it holds instead of limits.message, in whatever
// mode the route is.
func TestFaultMessageLimitOfARoute(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, echoRaw)
	cfg := faultConfig(backend.Addr())
	cfg.Limits.Message = messageLimit
	cfg.Default.MessageLimit = 10
	f := startFaultProxy(t, cfg)
	requireOK(t, f.call(f.safe(), faultMethod, make([]byte, 10)), make([]byte, 10))
	s := f.open(f.dial(rawh2.Options{}), faultMethod)
	require.NoError(t, s.Data(rawh2.Frame(0, make([]byte, 11)), true))
	requireFailure(t, f.result(s), codes.ResourceExhausted, stream.MessageTooLarge, "11 bytes", "10 bytes")
	f.lives()
}

func TestFaultTruncatedRequest(t *testing.T) {
	parts := map[string][]byte{
		"inside the message":  append(rawh2.Prefix(0, 100), "ten bytes."...),
		"after the prefix":    rawh2.Prefix(0, 100),
		"inside the prefix":   {0, 0, 0},
		"in the second":       append(rawh2.Frame(0, []byte("whole")), rawh2.Frame(0, []byte("cut short"))[:8]...),
		"deep in a large one": append(rawh2.Prefix(0, 200<<10), make([]byte, 100<<10)...),
	}
	for where, body := range parts {
		t.Run(where, func(t *testing.T) {
			backend := startRaw(t, rawh2.Options{}, echoRaw)
			f := startFaultProxy(t, faultConfig(backend.Addr()))
			s := f.open(f.dial(rawh2.Options{}), faultMethod)
			require.NoError(t, s.Data(body, true))
			requireFailure(t, f.result(s), codes.Internal, stream.RequestMalformed)
			requireRequestReset(t, f, backend)
			f.lives()
		})
	}
}

// requireRequestReset checks that the backend's stream was reset, and that
// the backend was never told that the request was complete. A call that ended
// before the backend heard of it is as good.
func requireRequestReset(t *testing.T, f *faultProxy, backend *rawh2.Server) {
	t.Helper()
	f.settles()
	for _, s := range backend.Streams() {
		_, err := s.AwaitReset(f.safe())
		require.NoError(t, err, "events: %v", s.Events())
		for _, e := range s.Events() {
			require.False(t, e.EndStream, "events: %v", s.Events())
		}
	}
}
