package upstream

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

func TestDialNet(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nc, err := DialNet(t.Context(), Peer{Address: ln.Addr().String()})
	require.NoError(t, err)
	require.NoError(t, nc.Close())
	require.NoError(t, ln.Close())

	path := t.TempDir() + "/s.sock"
	ln, err = net.Listen("unix", path)
	require.NoError(t, err)
	nc, err = DialNet(t.Context(), Peer{Address: "unix://" + path})
	require.NoError(t, err)
	require.NoError(t, nc.Close())
	require.NoError(t, ln.Close())
}

// What went wrong is said once, and where is the caller's to say.
func TestDialErrors(t *testing.T) {
	nobody := loopback.Free(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context
		address string
		want    string
	}{
		"refused":        {t.Context(), nobody, "connect: connection refused"},
		"no such socket": {t.Context(), "unix:///nowhere.sock", "connect: no such file or directory"},
		"no port":        {t.Context(), "127.0.0.1", "connect: address 127.0.0.1: missing port in address"},
		"given up":       {over, nobody, "connect: operation was canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DialNet(test.ctx, Peer{Address: test.address})
			require.EqualError(t, err, test.want)
		})
	}
}
