package loopback_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

func TestFreeAddressesAreOnesOwn(t *testing.T) {
	seen := make(map[string]bool)
	for range 300 {
		address := loopback.Free(t)
		require.False(t, seen[address], address)
		seen[address] = true
		_, err := net.Dial("tcp", address)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	for address := range seen {
		ln, err := net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, ln.Close())
	}
}
