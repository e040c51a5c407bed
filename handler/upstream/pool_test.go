package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestOneConnectionCarriesManyStreams(t *testing.T) {
	run(t, upTo(4), &fakeBackend{}, func(t *testing.T, f *fixture) {
		for range busyStreams {
			defer f.acquire(t).Release()
		}
		f.requireStats(t, 1, busyStreams)
		require.Equal(t, 1, f.backend.dialed())
	})
}

func TestBusyInstancesGetMoreConnectionsUpToTheLimit(t *testing.T) {
	run(t, upTo(2), &fakeBackend{}, func(t *testing.T, f *fixture) {
		for range 4 * busyStreams {
			defer f.acquire(t).Release()
		}
		f.requireStats(t, 2, 4*busyStreams)
		for range busyStreams {
			defer f.acquire(t).Release()
		}
		f.requireStats(t, 2, 5*busyStreams)
		require.Equal(t, 2, f.backend.dialed())
	})
}

func TestClusterThatIsNotNamedGetsOneConnection(t *testing.T) {
	run(t, rules{}, &fakeBackend{}, func(t *testing.T, f *fixture) {
		for range 2 * busyStreams {
			defer f.acquire(t).Release()
		}
		f.requireStats(t, 1, 2*busyStreams)
	})
}

func TestNewStreamsGoToTheLeastBusyConnection(t *testing.T) {
	run(t, upTo(2), &fakeBackend{limit: 2}, func(t *testing.T, f *fixture) {
		one, same, other := f.acquire(t), f.acquire(t), f.acquire(t)
		require.Same(t, one, same)
		require.NotSame(t, one, other, "the first one is full")
		other.Release()
		one.Release()
		require.Same(t, other, f.acquire(t), "the first one is busier")
		one.Release()
		require.Same(t, one, f.acquire(t), "the second one is busier")
	})
}

// TestStreamsSpreadOverTheConnectionsThatTakeThem: streams that stay open fill
// every connection up to the backend's limit, and one more waits for an end.
func TestStreamsSpreadOverTheConnectionsThatTakeThem(t *testing.T) {
	const limit, conns = 3, 4
	run(t, upTo(conns), &fakeBackend{limit: limit}, func(t *testing.T, f *fixture) {
		var later []<-chan *Conn
		for range limit * conns {
			later = append(later, f.acquireLater(t))
		}
		f.requireStats(t, conns, limit*conns)
		perConn := make(map[*Conn]int)
		var one *Conn
		for _, got := range later {
			one = <-got
			require.NotNil(t, one)
			perConn[one]++
		}
		require.Len(t, perConn, conns)
		require.Equal(t, limit, perConn[one])

		waiting := f.acquireLater(t)
		require.EqualValues(t, 1, f.waiting(t))
		require.Equal(t, conns, f.backend.dialed())
		one.Release()
		require.Same(t, one, <-waiting)
		f.requireStats(t, conns, limit*conns)
	})
}

func TestStreamLimitIsNeverExceeded(t *testing.T) {
	run(t, upTo(1), &fakeBackend{limit: 1}, func(t *testing.T, f *fixture) {
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				c, err := f.get(t.Context())
				if assert.NoError(t, err) {
					assert.EqualValues(t, 1, c.streams.Load())
					c.Release()
				}
			})
		}
		calls.Wait()
		f.requireStats(t, 1, 0)
	})
}

func TestWaitingForAStreamEndsWithTheCall(t *testing.T) {
	run(t, upTo(1), &fakeBackend{limit: 1}, func(t *testing.T, f *fixture) {
		defer f.acquire(t).Release()
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() { // ends with ctx
			_, err := f.get(ctx)
			failed <- err
		}()
		require.EqualValues(t, 1, f.waiting(t))
		cancel(errors.New("enough"))
		require.ErrorContains(t, <-failed, "enough")
		require.Zero(t, f.waiting(t))
	})
}

func TestWaitingCallsAreServedInTheirOrder(t *testing.T) {
	run(t, upTo(1), &fakeBackend{limit: 1}, func(t *testing.T, f *fixture) {
		c := f.acquire(t)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		var line []<-chan *Conn
		for i := range 10 {
			if i == 5 { // one of them gives up
				go func() {
					_, err := f.get(ctx)
					gone <- err
				}()
			} else {
				line = append(line, f.acquireLater(t))
			}
			require.EqualValues(t, i+1, f.waiting(t))
		}
		cancel()
		require.Error(t, <-gone)
		require.Nil(t, f.TryAcquire("c", "address"), "nobody pushes in")
		for i, next := range line {
			c.Release()
			synctest.Wait()
			for _, later := range line[i+1:] {
				require.Empty(t, later, "it is not their turn")
			}
			c = <-next
		}
		c.Release()
		f.requireStats(t, 1, 0)
	})
}

// The backend may change its mind in later SETTINGS.
func TestLimitFollowsTheBackend(t *testing.T) {
	run(t, upTo(1), &fakeBackend{limit: 1}, func(t *testing.T, f *fixture) {
		one := f.acquire(t)
		two := f.acquireLater(t)
		require.EqualValues(t, 1, f.waiting(t))
		far := f.backend.all()[0]
		far.ev.Limit(2)
		require.Same(t, one, <-two, "who waited is woken")

		far.ev.Limit(1)
		one.Release()
		three := f.acquireLater(t)
		require.EqualValues(t, 1, f.waiting(t), "one is as many as it allows now")
		one.Release()
		require.Same(t, one, <-three)
	})
}

func TestConnectionRetiresBeforeItsStreamNumbersEnd(t *testing.T) {
	run(t, upTo(4), &fakeBackend{}, func(t *testing.T, f *fixture) {
		one := f.acquire(t)
		one.opened.Store(maxStreamsOpened - 1)
		last := f.acquire(t)
		require.Same(t, one, last)
		f.requireStats(t, 0, 2)
		other := f.acquire(t)
		require.NotSame(t, one, other)
		other.Release()
		one.Release()
		last.Release()
		time.Sleep(2 * sweepInterval)
		require.ErrorIs(t, f.backend.all()[0].closed(), errRetired)
		f.requireStats(t, 1, 0)
	})
}

func TestOpen(t *testing.T) {
	errRequest := errors.New("the request is at fault")
	for name, test := range map[string]struct {
		drained int   // so many connections begin to drain before they get the stream
		err     error // what the next one says
		reason  stream.Reason
		dials   int
	}{
		"at once":                           {dials: 1},
		"on another connection":             {drained: openAttempts - 1, dials: openAttempts},
		"no connection stays long enough":   {drained: openAttempts, reason: stream.BackendUnreachable, dials: openAttempts},
		"an error that is not its business": {drained: 1, err: errRequest, reason: stream.ProxyInternal, dials: 2},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
				calls := 0
				err := f.Open(t.Context(), "c", "address", func(c *Conn) error {
					if calls++; calls <= test.drained {
						c.Transport().(*fakeConn).drain()
						return ErrNotTaken
					}
					return test.err
				})
				require.Equal(t, test.dials, f.backend.dialed())
				if test.reason == "" {
					require.NoError(t, err)
					f.requireStats(t, 1, 1)
					return
				}
				require.Equal(t, test.reason, stream.AsFailure(err).Reason)
				require.Zero(t, f.Stats().Streams, "nothing is left reserved")
			})
		})
	}
}

// A stream that a usable connection has no room for, whatever the pool thinks,
// is tried again there.
func TestOpenLeavesAUsableConnectionInUse(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		err := f.Open(t.Context(), "c", "address", func(*Conn) error { return ErrNotTaken })
		require.Equal(t, Unreachable("c", "address", errRetired), err)
		f.requireStats(t, 1, 0)
		require.Equal(t, 1, f.backend.dialed())
	})
}

// TestNothingIsLostInTheRush: whatever becomes of connections, no call waits
// while there is room, and no stream stays counted.
func TestNothingIsLostInTheRush(t *testing.T) {
	run(t, upTo(3), &fakeBackend{limit: 2}, func(t *testing.T, f *fixture) {
		var calls sync.WaitGroup
		for caller := range 16 {
			rnd := rand.New(rand.NewPCG(1, uint64(caller)))
			calls.Go(func() {
				for range 200 {
					f.callInTheRush(t, rnd)
				}
			})
		}
		calls.Wait()
		time.Sleep(2 * sweepInterval)
		require.Zero(t, f.Stats().Streams)
		in, err := f.instance("c", "address")
		require.NoError(t, err)
		require.Len(t, in.everyConn(), f.Stats().Connections, "none of those that retired is left")
	})
}

func (f *fixture) callInTheRush(t *testing.T, rnd *rand.Rand) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rnd.IntN(4) == 0 {
		stop := time.AfterFunc(time.Millisecond, cancel)
		defer stop.Stop()
	}
	c, err := f.get(ctx)
	if err != nil {
		assert.Error(t, ctx.Err(), "nothing else ends a wait here")
		return
	}
	far := c.Transport().(*fakeConn)
	time.Sleep(time.Duration(rnd.IntN(2)) * time.Millisecond)
	switch rnd.IntN(20) {
	case 0:
		far.goAway()
	case 1:
		far.lose()
	case 2:
		far.ev.Limit(int64(1 + rnd.IntN(4)))
	}
	c.Release()
}

func TestReadyConnectionIsFoundWithoutAllocation(t *testing.T) {
	f := newFixture(t, upTo(2), &fakeBackend{})
	f.acquire(t).Release()
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c, err := f.get(ctx)
		if err == nil {
			c.Release()
		}
	}))
	var last *Conn
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		err := f.Open(ctx, "c", "address", func(c *Conn) error {
			last = c
			return nil
		})
		if err == nil {
			last.Release()
		}
	}))
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, upTo(1), &fakeBackend{limit: 1})
		f.acquire(t)
		waiting := make(chan error, 1)
		go func() { // ends with the pool
			_, err := f.get(t.Context())
			waiting <- err
		}()
		require.EqualValues(t, 1, f.waiting(t))
		f.Close()
		require.Equal(t, errPoolClosed, f.backend.all()[0].closed())
		require.Equal(t, Unreachable("c", "address", errPoolClosed), <-waiting)
		for _, address := range []string{"address", "another"} {
			_, err := f.Acquire(t.Context(), "c", address)
			require.Equal(t, Unreachable("c", address, errPoolClosed), err)
		}
	})
}

func BenchmarkAcquire(b *testing.B) {
	f := newFixture(b, upTo(1), &fakeBackend{})
	b.ReportAllocs()
	for b.Loop() {
		c, err := f.get(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		c.Release()
	}
}
