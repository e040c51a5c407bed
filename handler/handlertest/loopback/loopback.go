// Package loopback runs servers of grpc-go for tests.
package loopback

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// Serve has a server of grpc-go run on loopback until the test ends, and returns its
// address.
func Serve(t testing.TB, register func(s *grpc.Server), opts ...grpc.ServerOption) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(opts...)
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with the test
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-served)
	})
	return ln.Addr().String()
}
