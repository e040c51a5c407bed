package proxy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// A program may find that it does not need a proxy after it has made it.
func TestProxyThatIsNotRunHasNothingRunning(t *testing.T) {
	dir := t.TempDir()
	keys, log := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "access.log")
	require.NoError(t, os.WriteFile(keys, []byte("- {name: alice, sha256: "+hashOf("alice's key")+"}\n"), 0o600))
	cfg, err := conf.Parse("proxy.yaml", []byte(`
listeners: [{address: '127.0.0.1:0', interceptors: [keys, tokens]}]
clusters:
  main: {instances: ['127.0.0.1:1'], health: {check: {}}}
  found: {discovery: {dns: 'localhost:1'}}
default: {cluster: main}
interceptors:
  keys: {api_keys: {file: '`+keys+`'}}
  tokens: {jwt: {issuer: any, jwks: {url: 'http://127.0.0.1:1/keys'}}}
access_log: {output: '`+log+`'}
tracing: {otlp: {endpoint: 'http://127.0.0.1:1'}}
admin: {address: '127.0.0.1:0'}
`+jsonGateway+`  functions: {routes: {f: {cluster: found}}}
schemas: {echo: {reflection: {cluster: main}}}
`))
	require.NoError(t, err)
	for _, transport := range []string{conf.TransportNative, conf.TransportKitex} {
		before := goleak.IgnoreCurrent()
		cfg.Transport = transport
		_, err = proxy.New(cfg, proxy.WithLogger(faultLogger()))
		require.NoError(t, err)
		goleak.VerifyNone(t, before)
		require.NoFileExists(t, log)
	}
}
