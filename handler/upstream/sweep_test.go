package upstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRetiredConnectionsAreStillWatched: one that drains is ended when nobody
// reads it any more, when its last stream ends, and by Close.
func TestRetiredConnectionsAreStillWatched(t *testing.T) {
	for name, test := range map[string]struct {
		end   func(f *fixture, one, two *Conn)
		cause error
		left  int64
	}{
		"reader gone":  {func(f *fixture, _, _ *Conn) { f.backend.all()[0].getStuck() }, errStuck, 0},
		"last stream":  {func(_ *fixture, one, two *Conn) { one.Release(); two.Release() }, errRetired, 0},
		"Close":        {func(f *fixture, _, _ *Conn) { f.Close() }, errPoolClosed, 0},
		"not one less": {func(_ *fixture, one, _ *Conn) { one.Release() }, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, upTo(4), &fakeBackend{}, func(t *testing.T, f *fixture) {
				one, two := f.acquire(t), f.acquire(t)
				far := f.backend.all()[0]
				far.goAway()
				f.requireStats(t, 0, 2)
				time.Sleep(2 * sweepInterval)
				require.NoError(t, far.closed(), "its streams go on")
				test.end(f, one, two)
				time.Sleep(2 * sweepInterval)
				require.Equal(t, test.cause, far.closed())
				f.requireStats(t, 0, test.left)
			})
		})
	}
}

func TestConnectionIsReplacedAfterGoAway(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		one := f.acquire(t)
		defer one.Release()
		f.backend.all()[0].goAway()
		two := f.acquire(t)
		defer two.Release()
		require.NotSame(t, one, two)
		f.requireStats(t, 1, 2)
	})
}

func TestConnectionThatNobodyReadsIsEnded(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.acquire(t)
		f.backend.all()[0].getStuck()
		time.Sleep(2 * sweepInterval)
		require.Equal(t, errStuck, f.backend.all()[0].closed())
		f.requireStats(t, 0, 0)
	})
}

func TestIdleConnectionIsClosed(t *testing.T) {
	run(t, rules{Options: Options{IdleTimeout: time.Minute}}, &fakeBackend{}, func(t *testing.T, f *fixture) {
		c := f.acquire(t)
		far := f.backend.all()[0]
		time.Sleep(time.Hour)
		c.Release()
		time.Sleep(time.Minute)
		require.NoError(t, far.closed(), "it has been idle for no longer than that")
		time.Sleep(3 * sweepInterval)
		require.Equal(t, errRetired, far.closed())
		f.requireStats(t, 0, 0)
		f.acquire(t).Release()
		require.Equal(t, 2, f.backend.dialed())
	})
}

func TestConnectionsStayWithoutAnIdleTimeout(t *testing.T) {
	run(t, rules{}, &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.acquire(t).Release()
		time.Sleep(24 * time.Hour)
		require.NoError(t, f.backend.all()[0].closed())
		f.requireStats(t, 1, 0)
	})
}
