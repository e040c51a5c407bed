package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policies are the values of conf.Cluster.Balance.
var policies = []string{conf.BalanceRoundRobin, conf.BalanceRandom, conf.BalanceLeastActive, conf.BalanceHash}

// newCluster returns a cluster that logs to the test.
func newCluster(t testing.TB, cfg *conf.Cluster) *Cluster {
	return New("orders", cfg, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// equal returns n instances of the same weight.
func equal(n int) []Instance {
	var all []Instance
	for i := range n {
		all = append(all, Instance{Address: address(i), Weight: 1})
	}
	return all
}

func address(i int) string { return fmt.Sprintf("10.0.0.%d:9000", i) }

// up reports no instance down.
func up(string) bool { return false }

// down reports some instances down.
func down(addresses ...string) func(string) bool {
	return func(address string) bool {
		for _, a := range addresses {
			if a == address {
				return true
			}
		}
		return false
	}
}

// shares returns how many of n calls each instance gets, one at a time.
func shares(t testing.TB, c *Cluster, n int, down func(string) bool) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for i := range n {
		e := c.Next(&Tries{Hash: mix(uint64(i)), Hashed: true}, down)
		require.NotNil(t, e)
		e.Begin()
		got[e.Address()]++
		e.End(Succeeded)
	}
	return got
}

// endpoint returns the instance with that address.
func endpoint(t testing.TB, c *Cluster, address string) *Endpoint {
	t.Helper()
	for _, e := range c.Endpoints() {
		if e.Address() == address {
			return e
		}
	}
	require.Fail(t, "no instance "+address)
	return nil
}

// end has n calls of an instance end, one after the other.
func end(e *Endpoint, n int, r Result) {
	for range n {
		e.Begin()
		e.End(r)
	}
}

// status returns what Snapshot says of an instance.
func status(t testing.TB, c *Cluster, address string) Status {
	t.Helper()
	for _, s := range c.Snapshot() {
		if s.Address == address {
			return s
		}
	}
	require.Fail(t, "no instance "+address)
	return Status{}
}

// ejecting is a cluster with n instances that are ejected by cfg, with defaults.
func ejecting(t testing.TB, n int, cfg conf.Eject) (*Cluster, *logged) {
	if cfg.MinCalls == 0 {
		cfg.MinCalls = 20
	}
	if cfg.Interval == 0 {
		cfg.Interval = conf.Duration(10 * time.Second)
	}
	if cfg.For == 0 {
		cfg.For = conf.Duration(30 * time.Second)
	}
	return logging(t, &conf.Cluster{Health: &conf.Health{Eject: &cfg}}, n)
}

// logging is a cluster with n instances and what it logs.
func logging(t testing.TB, cfg *conf.Cluster, n int) (*Cluster, *logged) {
	log := new(logged)
	c := New("orders", cfg, Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))})
	c.Update(equal(n))
	return c, log
}

// logged is what has been logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns it, and forgets it.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}
