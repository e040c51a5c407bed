package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

const calls = 10_000

// requireShares checks that each instance got its share of the calls, within 10 %
// of that.
func requireShares(t *testing.T, want map[string]float64, got map[string]int) {
	t.Helper()
	var total float64
	for _, weight := range want {
		total += weight
	}
	for a := range got {
		require.Contains(t, want, a)
	}
	for a, weight := range want {
		require.InEpsilon(t, calls*weight/total, got[a], 0.1, "%s of %v", a, got)
	}
}

func TestCallsAreSpreadByWeight(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{
				Balance: policy, Instances: []string{"a", "b", "c", "none"}, Weights: map[string]int{"c": 2, "none": 0},
			})
			requireShares(t, map[string]float64{"a": 1, "b": 1, "c": 2}, shares(t, c, calls, up))
		})
	}
}

func TestCallsOfAnInstanceThatIsDownAreSpreadEvenly(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: policy})
			c.Update(equal(5))
			want := map[string]float64{address(0): 1, address(2): 1, address(4): 1}
			requireShares(t, want, shares(t, c, calls, down(address(1), address(3))))
		})
	}
}

func TestAnInstanceThatIsUpIsFoundAmongManyThatAreDown(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: policy})
			c.Update(equal(100))
			got := shares(t, c, 1000, func(a string) bool { return a != address(77) })
			require.Equal(t, map[string]int{address(77): 1000}, got)
		})
	}
}

// Neither an instance of great weight nor one of little has all its calls in a row.
func TestRoundRobinIsSmooth(t *testing.T) {
	c := newCluster(t, &conf.Cluster{})
	c.Update([]Instance{{"a", 50}, {"b", 25}, {"c", 25}})
	for range 100 {
		require.Equal(t, 1, shares(t, c, 2, up)["a"])
		require.Equal(t, map[string]int{"a": 2, "b": 1, "c": 1}, shares(t, c, 4, up))
	}
	c.Update(equal(7))
	for range 100 {
		require.Len(t, shares(t, c, 7, up), 7)
	}
}

func TestRoundRobinWithExtremeWeights(t *testing.T) {
	c := newCluster(t, &conf.Cluster{})
	c.Update([]Instance{{"a", 1000}, {"b", 1}, {"c", 1 << 40}, {"d", -3}})
	got := shares(t, c, 5000, up)
	require.Greater(t, got["c"], 4900)
	require.NotContains(t, got, "d")
}

func TestLeastActiveAvoidsBusyInstances(t *testing.T) {
	for _, n := range []int{3, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: conf.BalanceLeastActive})
			c.Update(equal(n))
			busy := endpoint(t, c, address(1))
			for range 1000 {
				busy.Begin()
			}
			for range 100 * (n - 1) { // all stay under way
				c.Next(new(Tries), up).Begin()
			}
			require.InDelta(t, 1000, busy.Active(), 5, "it may be drawn twice")
			for _, e := range c.Endpoints() {
				if e != busy {
					require.InDelta(t, 100, e.Active(), 20, e.Address())
				}
			}
		})
	}
}

func TestLeastActiveHeedsWeights(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Balance: conf.BalanceLeastActive})
	c.Update([]Instance{{"a", 1}, {"b", 3}})
	for range 400 {
		c.Next(new(Tries), up).Begin()
	}
	require.InDelta(t, 100, endpoint(t, c, "a").Active(), 1)
	require.InDelta(t, 300, endpoint(t, c, "b").Active(), 1)
}

// places returns which instance each of many keys goes to.
func places(c *Cluster, down func(string) bool) []string {
	var all []string
	for key := range uint64(calls) {
		all = append(all, c.Next(&Tries{Hash: key, Hashed: true}, down).Address())
	}
	return all
}

func TestHashMovesNoMoreKeysThanItMust(t *testing.T) {
	for _, n := range []int{3, 10, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: conf.BalanceHash})
			c.Update(equal(n))
			before := places(c, up)
			require.Equal(t, before, places(c, up), "the same each time")

			// Whether it is down, ill or gone, only its own keys move.
			gone := address(1)
			moved := requireMoves(t, before, places(c, down(gone)), gone)
			assert.LessOrEqual(t, moved, 1.5/float64(n))
			endpoint(t, c, gone).SetHealthy(false)
			require.InDelta(t, moved, requireMoves(t, before, places(c, up), gone), 0)
			endpoint(t, c, gone).SetHealthy(true)
			c.Update(append(equal(n)[2:], equal(1)...)) // in another order, too
			after := places(c, up)
			require.InDelta(t, moved, requireMoves(t, before, after, gone), 0)
			c.Update(equal(n))
			require.Equal(t, before, places(c, up))
		})
	}
}

// requireMoves checks that only keys of an instance move, all of them, and returns
// which part of all keys that is.
func requireMoves(t *testing.T, before, after []string, gone string) float64 {
	t.Helper()
	moved := 0
	for key := range before {
		if before[key] != after[key] {
			require.Equal(t, gone, before[key])
			moved++
		}
		require.NotEqual(t, gone, after[key])
	}
	return float64(moved) / float64(len(before))
}

func TestHashWithMoreWeightTakesKeysAndGivesNone(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Balance: conf.BalanceHash})
	c.Update(equal(3))
	before := places(c, up)
	heavy := equal(3)
	heavy[0].Weight = 2
	c.Update(heavy)
	for key, a := range places(c, up) {
		require.Contains(t, []string{before[key], address(0)}, a)
	}
}

func TestHashIsTheSameInEveryProxy(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Balance: conf.BalanceHash})
	c.Update(equal(5))
	// As of the first version: another function would move all keys while proxies
	// of both versions run.
	var want []string
	for _, i := range []int{2, 0, 1, 2, 1, 4, 4, 3} {
		want = append(want, address(i))
	}
	require.Equal(t, want, places(c, up)[:8])
}

func TestCallsWithoutAHashGoInTurn(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Balance: conf.BalanceHash})
	c.Update(equal(3))
	got := make(map[string]int)
	for range 300 {
		got[c.Next(new(Tries), up).Address()]++
	}
	require.Equal(t, map[string]int{address(0): 100, address(1): 100, address(2): 100}, got)
}

func TestEachInstanceIsTriedBeforeOneIsTriedAgain(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: policy})
			const n = 7
			c.Update(equal(n))
			tries := Tries{Hash: rand.Uint64(), Hashed: true}
			seen := make(map[string]bool)
			var last string
			for range n {
				last = c.Next(&tries, up).Address()
				seen[last] = true
			}
			require.Len(t, seen, n)
			for range 20 { // rather one that was tried than none, but not the last
				next := c.Next(&tries, up).Address()
				require.NotEqual(t, last, next)
				last = next
			}
		})
	}
}

func TestWhatIsLeastBadIsTakenRatherThanNone(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: policy})
			require.Nil(t, c.Next(new(Tries), up), "there is none")
			c.Update([]Instance{{"x", 0}})
			require.Nil(t, c.Next(new(Tries), up), "none that has a weight")
			c.Update(equal(1))
			require.Equal(t, address(0), c.Next(new(Tries), down(address(0))).Address(), "the only one")

			c.Update(equal(2))
			endpoint(t, c, address(0)).SetHealthy(false)
			require.Equal(t, address(0), c.Next(new(Tries), down(address(1))).Address(), "the other is down")

			c.Update(equal(3))
			tries := Tries{Hashed: true}
			require.NotEqual(t, address(0), c.Next(&tries, up).Address())
			require.Equal(t, address(0), c.Next(new(Tries), down(address(1), address(2))).Address(), "ill, but there")
			require.NotEmpty(t, c.Next(new(Tries), func(string) bool { return true }).Address(), "all are down")
		})
	}
}

func TestIfNoneIsHealthyAllAreUsedThatAreNotDown(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, &conf.Cluster{Balance: policy})
			c.Update(equal(4))
			for _, e := range c.Endpoints() {
				e.SetHealthy(false)
			}
			want := map[string]float64{address(0): 1, address(1): 1, address(3): 1}
			requireShares(t, want, shares(t, c, calls, down(address(2))))
			endpoint(t, c, address(3)).SetHealthy(true)
			require.Equal(t, map[string]int{address(3): 100}, shares(t, c, 100, down(address(2))))
		})
	}
}

func TestACallAllocatesNothing(t *testing.T) {
	for _, policy := range policies {
		for _, n := range []int{3, 100} {
			t.Run(fmt.Sprintf("%s/%d", policy, n), func(t *testing.T) {
				c := newCluster(t, withEverything(policy))
				c.Update(equal(n))
				key := uint64(0)
				require.Zero(t, testing.AllocsPerRun(1000, func() { oneCall(c, &key) }))
			})
		}
	}
}

// withEverything is a configuration under which calls cost most.
func withEverything(policy string) *conf.Cluster {
	return &conf.Cluster{
		Balance: policy, Limits: conf.ClusterLimits{Calls: 1 << 20},
		Health: &conf.Health{Eject: &conf.Eject{
			Consecutive: 5, FailurePercent: 50, MinCalls: 20, Interval: conf.Duration(1e10), For: conf.Duration(3e10),
		}},
	}
}

func oneCall(c *Cluster, key *uint64) {
	*key++
	if c.Enter() != nil {
		return
	}
	tries := Tries{Hash: *key, Hashed: true}
	e := c.Next(&tries, up)
	e.Begin()
	e.End(Succeeded)
	c.Leave()
}

func BenchmarkNext(b *testing.B) {
	for _, policy := range policies {
		for _, n := range []int{3, 100} {
			c := New("orders", &conf.Cluster{Balance: policy}, Options{})
			c.Update(equal(n))
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				key := uint64(0)
				for b.Loop() {
					oneCall(c, &key)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					key := rand.Uint64()
					for pb.Next() {
						oneCall(c, &key)
					}
				})
			})
		}
	}
}
