package kitexgrpc

import (
	"log/slog"
	"testing"

	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/handler/upstream/upstreamtest"
)

// That a backend refuses the proxy's own certificate is not always said: Kitex's writer
// may find the connection closed before its reader gets to the alert.
func TestBackendsOverTLS(t *testing.T) {
	upstreamtest.TLS(t, "the backend ", func(t *testing.T) upstreamtest.Backends {
		b := NewBackends(Options{
			Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
			StreamWindow: 1 << 20, ConnectionWindow: 4 << 20, MaxHeaderList: 64 << 10,
		})
		t.Cleanup(b.Close)
		return b
	})
}
