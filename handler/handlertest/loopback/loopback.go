// Package loopback gives tests addresses of their own, and runs servers of grpc-go.
package loopback

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// Ports of Free are below those that systems give to whoever asks for any.
const (
	firstPort = 20_000
	lastPort  = 32_000
)

// Free returns an address at which nobody listens, nor begins to before the test has
// ended but those who were told it. (A port that was listened on and closed is soon
// given to somebody else: a server of the same test, of another one, of another
// process.)
func Free(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		// The port's UDP side, which no test uses, says whose it is.
		held, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			require.NoError(t, held.Close())
			continue
		}
		require.NoError(t, ln.Close())
		t.Cleanup(func() { require.NoError(t, held.Close()) })
		return address
	}
	require.FailNow(t, "no port is free")
	return ""
}

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
