package conf

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsOfHTTP(t *testing.T) {
	c, err := Parse("edge.yaml", corpus(t, "edge_defaults.good.yaml")["edge_defaults.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, &HTTP{
		Listeners: []HTTPListener{{Address: "127.0.0.1:8080"}},
		Gateway: &Gateway{
			Schemas: []string{"echo"}, OpenAPI: "/openapi.json", DefaultPost: true,
			Envelope:  &Envelope{Status: EnvelopeMapped},
			BodyLimit: 4 << 20,
			WebSocket: WebSocket{MessageLimit: 4 << 20, Ping: Duration(30 * time.Second)},
			Keepalive: Duration(15 * time.Second),
		},
		Functions: &Functions{
			Prefix: "/function/", Timeout: Duration(10 * time.Second),
			Routes: map[string]*Function{"a": {URL: "http://a"}},
		},
	}, c.HTTP)
}

func TestDefaultsOfWhatTheProxyTells(t *testing.T) {
	c, err := Parse("edge.yaml", corpus(t, "edge_defaults.good.yaml")["edge_defaults.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, &AccessLog{
		Output: OutputStderr, Format: "json", SamplePercent: 100, Errors: true,
		Redact: []string{"authorization", "cookie", "proxy-authorization", "x-api-key"}, Buffer: 4096,
	}, c.AccessLog)
	require.Equal(t, &Tracing{
		OTLP:          OTLP{Endpoint: "http://127.0.0.1:4317", Protocol: OTLPGRPC, Timeout: Duration(10 * time.Second)},
		SamplePercent: 1,
		Propagate:     []string{PropagateTraceContext, PropagateBaggage},
		ServiceName:   "kitexproxy",
		Queue:         2048,
	}, c.Tracing)
	require.Equal(t, &Admin{Address: "127.0.0.1:9901"}, c.Admin)
	require.Equal(t, 1000, c.Metrics.Methods)
	require.IsIncreasing(t, c.Metrics.Buckets)
}

func TestURLProblem(t *testing.T) {
	for text, want := range map[string]string{
		"http://a":               "",
		"https://a:1/":           "",
		"https://[::1]:1/a%2fb":  "",
		"http://a/..%2f":         `has "." or ".." in its path`,
		"http://a/b%2f%2e%2e":    `has "." or ".." in its path`,
		`http://a/b%5c..%5cc`:    `has "." or ".." in its path`,
		"http://a/%0a":           `has "." or ".." in its path`,
		"http:a":                 "has no host",
		"http://":                "has no host",
		"http://:80":             "has no host",
		"http://a?":              "has more than a host, a port and a path",
		"http://a_b.c:0x50":      "is not a URL",
		"http://127.0.0.256":     "has a host that is neither a name nor an IP address",
		"unix:///run/a.sock":     "does not begin with http:// or https://",
		"//a/b":                  "does not begin with http:// or https://",
		"http://a/%zz":           "is not a URL",
		"http://unix:80/a":       "",
		"http://::1/a":           "is not a URL",
		"http://[a]/b":           "is not a URL",
		"http://a:0":             "has a port that is not a number from 1 to 65535",
		"http://a:":              "",
		"http://[fe80::1%25a]/b": "",
	} {
		u, err := url.Parse(text)
		require.Equal(t, want, urlProblem(u, err), text)
	}
}

func TestPlainPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/a": true, "/a/": true, "/a/b.c": true, "/a..b": true,
		"": false, "a": false, "//": false, "/a//b": false, "/./a": false, "/a/..": false, "/a b": false,
		"/a?b": false, "/a#b": false, "/%2e": false, "/a\\b": false, "/{a}": false, "/a\n": false,
	} {
		require.Equal(t, want, plainPath.MatchString(path) && !hasDots(path), path)
	}
}

// The listeners of HTTP and the admin address are somebody else's, too.
func TestValidateRoutingLeavesAllListenersOut(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	c.HTTP = &HTTP{Functions: &Functions{
		Prefix: "/f/", Timeout: 1, Routes: map[string]*Function{"a": {Cluster: "default"}},
	}}
	c.Admin = &Admin{}
	require.NoError(t, c.ValidateRouting())
	require.EqualError(t, c.Validate(), `http.listeners: at least one is needed; add one, such as "- address: 127.0.0.1:8080"
admin.address: must not be empty; write "host:port", such as "127.0.0.1:9901", or "unix:///path/to/socket"`)
}
