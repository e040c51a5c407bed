package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A director that takes addresses from its clients does not fill the memory.
func TestPoolForgetsAddresses(t *testing.T) {
	p := NewPool(PoolOptions{IdleTimeout: time.Minute})
	defer p.Shutdown(context.Background())
	busy, old, recent := p.enter("busy:1"), p.enter("old:1"), p.enter("recent:1")
	p.leave(old)
	p.leave(recent)
	old.used = time.Now().Add(-2 * time.Minute)
	busy.used = old.used
	p.leave(p.enter("new:1"))
	require.NotContains(t, p.addresses, "old:1")
	require.Len(t, p.addresses, 3)
	require.Same(t, recent, p.enter("recent:1"))
	require.Same(t, busy, p.enter("busy:1"))
}
