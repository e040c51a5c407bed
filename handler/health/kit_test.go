package health

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

// opener opens real calls. All of them have to have been aborted when the test ends.
func opener(t testing.TB) Opener {
	b := h2grpc.NewBackends(h2grpc.Options{
		Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
		StreamWindow: 64 << 10, ConnectionWindow: 256 << 10, MaxHeaderList: 64 << 10,
	})
	t.Cleanup(b.Close)
	var calls atomic.Int64
	t.Cleanup(func() { assert.Zero(t, calls.Load(), "calls that have not been aborted") })
	return func(ctx context.Context, address string, req *stream.Request) (stream.Outbound, error) {
		req.Authority = "backend.example"
		out, err := b.Open(ctx, "orders", address, req)
		if err != nil {
			return nil, err
		}
		calls.Add(1)
		return &counted{Outbound: out, calls: &calls}, nil
	}
}

type counted struct {
	stream.Outbound
	calls *atomic.Int64
}

func (c *counted) Abort() {
	c.calls.Add(-1)
	c.Outbound.Abort()
}

// often is a configuration that finds out soon.
func often() *conf.HealthCheck {
	return &conf.HealthCheck{
		Interval: conf.Duration(5 * time.Millisecond), Timeout: conf.Duration(safety), Unhealthy: 2, Healthy: 1,
	}
}

// check has a cluster of instances asked until the test ends.
func check(t testing.TB, cfg *conf.HealthCheck, open Opener, addresses ...string) (*cluster.Cluster, *logged) {
	log := newLogged()
	c := cluster.New("orders", &conf.Cluster{Instances: addresses}, cluster.Options{})
	checker := New(Options{Cluster: c, Config: cfg, Open: open, Logger: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(checker.Close)
	return c, log
}

func healthy(t testing.TB, c *cluster.Cluster, address string) bool {
	t.Helper()
	for _, s := range c.Snapshot() {
		if s.Address == address {
			return s.Healthy
		}
	}
	require.Fail(t, "no instance "+address)
	return false
}

// logged is what has been logged.
type logged struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{} // closed and replaced with each line
}

func newLogged() *logged { return &logged{wrote: make(chan struct{})} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wrote)
	l.wrote = make(chan struct{})
	return l.b.Write(p)
}

// forget forgets it.
func (l *logged) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// await waits for a line that contains all parts.
func (l *logged) await(t testing.TB, parts ...string) {
	t.Helper()
	late := time.After(safety)
	for {
		l.mu.Lock()
		text, wrote := l.b.String(), l.wrote
		l.mu.Unlock()
		if count(text, parts...) > 0 {
			return
		}
		select {
		case <-wrote:
		case <-late:
			require.Fail(t, "not logged", "%q in:\n%s", parts, text)
		}
	}
}

// count returns how many lines have been logged that contain all parts.
func (l *logged) count(parts ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return count(l.b.String(), parts...)
}

func count(text string, parts ...string) int {
	n := 0
	for line := range strings.Lines(text) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			n++
		}
	}
	return n
}
