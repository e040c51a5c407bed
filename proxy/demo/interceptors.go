package demo

import (
	"fmt"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// apiKey is the key of the demo's client, whose hash is in keysInterceptor: printf %s KEY |
// sha256sum.
const apiKey = "a-key-for-the-demo"

// The settings that the calls of the part with interceptors come by, as the transcript
// shows them.
const (
	keysInterceptor = `interceptors:
  clients:
    api_keys:
      keys:
        - name: alice
          sha256: a6c51b8dcb3660eeea675edf2f4491ff75a9585fef256553d7a939f7eb83e7b4
`
	accessLogSettings = `access_log:
  metadata: [demo-color]
`
)

// interceptorConfig returns a configuration with an interceptor and an access log that is
// written to a file.
func interceptorConfig(backend, file string) (*conf.Config, error) {
	log := strings.TrimSuffix(accessLogSettings, "\n")
	return conf.Parse("the demo's interceptors", fmt.Appendf(nil, `
listeners: [{address: "127.0.0.1:0", interceptors: [clients]}]
clusters: {demo: {instances: [%q]}}
default: {cluster: demo}
%s%s
  output: %q
`, backend, keysInterceptor, log, file))
}
