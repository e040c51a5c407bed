package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

var errRefused = errors.New("connection refused")

func TestABurstSharesOneDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := make(chan struct{})
		f := newFixture(t, upTo(4), &fakeBackend{begin: func(context.Context, *fakeConn) error {
			<-settings
			return nil
		}})
		var later []<-chan *Conn
		for range 20 {
			later = append(later, f.acquireLater(t))
		}
		require.EqualValues(t, 20, f.waiting(t))
		close(settings)
		for _, got := range later {
			require.NotNil(t, <-got)
		}
		require.Equal(t, 1, f.backend.dialed())
		f.requireStats(t, 1, 20)
	})
}

func TestUnreachable(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.backend.fail(errRefused)
		_, err := f.get(t.Context())
		require.Equal(t, &stream.Failure{
			Reason: stream.BackendUnreachable, Code: stream.Unavailable, Unprocessed: true,
			Message: `cluster "c": instance address: connection refused`,
		}, err)
	})
}

func TestConnectingIsBounded(t *testing.T) {
	silent := func(ctx context.Context, _ *fakeConn) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	run(t, rules{Options: Options{ConnectTimeout: time.Second}}, &fakeBackend{begin: silent}, func(t *testing.T, f *fixture) {
		begun := time.Now()
		_, err := f.get(t.Context())
		require.ErrorContains(t, err, "timeouts.connect")
		require.Equal(t, time.Second, time.Since(begun))
	})
}

// An instance that refused is answered for from memory for a moment.
func TestABurstOfFailuresIsOneDial(t *testing.T) {
	run(t, upTo(4), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.backend.fail(errRefused)
		for dials := 1; dials <= 2; dials++ {
			for range 20 {
				_, err := f.get(t.Context())
				require.ErrorContains(t, err, "connection refused")
			}
			require.Equal(t, dials, f.backend.dialed())
			time.Sleep(redialPause)
		}
	})
}

func TestCallsGoOnWhileAFurtherConnectionFails(t *testing.T) {
	run(t, upTo(2), &fakeBackend{limit: 1}, func(t *testing.T, f *fixture) {
		one := f.acquire(t)
		f.backend.fail(errRefused)
		two := f.acquireLater(t)
		require.EqualValues(t, 1, f.waiting(t))
		require.Equal(t, 2, f.backend.dialed())
		one.Release()
		require.Same(t, one, <-two)
		require.False(t, f.Down("c", "address"))
	})
}

// Down never waits, and finds out in the background when that is over.
func TestDown(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		require.False(t, f.Down("c", "address"), "nothing is known yet")
		require.Zero(t, f.backend.dialed(), "and asking does not change that")
		f.acquire(t).Release()
		f.backend.fail(errRefused)
		f.backend.all()[0].lose()
		require.False(t, f.Down("c", "address"), "nothing has been tried")
		_, err := f.get(t.Context())
		require.Error(t, err)
		require.True(t, f.Down("c", "address"))
		require.Equal(t, 2, f.backend.dialed(), "it is too early")

		f.backend.fail(nil)
		time.Sleep(redialPause)
		require.True(t, f.Down("c", "address"), "as far as is known")
		synctest.Wait()
		require.False(t, f.Down("c", "address"))
		require.Equal(t, 3, f.backend.dialed())
		f.requireStats(t, 1, 0)
	})
}

func TestWaitingForAConnectionEndsWithTheCall(t *testing.T) {
	withhold := func(ctx context.Context, _ *fakeConn) error {
		<-ctx.Done()
		return ctx.Err()
	}
	run(t, upTo(1), &fakeBackend{begin: withhold}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { // ends with ctx
			_, err := f.get(ctx)
			failed <- err
		}()
		require.EqualValues(t, 1, f.waiting(t))
		cancel()
		require.ErrorContains(t, <-failed, context.Canceled.Error())
	})
}

// TestEventsBeforeDialReturns: a connection may be over, or on its way there,
// before the pool has heard of it.
func TestEventsBeforeDialReturns(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		run(t, upTo(1), &fakeBackend{begin: once((*fakeConn).lose)}, func(t *testing.T, f *fixture) {
			c := f.acquire(t)
			require.Same(t, f.backend.all()[1], c.Transport())
			f.requireStats(t, 1, 1)
			require.Len(t, c.in.everyConn(), 1)
		})
	})
	t.Run("retired", func(t *testing.T) {
		run(t, upTo(1), &fakeBackend{begin: once((*fakeConn).goAway)}, func(t *testing.T, f *fixture) {
			c := f.acquire(t)
			require.Same(t, f.backend.all()[1], c.Transport())
			f.requireStats(t, 1, 1)
			require.Len(t, c.in.everyConn(), 2)
			time.Sleep(2 * sweepInterval)
			require.Equal(t, errRetired, f.backend.all()[0].closed())
			require.Len(t, c.in.everyConn(), 1)
		})
	})
	for name, limits := range map[string]struct{ told, returned int64 }{
		"lower limit": {1, math.MaxInt64}, "higher limit": {2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tell := func(c *fakeConn) { c.ev.Limit(limits.told) }
			run(t, upTo(1), &fakeBackend{limit: limits.returned, begin: once(tell)}, func(t *testing.T, f *fixture) {
				for range limits.told {
					f.acquire(t)
				}
				f.acquireLater(t)
				require.EqualValues(t, 1, f.waiting(t))
			})
		})
	}
}

// A backend that hangs up on every new connection is not dialled without end.
func TestConnectionsThatGoAsTheyAreOpenedAreBounded(t *testing.T) {
	for name, end := range map[string]func(*fakeConn){"closed": (*fakeConn).lose, "retired": (*fakeConn).goAway} {
		t.Run(name, func(t *testing.T) {
			goes := func(_ context.Context, c *fakeConn) error {
				end(c)
				return nil
			}
			run(t, upTo(1), &fakeBackend{begin: goes}, func(t *testing.T, f *fixture) {
				_, err := f.get(t.Context())
				require.Equal(t, Unreachable("c", "address", errRetired), err)
				require.Equal(t, openAttempts, f.backend.dialed())
			})
		})
	}
}

// once does something to the first connection only.
func once(do func(*fakeConn)) func(context.Context, *fakeConn) error {
	var first sync.Once
	return func(_ context.Context, c *fakeConn) error {
		first.Do(func() { do(c) })
		return nil
	}
}

// A connection that is made in spite of the pool's end does not outlive it.
func TestCloseWaitsForADialUnderWay(t *testing.T) {
	late := func(ctx context.Context, _ *fakeConn) error {
		<-ctx.Done()
		return nil
	}
	run(t, upTo(1), &fakeBackend{begin: late}, func(t *testing.T, f *fixture) {
		failed := make(chan error, 1)
		go func() { // ends with the pool
			_, err := f.get(t.Context())
			failed <- err
		}()
		require.EqualValues(t, 1, f.waiting(t))
		f.Close()
		require.Equal(t, errPoolClosed, f.backend.all()[0].closed())
		require.Equal(t, Unreachable("c", "address", errPoolClosed), <-failed)
	})
}

func TestInstanceThatGoesAndComesIsLoggedOnceEach(t *testing.T) {
	var lines syncBuffer
	opts := rules{Options: Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))}}
	run(t, opts, &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.acquire(t).Release()
		f.backend.fail(errRefused)
		f.backend.all()[0].lose()
		for range 3 {
			_, err := f.get(t.Context())
			require.Error(t, err)
			time.Sleep(redialPause)
		}
		require.Equal(t, 4, f.backend.dialed())
		f.backend.fail(nil)
		f.acquire(t).Release()
		f.backend.all()[1].lose()
		f.acquire(t).Release()
	})
	require.Equal(t, 1, strings.Count(lines.String(), "cannot be reached"), lines.String())
	require.Equal(t, 1, strings.Count(lines.String(), "is back"), lines.String())
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
