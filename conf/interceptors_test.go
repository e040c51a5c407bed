package conf

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const linksYAML = `
listeners: [{address: 127.0.0.1:8888, interceptors: [ids, mine]}]
clusters: {a: {instances: ["127.0.0.1:9000"]}}
interceptors: {ids: {request_id: {}}}
default: {cluster: a, interceptors: [theirs]}
`

func TestInterceptorsOfTheProgramAreKnownIfItNamesThem(t *testing.T) {
	_, err := Parse("a.yaml", []byte(linksYAML))
	require.EqualError(t, err, `a.yaml:2:59: listeners[0].interceptors[1]: "mine" is not an interceptor; interceptors: ids
a.yaml:5:38: default.interceptors[0]: "theirs" is not an interceptor; interceptors: ids`)

	_, err = Parse("a.yaml", []byte(linksYAML), GoInterceptors("their"), GoInterceptors("mine"))
	require.EqualError(t, err, `a.yaml:5:38: default.interceptors[0]: "theirs" is not an interceptor; did you mean "their"? (interceptors: ids, mine, their)`)

	path := t.TempDir() + "/a.yaml"
	require.NoError(t, os.WriteFile(path, []byte(linksYAML), 0o600))
	c, err := Load(path, GoInterceptors("mine", "theirs"))
	require.NoError(t, err)
	require.NoError(t, c.Validate(), "the names stay known")

	_, err = Parse("a.yaml", []byte(linksYAML), GoInterceptors("mine", "theirs", "ids"))
	require.EqualError(t, err, `a.yaml:4:16: interceptors.ids: is also the name of an interceptor of the program, in Go; rename it`)
}

func TestWithGoInterceptorsLeavesTheConfigAlone(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	c.Default.Interceptors = []string{"mine"}
	with := c.WithGoInterceptors("mine")
	require.NoError(t, with.Validate())
	require.NoError(t, with.ValidateRouting())
	require.Empty(t, Diff(c, with))
	require.EqualError(t, c.ValidateRouting(),
		`default.interceptors[0]: "mine" is not an interceptor, as there are none; add it under interceptors, as conf/proxy.yaml does`)
}

func TestDefaultsOfInterceptors(t *testing.T) {
	c, err := Parse("edge.yaml", corpus(t, "edge_defaults.good.yaml")["edge_defaults.good.yaml"])
	require.NoError(t, err)
	require.Equal(t, map[string]*Interceptor{
		"keys": {APIKeys: &APIKeys{Header: "x-api-key", File: "keys.yaml", Remove: true}},
		"users": {JWT: &JWT{
			Header: "authorization", JWKS: JWKS{URL: "https://issuer.example.com", Refresh: Duration(5 * time.Minute)}, Issuer: IssuerAny,
			Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
			Identity:   "sub", Leeway: Duration(30 * time.Second),
		}},
		"ids":  {RequestID: &RequestID{Header: "x-request-id", Response: true}},
		"rate": {RateLimit: &RateLimit{Calls: 1, Per: Duration(time.Second), Key: LimitKeyAll, Keys: 10000}},
		"busy": {ConcurrencyLimit: &ConcurrencyLimit{Calls: 1, Key: LimitKeyAll, Keys: 10000}},
	}, c.Interceptors)
}

// The defaults of one Config are not those of the next one.
func TestDefaultsOfListsAreNotShared(t *testing.T) {
	text := corpus(t, "edge_defaults.good.yaml")["edge_defaults.good.yaml"]
	first, err := Parse("edge.yaml", text)
	require.NoError(t, err)
	first.Interceptors["users"].JWT.Algorithms[0] = "none"
	first.AccessLog.Redact[0], first.Tracing.Propagate[0], first.Metrics.Buckets[0] = "x", "x", -1
	second, err := Parse("edge.yaml", text)
	require.NoError(t, err)
	require.NoError(t, second.Validate())
	require.Equal(t, "authorization", second.AccessLog.Redact[0])
}

// What stands in place of a hash, in the headers of a receiver or in a URL with a user
// may be a secret.
func TestNoProblemShowsASecret(t *testing.T) {
	for name, content := range corpus(t, ".bad.yaml") {
		_, err := Parse(name, content)
		for _, secret := range []string{"a-plain-key", "a-secret", "a:secret", "sec ret"} {
			require.NotContains(t, err.Error(), secret, name)
		}
	}
	require.Equal(t, "***", Secret("a").String())
	require.Empty(t, Secret("").String())
}

func TestAPIKeysAndHeadersAreSecretsInChanges(t *testing.T) {
	const text = smallYAML + `
interceptors:
  keys:
    api_keys:
      keys:
        - {name: alice, sha256: 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683}
tracing: {otlp: {endpoint: "http://127.0.0.1:4317", headers: {x-token: first}}}
`
	old, err := Parse("old.yaml", []byte(text))
	require.NoError(t, err)
	new, err := Parse("new.yaml", []byte(strings.NewReplacer("2c70", "3c70", "x-token: first", "x-token: second, x-new: third").Replace(text)))
	require.NoError(t, err)
	require.Equal(t, []Change{
		{"interceptors.keys.api_keys.keys[0].sha256", "***", "***"},
		{"tracing.otlp.headers.x-new", "", "***"},
		{"tracing.otlp.headers.x-token", "***", "***"},
	}, Diff(old, new))
}

func TestMethodPatterns(t *testing.T) {
	for _, pattern := range []string{"*", "a.*", "a.b.*", "B", "a.B", "/a.B/C"} {
		problem, _ := methodPatternProblem(pattern)
		require.Empty(t, problem, pattern)
	}
	for _, pattern := range []string{"", "**", ".*", "a*", "a.*.b", "/", "/*", "*.a", "/a.B", "a.B/C", "/a.B/C/D", "/a.B/*", "a b"} {
		problem, hint := methodPatternProblem(pattern)
		require.NotEmpty(t, problem, pattern)
		require.NotEmpty(t, hint, pattern)
	}
}
