package proxy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// frameMode is the target of the conformance suites: a proxy of its own before
// each backend.
func frameMode(t *testing.T, backend string) string {
	cfg, err := conf.Simple("127.0.0.1:0", backend)
	require.NoError(t, err)
	p, err := proxy.New(cfg, proxy.WithLogger(faultLogger()))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ran)
	})
	select {
	case <-p.Ready():
	case err := <-ran:
		ran <- err
		require.NoError(t, err, "the proxy did not start")
	}
	return p.Addrs()[0].String()
}

func TestConformance(t *testing.T) {
	opts := handlertest.Options{}
	t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, frameMode, opts) })
	t.Run("Kitex", func(t *testing.T) { handlertest.SuiteKitex(t, frameMode, opts) })
	t.Run("Interop", func(t *testing.T) { handlertest.Interop(t, frameMode, opts) })
}
