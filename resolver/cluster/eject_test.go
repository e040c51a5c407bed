package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

// gets reports whether calls go to an instance.
func gets(t *testing.T, c *Cluster, address string) bool {
	t.Helper()
	return shares(t, c, 200, up)[address] > 0
}

func TestFailuresInARowTakeAnInstanceOutForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := ejecting(t, 3, conf.Eject{Consecutive: 3, MaxPercent: 100})
		bad := endpoint(t, c, address(1))
		end(bad, 2, Failed)
		end(bad, 1, Succeeded)
		end(bad, 2, Failed)
		end(bad, 5, Unknown)
		require.True(t, gets(t, c, bad.Address()), "not three in a row, as calls succeeded meanwhile")
		require.Empty(t, log.take())

		end(bad, 3, Failed)
		require.False(t, gets(t, c, bad.Address()))
		require.Equal(t, `level=WARN msg="a backend instance is taken out, as its calls fail" cluster=orders `+
			`instance=10.0.0.1:9000 reason="failures in a row: 3" for=30s`+"\n", log.take())
		require.Equal(t, Status{
			Address: bad.Address(), Weight: 1, Healthy: true, Ejected: true, Reason: "failures in a row: 3",
			EjectedUntil: time.Now().Add(30 * time.Second), Ejections: 1,
		}, status(t, c, bad.Address()))

		end(bad, 100, Failed) // those that were under way
		time.Sleep(30*time.Second - time.Nanosecond)
		require.False(t, gets(t, c, bad.Address()))
		require.Empty(t, log.take())
		time.Sleep(time.Nanosecond)
		require.False(t, status(t, c, bad.Address()).Ejected)
		end(bad, 2, Failed)
		require.True(t, gets(t, c, bad.Address()), "with a clean sheet")
		require.Equal(t, `level=INFO msg="a backend instance is back" cluster=orders instance=10.0.0.1:9000 `+
			`was_out_for="failures in a row: 3"`+"\n", log.take())
		require.Equal(t, Status{Address: bad.Address(), Weight: 1, Share: 1, Healthy: true, Ejections: 1}, status(t, c, bad.Address()))
	})
}

func TestAShareOfFailuresTakesAnInstanceOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := ejecting(t, 3, conf.Eject{FailurePercent: 50, MinCalls: 10})
		bad := endpoint(t, c, address(1))
		mixed := func(failed, succeeded int) {
			end(bad, succeeded, Succeeded)
			end(bad, failed, Failed)
		}
		mixed(9, 0)
		require.False(t, status(t, c, bad.Address()).Ejected, "too few calls")
		time.Sleep(11 * time.Second)
		mixed(9, 0)
		require.False(t, status(t, c, bad.Address()).Ejected, "the others are too long ago")
		time.Sleep(11 * time.Second)
		mixed(9, 10)
		require.False(t, status(t, c, bad.Address()).Ejected, "less than half")
		time.Sleep(5 * time.Second)
		mixed(1, 0)
		require.Equal(t, "failures within 10s: 10 of 20 calls", status(t, c, bad.Address()).Reason)
		require.Contains(t, log.take(), "reason=\"failures within 10s: 10 of 20 calls\" for=30s")

		time.Sleep(30 * time.Second)
		mixed(1, 0)
		require.False(t, status(t, c, bad.Address()).Ejected, "with a clean sheet")
	})
}

func TestAnInstanceThatFailsAgainIsOutLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := ejecting(t, 2, conf.Eject{Consecutive: 1})
		bad := endpoint(t, c, address(0))
		lasts := func() time.Duration {
			end(bad, 1, Failed)
			s := status(t, c, bad.Address())
			require.True(t, s.Ejected)
			return time.Until(s.EjectedUntil)
		}
		back := func(d time.Duration) {
			time.Sleep(d)
			require.False(t, status(t, c, bad.Address()).Ejected)
		}
		for n := range time.Duration(12) {
			d := lasts()
			require.Equal(t, min(n+1, 10)*30*time.Second, d)
			back(d)
		}
		back(3*30*time.Second + time.Second) // three times For without a failure
		require.Equal(t, 8*30*time.Second, lasts())
		back(8 * 30 * time.Second)
		back(time.Hour)
		require.Equal(t, 30*time.Second, lasts())
	})
}

func TestNoMoreInstancesAreOutThanMayBe(t *testing.T) {
	tests := []struct {
		name               string
		instances, percent int
		out                int
	}{
		{"the only one never is", 1, 100, 0},
		{"one always may be", 2, 0, 1},
		{"one of three by 10 percent", 3, 10, 1},
		{"half", 10, 50, 5},
		{"rounded down", 10, 39, 3},
		{"all", 4, 100, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _ := ejecting(t, test.instances, conf.Eject{Consecutive: 1, MaxPercent: test.percent})
			c.Update(append([]Instance{{"without weight", 0}}, equal(test.instances)...))
			for _, e := range c.Endpoints() {
				end(e, 3, Failed)
			}
			out := 0
			for _, s := range c.Snapshot() {
				if s.Ejected {
					out++
				}
			}
			require.Equal(t, test.out, out)
		})
	}
}

func TestAnotherInstanceMayBeOutWhenOneIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := ejecting(t, 3, conf.Eject{Consecutive: 2})
		one, other := endpoint(t, c, address(0)), endpoint(t, c, address(1))
		end(one, 2, Failed)
		end(other, 10, Failed)
		require.False(t, status(t, c, other.Address()).Ejected)
		time.Sleep(30 * time.Second)
		end(other, 1, Failed)
		require.False(t, status(t, c, one.Address()).Ejected)
		require.True(t, status(t, c, other.Address()).Ejected)
	})
}

func TestInstancesAreBackOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := ejecting(t, 4, conf.Eject{Consecutive: 1, MaxPercent: 100})
		for i := range 3 {
			end(endpoint(t, c, address(i)), 1, Failed)
			time.Sleep(time.Second)
		}
		time.Sleep(27 * time.Second)
		log.take()
		for i := range 3 {
			require.True(t, gets(t, c, address(i)))
			require.Contains(t, log.take(), "instance="+address(i))
			require.Len(t, shares(t, c, 200, up), i+2)
			time.Sleep(time.Second)
		}
	})
}

func TestCallsThatFailCountForNothingUnlessConfigured(t *testing.T) {
	c, log := logging(t, new(conf.Cluster), 3)
	end(endpoint(t, c, address(0)), 1000, Failed)
	require.True(t, gets(t, c, address(0)))
	require.Empty(t, log.take())
}

func TestAnInstanceThatIsGoneIsNotEjected(t *testing.T) {
	c, log := ejecting(t, 3, conf.Eject{Consecutive: 1})
	gone := endpoint(t, c, address(2))
	c.Update(equal(2))
	end(gone, 3, Failed)
	require.Empty(t, log.take())
	end(endpoint(t, c, address(0)), 1, Failed)
	require.True(t, status(t, c, address(0)).Ejected, "there is room for it")
}

func TestAnEjectedInstanceStaysSoThroughUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := ejecting(t, 3, conf.Eject{Consecutive: 1})
		end(endpoint(t, c, address(2)), 1, Failed)
		c.Update([]Instance{{address(2), 0}, {address(0), 1}, {address(1), 1}})
		require.True(t, status(t, c, address(2)).Ejected)
		log.take()
		time.Sleep(time.Minute)
		require.False(t, status(t, c, address(2)).Ejected, "also without a weight")
		require.Contains(t, log.take(), "is back")
	})
}

// share returns which part of many calls an instance gets.
func share(t *testing.T, c *Cluster, address string) float64 {
	t.Helper()
	return float64(shares(t, c, calls, up)[address]) / calls
}

func TestANewInstanceStartsSlowly(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, &conf.Cluster{
					Balance: policy, Health: &conf.Health{SlowStart: conf.Duration(90 * time.Second)},
				})
				c.Update(equal(2))
				require.InDelta(t, 0.5, share(t, c, address(1)), 0.03, "all are new")
				c.Update(equal(3))
				for _, grown := range []float64{0.1, 0.4, 0.7} {
					require.InDelta(t, grown/(2+grown), share(t, c, address(2)), 0.03, "%v", grown)
					require.InDelta(t, grown, status(t, c, address(2)).Share, 1e-6)
					time.Sleep(30 * time.Second)
				}
				require.InDelta(t, 1./3, share(t, c, address(2)), 0.03)
				require.True(t, c.set.Load().due.IsZero(), "calls need not ask for the time any more")
			})
		})
	}
}

func TestAnInstanceThatIsBackStartsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := logging(t, &conf.Cluster{Health: &conf.Health{
			SlowStart: conf.Duration(time.Minute),
			Eject:     &conf.Eject{Consecutive: 1, MinCalls: 20, Interval: 1e10, For: conf.Duration(time.Second)},
		}}, 2)
		end(endpoint(t, c, address(0)), 1, Failed)
		time.Sleep(time.Second)
		require.InDelta(t, 0.1/1.1, share(t, c, address(0)), 0.03)
		time.Sleep(time.Minute)
		require.InDelta(t, 0.5, share(t, c, address(0)), 0.03)

		e := endpoint(t, c, address(1))
		e.SetHealthy(false)
		require.Zero(t, share(t, c, address(1)))
		time.Sleep(time.Minute)
		e.SetHealthy(true)
		require.InDelta(t, 0.1/1.1, share(t, c, address(1)), 0.03)
		time.Sleep(30 * time.Second)
		e.SetHealthy(true) // nothing new
		time.Sleep(30 * time.Second)
		require.InDelta(t, 0.5, share(t, c, address(1)), 0.03)
	})
}

func TestInstancesThatAreAllNewDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, &conf.Cluster{Health: &conf.Health{SlowStart: conf.Duration(time.Minute)}})
		c.Update(equal(1))
		time.Sleep(time.Hour)
		c.Update(equal(4)[1:])
		for _, s := range c.Snapshot() {
			assert.InDelta(t, 1, s.Share, 0, s.Address)
		}
		time.Sleep(20 * time.Second)
		c.Update(equal(5)[1:])
		require.InDelta(t, 1, status(t, c, address(1)).Share, 0)
		require.InDelta(t, 0.25, status(t, c, address(4)).Share, 1e-6)
	})
}

// A cluster whose configuration lists its instances gets new ones by a reload alone.
func TestSlowStartsOutliveTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &conf.Cluster{Health: &conf.Health{SlowStart: conf.Duration(time.Minute)}}
		first := newCluster(t, slow)
		first.Update(equal(1))
		time.Sleep(time.Hour)
		second := newCluster(t, slow)
		second.Update(equal(2))
		second.Inherit(first)
		require.InDelta(t, 1, status(t, second, address(0)).Share, 0)
		require.InDelta(t, 0.1, status(t, second, address(1)).Share, 1e-6)
		time.Sleep(20 * time.Second)
		third := newCluster(t, slow)
		third.Update(equal(3))
		third.Inherit(second)
		for i, want := range []float64{1, 0.4, 0.1} {
			require.InDelta(t, want, status(t, third, address(i)).Share, 1e-6)
		}
		time.Sleep(time.Minute)
		require.InDelta(t, 1, status(t, third, address(2)).Share, 0)
		require.True(t, third.set.Load().due.IsZero())

		fast := newCluster(t, new(conf.Cluster))
		fast.Update(equal(4))
		fast.Inherit(third)
		require.InDelta(t, 1, status(t, fast, address(3)).Share, 0)
	})
}

func TestWindow(t *testing.T) {
	requireSum := func(t *testing.T, w *window, period uint64, calls, failed int64) {
		t.Helper()
		n, f := w.sum(period)
		require.Equal(t, []int64{calls, failed}, []int64{n, f})
	}
	t.Run("slides", func(t *testing.T) {
		const from = 1<<24 - 5 // so that the number of the period comes to be too long
		w := new(window)
		for i := range uint64(30) {
			w.add(from+i, true)
			w.add(from+i, false)
			n := int64(min(i+1, periods))
			requireSum(t, w, from+i, 2*n, n)
		}
		requireSum(t, w, from+35, 8, 4)
		requireSum(t, w, from+100, 0, 0)
	})
	t.Run("has more calls than fit", func(t *testing.T) {
		w := new(window)
		w.buckets[3].Store(pack(3, countMask/2, countMask))
		w.add(3, true)
		requireSum(t, w, 3, countMask/2+1, countMask/4+1)
	})
	t.Run("is cleared", func(t *testing.T) {
		w := new(window)
		w.add(0, true)
		w.clear()
		requireSum(t, w, 0, 0, 0)
	})
}
