package h2grpc

import (
	"log/slog"
	"testing"

	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/handler/upstream/upstreamtest"
)

func TestBackendsOverTLS(t *testing.T) {
	upstreamtest.TLS(t, "refused the connection", func(t *testing.T) upstreamtest.Backends {
		b := NewBackends(Options{
			Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
			StreamWindow: window, ConnectionWindow: 4 * window, MaxHeaderList: 64 << 10,
		})
		t.Cleanup(b.Close)
		return b
	})
}
