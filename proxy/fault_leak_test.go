package proxy_test

import (
	"context"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// endings are the ways in which a call can end, and the code each gives.
var endings = []struct {
	name string
	code codes.Code
}{
	{"ok", codes.OK},
	{"error", codes.FailedPrecondition},
	{"cancel", codes.Canceled},
	{"deadline", codes.DeadlineExceeded},
	{"reset", codes.Internal},
	{"cancelled stream", codes.Canceled},
}

func serveEnding(s *rawh2.Stream) {
	switch s.Request().Get("ending") {
	case "error":
		_ = s.Status(int(codes.FailedPrecondition), "as asked")
	case "cancel", "deadline":
		_, _ = s.AwaitReset(s.Context())
	case "reset":
		_ = s.Reset(http2.ErrCodeInternal)
	case "cancelled stream":
		echoEachRaw(s)
	default:
		echoRaw(s)
	}
}

// endCall makes a call that ends in one of the endings.
func (f *faultProxy) endCall(ending string) codes.Code {
	ctx, cancel := context.WithTimeout(context.Background(), faultSafety)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "ending", ending)
	switch ending {
	case "cancelled stream":
		return f.cancelStream(ctx, cancel)
	case "cancel":
		time.AfterFunc(5*time.Millisecond, cancel)
	case "deadline":
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 5*time.Millisecond)
		defer stop()
	}
	return f.call(ctx, faultMethod, []byte("x")).code
}

// cancelStream cancels a stream that has had one answer.
func (f *faultProxy) cancelStream(ctx context.Context, cancel func()) codes.Code {
	call, err := f.client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, faultMethod)
	if err != nil {
		return resultOf(err, nil).code
	}
	m := []byte("x")
	if err := call.SendMsg(&m); err != nil {
		return resultOf(err, nil).code
	}
	if err := call.RecvMsg(&m); err != nil {
		return resultOf(err, nil).code
	}
	cancel()
	return streamEnd(call).code
}

// endCalls makes n calls of all endings, ten at a time.
func (f *faultProxy) endCalls(n int) {
	f.t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				e := endings[i%len(endings)]
				if code := f.endCall(e.name); code != e.code {
					f.t.Errorf("%s: call %d ended with %v", e.name, i, code)
				}
			}
		})
	}
	all.Wait()
}

func TestFaultNothingLeaks(t *testing.T) {
	backend := startRaw(t, rawh2.Options{}, serveEnding)
	f := startFaultProxy(t, faultConfig(backend.Addr()))
	// A first round opens what is kept: connections, pools.
	f.endCalls(100)
	f.lives()
	connections := f.p.Stats().BackendConnections
	before := settledGoroutines()

	f.endCalls(500)
	f.lives()
	require.LessOrEqual(t, f.p.Stats().BackendConnections, max(connections, 5), "at most 4 and 1")
	require.Eventually(t, func() bool {
		// A connection more has its goroutines; a leak of one in 500 calls
		// of some kind would have 80.
		return settledGoroutines() <= before+20
	}, faultSafety, 50*time.Millisecond, "goroutines before: %d; now:\n%s", before, lazyStacks{})
}

// settledGoroutines is the number of goroutines once it has stopped falling.
func settledGoroutines() int {
	n := runtime.NumGoroutine()
	for range 20 {
		time.Sleep(5 * time.Millisecond) // nothing tells of a goroutine's end
		if now := runtime.NumGoroutine(); now < n {
			n = now
		}
	}
	return n
}

// lazyStacks prints all goroutines at the time of printing.
type lazyStacks struct{}

func (lazyStacks) String() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}
