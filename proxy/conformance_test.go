package proxy_test

import (
	"context"
	"testing"

	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // for the Kitex backends
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// The ways through the proxy, each of which is a target of the conformance
// suites.
var ways = map[string]struct {
	change func(*conf.Config)
	opts   handlertest.Options
}{
	"native": {change: func(c *conf.Config) { c.Transport = conf.TransportNative }},
	// At debug level calls go through the relay that can tell about each.
	"native, debug": {change: func(c *conf.Config) { c.Transport, c.Log.Level = conf.TransportNative, "debug" }},
	"kitex":         {change: func(c *conf.Config) { c.Transport = conf.TransportKitex }, opts: notOnKitex},
}

// frameMode returns the target that puts a proxy of its own before each backend.
func frameMode(change func(*conf.Config)) func(t *testing.T, backend string) string {
	return func(t *testing.T, backend string) string {
		cfg, err := conf.Simple("127.0.0.1:0", backend)
		require.NoError(t, err)
		change(cfg)
		return startConformant(t, cfg)
	}
}

func startConformant(t *testing.T, cfg *conf.Config) string {
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

// notOnKitex are the claims that frame mode on Kitex's own transport cannot
// keep. The README lists them under Limits.
var notOnKitex = handlertest.Options{Skip: map[string]string{
	"Encoding/ResponseAcceptEncoding":     "Kitex's client transport does not hand over a backend's grpc-accept-encoding",
	"Metadata/UserAgent":                  "Kitex's client transport sends a user-agent of its own, always",
	"Metadata/NothingExtraInPlainRequest": "Kitex's client transport sends a user-agent even if the client has none",
	"Status/DetailsBytes":                 "Kitex decodes grpc-status-details-bin and encodes it again, in its own order",
	"Status/DetailsMismatch":              "Kitex takes code and message from grpc-status-details-bin where there is one",
	"Status/DetailsOpaque":                "Kitex fails a call whose grpc-status-details-bin is not a google.rpc.Status",
}}

func TestConformance(t *testing.T) {
	quietKitex()
	for name, way := range ways {
		target := frameMode(way.change)
		t.Run(name, func(t *testing.T) {
			t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, target, way.opts) })
			t.Run("Kitex", func(t *testing.T) { handlertest.SuiteKitex(t, target, handlertest.Options{}) })
			t.Run("Interop", func(t *testing.T) { handlertest.Interop(t, target, handlertest.Options{}) })
		})
	}
}
