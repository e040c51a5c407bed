package cluster

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func addresses(c *Cluster) []string {
	var all []string
	for _, e := range c.Endpoints() {
		all = append(all, e.Address())
	}
	return all
}

func TestInstancesAreThoseThatAreListed(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Instances: []string{"b", "a", "b"}, Weights: map[string]int{"a": 7}})
	require.Equal(t, "orders", c.Name())
	require.Equal(t, []string{"b", "a"}, addresses(c))
	require.Equal(t, 7, status(t, c, "a").Weight)
	require.Equal(t, 2, status(t, c, "b").Weight, "it is listed twice")
}

func TestWhatIsKnownOfAnInstanceOutlastsUpdate(t *testing.T) {
	c := newCluster(t, &conf.Cluster{})
	c.Update(equal(3))
	kept := endpoint(t, c, address(1))
	kept.Begin()
	kept.SetHealthy(false)
	c.Update([]Instance{{address(8), 1}, {address(1), 5}})
	require.Same(t, kept, endpoint(t, c, address(1)))
	require.Equal(t, Status{Address: address(1), Weight: 5, Active: 1}, status(t, c, address(1)))
	require.Equal(t, []string{address(8), address(1)}, addresses(c))
	kept.End(Unknown)
	require.Zero(t, kept.Active())

	c.Update(nil)
	require.Empty(t, c.Endpoints())
	kept.SetHealthy(true) // comes too late
	c.Update(equal(2))
	require.NotSame(t, kept, endpoint(t, c, address(1)))
	require.True(t, status(t, c, address(1)).Healthy, "it is a new one")
}

func TestChangedTellsWhenThereAreOtherInstances(t *testing.T) {
	c := newCluster(t, &conf.Cluster{})
	isChanged := func(changed <-chan struct{}) bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	changed := c.Changed()
	c.Update(equal(2))
	require.True(t, isChanged(changed))
	changed = c.Changed()
	set := c.set.Load()
	c.Update(equal(2))
	require.Same(t, set, c.set.Load())
	endpoint(t, c, address(0)).SetHealthy(false)
	require.False(t, isChanged(changed), "they are the same")
	c.Update(equal(1))
	require.True(t, isChanged(changed))
}

func TestCallsAreLimited(t *testing.T) {
	c := newCluster(t, &conf.Cluster{Limits: conf.ClusterLimits{Calls: 2}})
	require.NoError(t, c.Enter())
	require.NoError(t, c.Enter())
	require.ErrorIs(t, c.Enter(), ErrTooManyCalls)
	require.EqualValues(t, 2, c.Calls())
	c.Leave()
	require.NoError(t, c.Enter())
	require.ErrorIs(t, c.Enter(), ErrTooManyCalls)
}

func TestCallsAreNotLimitedByDefault(t *testing.T) {
	c := newCluster(t, &conf.Cluster{})
	for range 1000 {
		require.NoError(t, c.Enter())
	}
}

// Calls, discovery, health checks and figures meet; the race detector looks on.
func TestEverythingAtOnce(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			cfg := withEverything(policy)
			cfg.Health.SlowStart = conf.Duration(time.Millisecond)
			cfg.Health.Eject.For = conf.Duration(time.Millisecond)
			cfg.Health.Eject.MaxPercent = 60
			c, _ := logging(t, cfg, 5)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { somebodyCalls(t, c) })
			}
			wg.Go(func() {
				for i := range 200 {
					c.Update(equal(2 + i%5))
				}
			})
			wg.Go(func() {
				for range 500 {
					all := c.Endpoints()
					all[rand.IntN(len(all))].SetHealthy(rand.IntN(2) == 0)
					c.Snapshot()
				}
			})
			wg.Wait()
			require.Zero(t, c.Calls())
			for _, s := range c.Snapshot() {
				assert.Zero(t, s.Active)
			}
		})
	}
}

func somebodyCalls(t *testing.T, c *Cluster) {
	for i := range 1000 {
		if !assert.NoError(t, c.Enter()) {
			return
		}
		tries := Tries{Hash: uint64(i), Hashed: i%2 == 0}
		for range 1 + i%6 {
			e := c.Next(&tries, func(string) bool { return rand.IntN(4) == 0 })
			if !assert.NotNil(t, e) {
				return
			}
			e.Begin()
			e.End(Result(rand.IntN(3)))
		}
		c.Leave()
	}
}
