package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// A burst opens what it needs side by side, and no more than there may be.
func TestABurstOpensItsConnectionsSideBySide(t *testing.T) {
	const calls, conns, streams = 1000, 4, 100
	settings := make(chan struct{})
	slow := &fakeBackend{begin: func(context.Context, *fakeConn) error {
		<-settings
		return nil
	}}
	synctest.Test(t, func(t *testing.T) {
		settings = make(chan struct{})
		f := newFixture(t, by(ClusterOptions{Connections: conns, Idle: -1, StreamsPerConnection: streams}), slow)
		var waiting sync.WaitGroup
		got := make(chan *Conn, calls)
		for range calls {
			waiting.Go(func() {
				c, err := f.get(t.Context())
				assert.NoError(t, err)
				got <- c
			})
		}
		require.EqualValues(t, calls, f.waiting(t))
		require.Equal(t, conns, f.backend.dialed(), "before any is open")
		close(settings)
		require.EqualValues(t, calls-conns*streams, f.waiting(t))
		f.requireStats(t, conns, conns*streams)
		for range calls {
			(<-got).Release()
		}
		waiting.Wait()
		f.requireStats(t, conns, 0)
		require.Equal(t, conns, f.backend.dialed())
	})
}

func TestStreamsPerConnection(t *testing.T) {
	for name, limit := range map[string]struct{ rule, backend, want int64 }{
		"the rule is lower": {2, 5, 2}, "the backend's limit is lower": {5, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := ClusterOptions{Connections: 1, Idle: -1, StreamsPerConnection: int(limit.rule)}
			run(t, by(o), &fakeBackend{limit: limit.backend}, func(t *testing.T, f *fixture) {
				for range limit.want {
					f.acquire(t)
				}
				f.acquireLater(t)
				require.EqualValues(t, 1, f.waiting(t))
				f.requireStats(t, 1, limit.want)
			})
		})
	}
}

// A change holds for calls that wait already.
func TestConfigureLetsTheLineIn(t *testing.T) {
	for name, o := range map[string]ClusterOptions{
		"more streams":     {Connections: 1, Idle: -1, StreamsPerConnection: 2},
		"more connections": {Connections: 2, Idle: -1, StreamsPerConnection: 1},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, by(ClusterOptions{Connections: 1, Idle: -1, StreamsPerConnection: 1}), &fakeBackend{}, func(t *testing.T, f *fixture) {
				f.acquire(t)
				later := f.acquireLater(t)
				require.EqualValues(t, 1, f.waiting(t))
				f.Configure("c", o)
				require.NotNil(t, <-later)
				f.requireStats(t, o.Connections, 2)
			})
		})
	}
}

func TestPendingCallsAreLimited(t *testing.T) {
	o := ClusterOptions{Connections: 1, Idle: -1, StreamsPerConnection: 1, Pending: 2}
	run(t, by(o), &fakeBackend{}, func(t *testing.T, f *fixture) {
		c := f.acquire(t)
		one := f.acquireLater(t)
		synctest.Wait()
		other := make(chan *Conn, 1)
		go func() { // ends as soon as the connection is open
			c, err := f.Acquire(t.Context(), "c", "another")
			assert.NoError(t, err)
			other <- c
		}()
		(<-other).Release() // it has waited, and waits no longer
		two := f.acquireLater(t)
		require.EqualValues(t, 2, f.waiting(t))
		for _, address := range []string{"address", "a third"} {
			_, err := f.Acquire(t.Context(), "c", address)
			failure := stream.AsFailure(err)
			require.Equal(t, stream.Overloaded, failure.Reason)
			require.Equal(t, stream.Unavailable, failure.Code)
			require.True(t, failure.Unprocessed)
			require.Contains(t, failure.Message, "too many calls wait")
		}
		c.Release()
		(<-one).Release()
		(<-two).Release()
		c = f.acquire(t)
		again := f.acquireLater(t)
		require.EqualValues(t, 1, f.waiting(t), "there is room in the line again")
		c.Release()
		require.NotNil(t, <-again)
	})
}

func TestNewTLSMeansNewConnections(t *testing.T) {
	one, two := &tls.Config{}, &tls.Config{}
	o := ClusterOptions{Connections: 2, Idle: -1, TLS: one}
	run(t, by(o), &fakeBackend{}, func(t *testing.T, f *fixture) {
		old := f.acquire(t)
		f.Configure("c", o)
		require.Same(t, old, f.acquire(t), "nothing has changed")
		o.TLS = two
		f.Configure("c", o)
		next := f.acquire(t)
		require.NotSame(t, old, next)
		require.Same(t, one, old.Transport().(*fakeConn).peer.TLS)
		require.Same(t, two, next.Transport().(*fakeConn).peer.TLS)
		time.Sleep(2 * sweepInterval)
		require.NoError(t, f.backend.all()[0].closed(), "its streams go on")
		f.requireStats(t, 1, 3)
		old.Release()
		old.Release()
		time.Sleep(2 * sweepInterval)
		require.Equal(t, errRetired, f.backend.all()[0].closed())
	})
}

// A connection that was begun before a change of TLS is not used after it.
func TestNewTLSDuringADial(t *testing.T) {
	change := make(chan struct{}, 1)
	synctest.Test(t, func(t *testing.T) {
		change = make(chan struct{}, 1)
		f := newFixture(t, upTo(1), &fakeBackend{begin: func(context.Context, *fakeConn) error {
			<-change
			return nil
		}})
		got := f.acquireLater(t)
		synctest.Wait()
		secure := &tls.Config{}
		f.Configure("c", ClusterOptions{Connections: 1, Idle: -1, TLS: secure})
		change <- struct{}{}
		synctest.Wait()
		change <- struct{}{}
		require.Same(t, secure, (<-got).Transport().(*fakeConn).peer.TLS)
		time.Sleep(2 * sweepInterval)
		require.Equal(t, errRetired, f.backend.all()[0].closed())
	})
}

func TestKeepLetsGoOfInstances(t *testing.T) {
	run(t, upTo(2), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.Keep("c", []string{"address", "another"})
		c := f.acquire(t)
		other, err := f.Acquire(t.Context(), "c", "another")
		require.NoError(t, err)
		other.Release()
		f.Keep("c", []string{"another"})
		require.Equal(t, []InstanceStats{
			{Cluster: "c", Address: "address", Streams: 1, Dials: 1},
			{Cluster: "c", Address: "another", Connections: 1, Dials: 1},
		}, f.Instances())
		time.Sleep(time.Hour)
		require.Len(t, f.Instances(), 2, "a stream goes on")
		c.Release()
		time.Sleep(2 * sweepInterval)
		require.Equal(t, []InstanceStats{{Cluster: "c", Address: "another", Connections: 1, Dials: 1}}, f.Instances())
		require.Equal(t, errRetired, f.backend.all()[0].closed())

		late := f.acquire(t)
		require.NotSame(t, c, late, "a call that chose before is served")
		late.Release()
		time.Sleep(2 * sweepInterval)
		require.Len(t, f.Instances(), 1, "and leaves nothing behind")

		f.Keep("c", []string{"address", "another"})
		f.acquire(t).Release()
		time.Sleep(time.Hour)
		require.Len(t, f.Instances(), 2)
	})
}

func TestForgottenClusterLeavesNothing(t *testing.T) {
	run(t, upTo(2), &fakeBackend{}, func(t *testing.T, f *fixture) {
		c := f.acquire(t)
		f.Forget("c")
		f.Forget("never heard of")
		c.Release()
		time.Sleep(2 * sweepInterval)
		require.Empty(t, f.Instances())
		f.mu.Lock()
		require.Empty(t, f.clusters)
		f.mu.Unlock()

		f.Configure("c", ClusterOptions{Connections: 2, Idle: -1})
		f.acquire(t).Release()
		time.Sleep(time.Hour)
		require.Len(t, f.Instances(), 1)
	})
}

func TestInstancesCountFailures(t *testing.T) {
	run(t, upTo(1), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.backend.fail(errRefused)
		_, err := f.get(t.Context())
		require.Error(t, err)
		require.Equal(t, []InstanceStats{{Cluster: "c", Address: "address", Dials: 1, Failures: 1}}, f.Instances())
	})
}

// The new connection is there before the old one goes, even where there may be
// only one.
func TestOldConnectionsAreReplaced(t *testing.T) {
	const ttl = time.Minute
	run(t, by(ClusterOptions{Connections: 1, Idle: -1, TTL: ttl}), &fakeBackend{}, func(t *testing.T, f *fixture) {
		old := f.acquire(t)
		time.Sleep(time.Duration(float64(ttl) * (1 - maxJitter)))
		require.Equal(t, 1, f.backend.dialed(), "it is too early")
		open := make(chan struct{})
		f.backend.onBegin(func(context.Context, *fakeConn) error {
			<-open
			return nil
		})
		time.Sleep(ttl)
		require.Equal(t, 2, f.backend.dialed())
		require.Same(t, old, f.acquire(t), "there is no other yet")
		close(open)
		synctest.Wait()
		next := f.acquire(t)
		require.NotSame(t, old, next)
		f.requireStats(t, 1, 3)
		old.Release()
		old.Release()
		time.Sleep(2 * sweepInterval)
		require.Equal(t, errRetired, f.backend.all()[0].closed())
		f.requireStats(t, 1, 1)
	})
}

func TestAnOldConnectionStaysWhileThereIsNoOther(t *testing.T) {
	run(t, by(ClusterOptions{Connections: 1, Idle: -1, TTL: time.Minute}), &fakeBackend{}, func(t *testing.T, f *fixture) {
		c := f.acquire(t)
		f.backend.fail(errRefused)
		time.Sleep(time.Hour)
		require.Same(t, c, f.acquire(t))
		require.False(t, f.Down("c", "address"))
		f.backend.fail(nil)
		time.Sleep(time.Second)
		require.NotSame(t, c, f.acquire(t))
	})
}

func TestConnectionsOfOneAgeDoNotGoTogether(t *testing.T) {
	const ttl = time.Hour
	o := ClusterOptions{Connections: 8, Idle: -1, StreamsPerConnection: 1, TTL: ttl}
	run(t, by(o), &fakeBackend{}, func(t *testing.T, f *fixture) {
		for range o.Connections {
			f.acquireLater(t)
		}
		f.requireStats(t, o.Connections, int64(o.Connections))
		most, before := 0, o.Connections
		for range ttl / time.Second {
			time.Sleep(time.Second)
			now := f.backend.dialed()
			most, before = max(most, now-before), now
		}
		require.Less(t, most, o.Connections/2)
		require.GreaterOrEqual(t, before, 2*o.Connections, "all have been replaced")
	})
}

func TestIdleConnectionsBeyondTheRuleAreClosed(t *testing.T) {
	for idle, left := range map[int]int{-1: 4, 0: 0, 1: 1, 9: 4} {
		t.Run(fmt.Sprint(idle), func(t *testing.T) {
			o := ClusterOptions{Connections: 4, Idle: idle, StreamsPerConnection: 1}
			run(t, by(o), &fakeBackend{}, func(t *testing.T, f *fixture) {
				var all []*Conn
				for range o.Connections {
					all = append(all, f.acquire(t))
				}
				time.Sleep(time.Minute)
				f.requireStats(t, 4, 4)
				for _, c := range all {
					c.Release()
				}
				f.requireStats(t, 4, 0)
				time.Sleep(3 * sweepInterval)
				f.requireStats(t, left, 0)
			})
		})
	}
}

func TestConnectionsBeyondALowerLimitGo(t *testing.T) {
	run(t, by(ClusterOptions{Connections: 4, Idle: -1, StreamsPerConnection: 1}), &fakeBackend{}, func(t *testing.T, f *fixture) {
		for range 4 {
			f.acquire(t)
		}
		f.Configure("c", ClusterOptions{Connections: 1, Idle: -1, StreamsPerConnection: 1})
		time.Sleep(2 * sweepInterval)
		f.requireStats(t, 1, 4)
	})
}

// A line that has lost its connections gets its answer from one round of dials.
func TestALineSharesAFailure(t *testing.T) {
	run(t, by(ClusterOptions{Connections: 2, Idle: -1, StreamsPerConnection: 1}), &fakeBackend{}, func(t *testing.T, f *fixture) {
		f.acquire(t)
		f.acquire(t)
		var line []<-chan *Conn
		for range 50 {
			line = append(line, f.acquireLater(t))
		}
		require.EqualValues(t, 50, f.waiting(t))
		f.backend.fail(errRefused)
		f.backend.all()[0].lose()
		f.backend.all()[1].lose()
		for _, got := range line {
			require.Nil(t, <-got)
		}
		require.LessOrEqual(t, f.backend.dialed(), 2+2+1)
	})
}

// TestNothingIsLostWhateverHappens: rules change and instances come and go under
// calls that open, fail, wait and give up. In the end no stream is counted, no
// call waits, and every connection is either in use or closed.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(20) {
		b := &fakeBackend{limit: 3}
		run(t, upTo(2), b, func(t *testing.T, f *fixture) {
			var all sync.WaitGroup
			for caller := range uint64(12) {
				rnd := rand.New(rand.NewPCG(seed, caller))
				all.Go(func() {
					for range 100 {
						f.callAnything(t, rnd)
					}
				})
			}
			all.Go(func() { f.changeAnything(rand.New(rand.NewPCG(seed, 1000)), 200) })
			all.Wait()
			b.fail(nil)
			f.Configure("c", ClusterOptions{Connections: 1, Idle: 0})
			f.Keep("c", nil)
			f.mu.Lock()
			c := f.clusters["c"]
			f.mu.Unlock()
			require.Zero(t, c.waiting.Load())
			time.Sleep(4 * sweepInterval)
			require.Empty(t, f.Instances())
			require.Equal(t, Stats{}, f.Stats())
			for _, far := range b.all() {
				require.Error(t, far.closed())
			}
		})
	}
}

func (f *fixture) callAnything(t *testing.T, rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(20))*time.Millisecond)
	defer cancel()
	var got *Conn
	err := f.Open(ctx, "c", fmt.Sprint("instance ", rnd.IntN(3)), func(c *Conn) error {
		most := max(c.limit.Load(), 4) // a limit may have sunk under its streams
		assert.LessOrEqual(t, c.streams.Load(), most)
		if rnd.IntN(10) == 0 {
			return ErrNotTaken
		}
		got = c
		return nil
	})
	if err != nil {
		return
	}
	time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
	switch far := got.Transport().(*fakeConn); rnd.IntN(20) {
	case 0:
		far.goAway()
	case 1:
		far.lose()
	case 2:
		far.ev.Limit(int64(1 + rnd.IntN(4)))
	}
	got.Release()
}

func (f *fixture) changeAnything(rnd *rand.Rand, times int) {
	configs := []*tls.Config{nil, {}, {}}
	for range times {
		time.Sleep(time.Duration(rnd.IntN(40)) * time.Millisecond)
		switch rnd.IntN(5) {
		case 0:
			f.Keep("c", []string{"instance 0", fmt.Sprint("instance ", rnd.IntN(3))})
		case 1:
			f.backend.fail(errRefused)
		case 2:
			f.backend.fail(nil)
		case 3:
			f.Forget("c")
		default:
			f.Configure("c", ClusterOptions{
				Connections: rnd.IntN(4), StreamsPerConnection: rnd.IntN(4), Idle: rnd.IntN(3) - 1, Pending: rnd.IntN(20),
				TTL: time.Duration(rnd.IntN(2)) * 300 * time.Millisecond, TLS: configs[rnd.IntN(3)],
			})
		}
	}
}

// Calls that chose an instance before both TLS and the addresses changed find it
// encrypted as it was, also if the pool has let go of it meanwhile.
func TestNewTLSIsNotForInstancesThatAreGone(t *testing.T) {
	before, after := &tls.Config{}, &tls.Config{}
	o := ClusterOptions{Connections: 1, Idle: -1, TLS: before}
	run(t, by(o), new(fakeBackend), func(t *testing.T, f *fixture) {
		encryptedWith := func(address string) *tls.Config {
			c, err := f.Acquire(t.Context(), "c", address)
			require.NoError(t, err)
			defer c.Release()
			return c.Transport().(*fakeConn).peer.TLS
		}
		f.Keep("c", []string{"old", "both"})
		require.Same(t, before, encryptedWith("old"))
		f.Keep("c", []string{"both", "new"})
		o.TLS = after
		f.Configure("c", o)
		for range 2 {
			require.Same(t, before, encryptedWith("old"))
			require.Same(t, after, encryptedWith("both"))
			require.Same(t, after, encryptedWith("new"))
			f.Keep("c", []string{"both", "new"}) // as discovery does
			time.Sleep(2 * sweepInterval)        // of the bubble's time
			require.Nil(t, f.find("c", "old"))
		}
		f.Keep("c", []string{"old"})
		require.Same(t, after, encryptedWith("old"))

		f.Forget("c")
		time.Sleep(2 * sweepInterval)
		require.Nil(t, f.find("c", "old"))
		require.Same(t, after, encryptedWith("old"))
	})
}
