package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLineLimit(t *testing.T) {
	var l lineLimit
	now := time.Now()
	for range linesPerSecond {
		ok, leftOut := l.allow(now)
		require.True(t, ok)
		require.Zero(t, leftOut)
	}
	for range 7 {
		ok, _ := l.allow(now.Add(time.Second - 1))
		require.False(t, ok)
	}
	ok, leftOut := l.allow(now.Add(time.Second))
	require.True(t, ok, "a new second")
	require.Equal(t, 7, leftOut)
	ok, leftOut = l.allow(now.Add(time.Second))
	require.True(t, ok)
	require.Zero(t, leftOut, "told once")
}
