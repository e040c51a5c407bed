package proxy_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// attemptsBefore is what the calls of a backend say of the attempts before them.
func attemptsBefore(b *routeBackend) [][]string {
	var all [][]string
	for _, md := range b.all() {
		all = append(all, md.Get("grpc-previous-rpc-attempts"))
	}
	return all
}

func TestRouteRetriesByCode(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, failsFirst(2))
		f := startRoute(t, transport, retrying(nil), b)
		requireOK(t, f.call(f.safe(), faultMethod, []byte("hello")), []byte("hello"))
		assert.Equal(t, [][]string{nil, {"1"}, {"2"}}, attemptsBefore(b))
		f.lives()
	})
}

// What a route with a policy does not send again.
func TestRouteRetriesNoMoreThanItMay(t *testing.T) {
	pushback := func(v string) answer {
		return func(_ int, ss grpc.ServerStream) error {
			ss.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", v))
			return errBusy
		}
	}
	cases := map[string]struct {
		respond answer
		adapt   func(*conf.Retry)
		request int // bytes
		calls   int
	}{
		"attempts": {respond: failsFirst(100), calls: 3},
		"another code": {
			respond: failsFirst(100), calls: 1,
			adapt: func(r *conf.Retry) { r.Codes = []conf.Code{"ABORTED"} },
		},
		"response headers have come": {calls: 1, respond: func(_ int, ss grpc.ServerStream) error {
			return firstOf(ss.SendHeader(metadata.Pairs("k", "v")), errBusy)
		}},
		"more than the buffer": {respond: afterRequest(failsFirst(100)), calls: 1, request: 80 << 10},
		"more than a buffer smaller than what is kept anyway": {
			respond: afterRequest(failsFirst(100)), calls: 1, request: 1024,
			adapt: func(r *conf.Retry) { r.Buffer = 512 },
		},
		"as much as the buffer": {
			respond: afterRequest(failsFirst(100)), calls: 3, request: 200 << 10,
			adapt: func(r *conf.Retry) { r.Buffer = 200<<10 + 5 },
		},
		"never again, says the backend": {respond: pushback("-1"), calls: 1},
		"nonsense, says the backend":    {respond: pushback("soon"), calls: 1},
		"at once, says the backend": {
			respond: pushback("0"), calls: 3,
			adapt: func(r *conf.Retry) { r.Backoff, r.MaxBackoff = conf.Duration(time.Minute), conf.Duration(time.Minute) },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				b := startRouteBackend(t, c.respond)
				f := startRoute(t, transport, retrying(c.adapt), b)
				r := f.call(f.safe(), faultMethod, make([]byte, c.request))
				assert.Equal(t, codes.Unavailable, r.code)
				assert.Equal(t, "busy", r.message)
				assert.Empty(t, r.reason, "it is the backend's answer")
				assert.Equal(t, c.calls, b.calls())
				f.lives()
			})
		})
	}
}

// afterRequest reads a message before it answers.
func afterRequest(respond answer) answer {
	return func(before int, ss grpc.ServerStream) error {
		var m []byte
		return firstOf(ss.RecvMsg(&m), respond(before, ss))
	}
}

// firstOf returns the first error, if there is one.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestRouteRetryPausesEndWithTheCall(t *testing.T) {
	pauses := map[string]func(*conf.Retry){
		"backoff":  func(r *conf.Retry) { r.Backoff, r.MaxBackoff = conf.Duration(time.Minute), conf.Duration(time.Minute) },
		"pushback": nil,
	}
	for name, adapt := range pauses {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				b := startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
					if adapt == nil {
						ss.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "60000"))
					}
					return errBusy
				})
				f := startRoute(t, transport, retrying(adapt), b)
				ctx, cancel := context.WithCancel(f.safe())
				ended := make(chan callResult, 1)
				go func() { ended <- f.call(ctx, faultMethod, []byte("x")) }() // ends with ctx
				b.await(t, 1)
				cancel()
				assert.Equal(t, codes.Canceled, (<-ended).code)
				f.settles() // a call that went on pausing would be left
				assert.Equal(t, 1, b.calls())
				f.lives()
			})
		})
	}
}

// However many calls fail, no more retries are under way than the budget has.
func TestRouteRetryBudget(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		const calls, atLeast = 10, 3
		release := make(chan struct{})
		var mu sync.Mutex
		retries := 0
		b := startRouteBackend(t, func(before int, ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			if md.Get("grpc-previous-rpc-attempts") == nil {
				return errBusy
			}
			mu.Lock()
			retries++
			mu.Unlock()
			<-release
			return echoes(before, ss)
		})
		f := startRoute(t, transport, retrying(func(r *conf.Retry) { r.BudgetPercent = 0 }), b)
		results := make(chan callResult, calls)
		for range calls {
			go func() { results <- f.call(f.safe(), faultMethod, []byte("x")) }() // ends with the call
		}
		for range calls - atLeast {
			assert.Equal(t, codes.Unavailable, (<-results).code)
		}
		close(release)
		for range atLeast {
			assert.Equal(t, codes.OK, (<-results).code)
		}
		assert.Equal(t, atLeast, retries)
		f.lives()
		requireOK(t, f.call(f.safe(), faultMethod, []byte("again")), []byte("again")) // the budget is there again
	})
}

func TestRouteAttemptTimeout(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		silent, well := startRouteBackend(t, never), startRouteBackend(t, echoes)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) {
			r.Codes = []conf.Code{"DEADLINE_EXCEEDED"}
			r.AttemptTimeout = conf.Duration(200 * time.Millisecond)
		}), silent, well)
		for range 2 { // one of them comes to each instance first
			requireOK(t, f.call(f.safe(), faultMethod, []byte("hello")), []byte("hello"))
		}
		assert.Positive(t, silent.calls())
		f.lives()
	})
}

func TestRouteAttemptTimeoutOfTheLastAttempt(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, never)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) {
			r.Codes = []conf.Code{"DEADLINE_EXCEEDED"}
			r.AttemptTimeout = conf.Duration(200 * time.Millisecond)
		}), b)
		r := f.call(f.safe(), faultMethod, []byte("hello"))
		requireFailure(t, r, codes.DeadlineExceeded, stream.RouteTimeout, "time of an attempt")
		assert.Equal(t, 3, b.calls())
		f.lives()
	})
}

// The first attempt fails when one message of three is there; the second one gets all
// of them, and in order.
func TestRouteRetriesAStreamWhoseRequestIsStillComing(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, func(before int, ss grpc.ServerStream) error {
			if before > 0 {
				return echoes(before, ss)
			}
			var m []byte
			return firstOf(ss.RecvMsg(&m), errBusy)
		})
		f := startRoute(t, transport, retrying(nil), b)
		s := f.stream()
		sendOn(t, s, "one")
		b.await(t, 1)
		sendOn(t, s, "two")
		b.await(t, 2)
		sendOn(t, s, "three")
		require.NoError(t, s.CloseSend())
		all, err := receiveAll(s)
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "two", "three"}, all)
		f.lives()
	})
}

func TestRouteHedging(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		cancelled := make(chan struct{}, 1)
		// Whichever instance is asked first is slow.
		var once sync.Once
		respond := func(before int, ss grpc.ServerStream) error {
			slow := false
			once.Do(func() { slow = true })
			if !slow {
				return echoes(before, ss)
			}
			<-ss.Context().Done()
			cancelled <- struct{}{}
			return ss.Context().Err()
		}
		a, b := startRouteBackend(t, respond), startRouteBackend(t, respond)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) {
			r.Hedge = conf.Duration(10 * time.Millisecond)
			r.Attempts = 2 // a slow machine would have a third one begin before the second is answered
		}), a, b)
		requireOK(t, f.call(f.safe(), faultMethod, []byte("hello")), []byte("hello"))
		<-cancelled
		assert.Equal(t, 1, a.calls(), "each has been asked once")
		assert.Equal(t, 1, b.calls())
		f.lives()
	})
}

func TestRouteHedgingKeepsToAttempts(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		const hedge = time.Millisecond
		b := startRouteBackend(t, never)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) { r.Hedge = conf.Duration(hedge) }), b)
		ctx, cancel := context.WithCancel(f.safe())
		defer cancel()
		ended := make(chan callResult, 1)
		go func() { ended <- f.call(ctx, faultMethod, []byte("x")) }() // ends with ctx
		b.await(t, 3)
		time.AfterFunc(50*hedge, cancel) // that no other one comes meanwhile is the case
		assert.Equal(t, codes.Canceled, (<-ended).code)
		assert.Equal(t, 3, b.calls())
		f.lives()
	})
}

// A second instance that swallows connections must not hold up the first one's answer.
func TestRouteHedgingDoesNotWaitForConnections(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		release := make(chan struct{})
		slow := startRouteBackend(t, func(before int, ss grpc.ServerStream) error {
			<-release
			return echoes(before, ss)
		})
		swallows := startSwallowing(t)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) { r.Hedge = conf.Duration(time.Millisecond) }),
			slow, &routeBackend{addr: swallows.Addr()})
		result := make(chan callResult, 1)
		go func() { result <- f.call(f.safe(), faultMethod, []byte("x")) }() // ends with the call
		require.Eventually(t, func() bool { return swallows.Accepted() > 0 && slow.calls() > 0 }, faultSafety, time.Millisecond)
		close(release)
		requireOK(t, <-result, []byte("x"))
		f.lives()
	})
}

// The one that is killed has answered nothing: a call whose client has the head of an answer
// cannot be sent again.
func TestRouteRetriesLoseNoCallOfAKilledBackend(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		staying, killed := startRouteBackend(t, echoes), startRouteBackend(t, never)
		f := startRoute(t, transport, retrying(func(r *conf.Retry) { r.BudgetPercent = 1000 }), staying, killed)
		stopped := make(chan struct{})
		go func() { // ends when the backend has been killed
			defer close(stopped)
			killed.await(t, 8)
			killed.server.Stop()
		}()
		assert.Empty(t, f.callMany(500, 16))
		<-stopped
		f.lives()
	})
}

// Requests longer than a transport queues are sent again while the response is read.
func TestRouteRetriesLongRequests(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		long := bytes.Repeat([]byte("long"), 512<<10)
		b := startRouteBackend(t, afterRequestOnce())
		f := startRoute(t, transport, retrying(func(r *conf.Retry) { r.Buffer = 4 << 20 }), b)
		requireOK(t, f.call(f.safe(), faultMethod, long), long)
		assert.Equal(t, 2, b.calls())
		f.lives()
	})
}

// afterRequestOnce fails the first call when its message has come, and echoes others.
func afterRequestOnce() answer {
	return func(before int, ss grpc.ServerStream) error {
		if before == 0 {
			return afterRequest(failsFirst(1))(before, ss)
		}
		return echoes(before, ss)
	}
}
