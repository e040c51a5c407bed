package proxy_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/kitexproxy/kitexproxy"

// mayImport lists, for each package, those of ours it may import: the arrows
// of the architecture. They point one way.
var mayImport = map[string][]string{
	"":                   {"proxy/cli", "proxy", "handler/filter", "handler/intercept", "kitex_gen/echo", "kitex_gen/echo/echo"},
	"idl":                {},
	"conf":               {},
	"conf/follow":        {},
	"resolver":           {"conf", "resolver/cluster"},
	"resolver/cluster":   {"conf"},
	"resolver/discovery": {"conf", "conf/follow", "resolver/cluster"},
	"handler/stream":     {},
	"handler/secure":     {"conf"},
	"handler/upstream":   {"handler/stream"},
	"handler/kitexgrpc":  {"handler/stream", "handler/upstream"},
	"handler/h2":         {},
	"handler/h2grpc":     {"handler/stream", "handler/upstream", "handler/h2"},
	"handler/tries":      {"handler/stream", "resolver/cluster", "conf"},
	"handler/health":     {"handler/stream", "resolver/cluster", "conf"},
	"handler/frame": {
		"handler/stream", "handler/upstream", "handler/h2", "handler/h2grpc", "handler/tries", "resolver", "resolver/cluster",
		"handler/intercept", "handler/filter",
	},
	"handler/kitexhost":   {"handler/h2"},
	"handler/compress":    {},
	"handler/metadata":    {"handler/stream"},
	"handler/filter":      {"handler/stream", "handler/metadata"},
	"handler/rule":        {"handler/filter", "handler/stream"},
	"handler/schema":      {"handler/filter", "handler/stream"},
	"handler/intercept":   {"handler/stream", "handler/metadata", "handler/filter", "resolver/cluster"},
	"handler/auth":        {"handler/stream", "handler/intercept", "handler/metadata", "conf/follow"},
	"handler/limit":       {"handler/stream", "handler/intercept", "handler/filter"},
	"handler/accesslog":   {"handler/stream", "handler/intercept"},
	"handler/metrics":     {"handler/stream", "handler/intercept", "resolver/cluster"},
	"handler/tracing":     {"handler/stream", "handler/intercept", "resolver/cluster"},
	"handler/grpcstats":   {"handler/stream", "handler/intercept", "handler/filter", "handler/metadata"},
	"handler/inproc":      {"handler/stream", "handler/compress"},
	"gateway":             {"gateway/binding", "gateway/openapi", "gateway/websocket", "handler/inproc"},
	"gateway/binding":     {},
	"gateway/openapi":     {"gateway/binding"},
	"gateway/websocket":   {"handler/stream"},
	"function":            {},
	"proxy/admin":         {},
	"handler/kitextracer": {"handler/stream", "handler/intercept", "handler/filter"},
	"handler": {
		"handler/stream", "handler/filter", "handler/compress", "handler/tries", "resolver", "resolver/cluster", "conf",
		"handler/intercept",
	},
	"proxy": {
		"conf", "resolver", "resolver/cluster", "resolver/discovery", "handler/tries", "handler/health", "handler/secure", "handler", "handler/stream", "handler/upstream", "handler/filter", "handler/rule", "handler/schema",
		"handler/kitexgrpc", "handler/kitexhost", "handler/h2", "handler/h2grpc", "handler/frame",
		"handler/intercept", "handler/auth", "handler/limit", "handler/accesslog", "handler/metrics", "handler/tracing",
		"handler/grpcstats", "handler/inproc", "gateway", "gateway/openapi", "gateway/websocket", "function", "proxy/admin",
	},
	"proxy/storm": {},
	"proxy/proxytest": {
		"conf", "handler/filter", "handler/intercept", "handler/stream", "proxy", "handler/handlertest", "handler/handlertest/loopback",
		"kitex_gen/echo", "kitex_gen/echo/echo", "idl",
	},
	"proxy/conformance":       {},
	"proxy/conformance/kitex": {},
	"proxy/demo":              {"kitex_gen/echo", "kitex_gen/echo/echo", "conf", "proxy", "handler/filter", "idl"},
	"proxy/cli":               {"conf", "conf/follow", "resolver", "resolver/discovery", "proxy", "proxy/demo"},
	"kitex_gen/echo":          {},
	// For tests only.
	"kitex_gen/echo/echo":               {"kitex_gen/echo"},
	"handler/handlertest":               {"handler/handlertest/rawh2", "handler/handlertest/interopclient", "kitex_gen/echo", "kitex_gen/echo/echo"},
	"handler/secure/securetest":         {},
	"handler/handlertest/interopclient": {},
	"handler/handlertest/rawh2":         {},
	"handler/handlertest/loopback":      {},
	"handler/upstream/upstreamtest":     {"handler/handlertest/loopback", "handler/secure/securetest", "handler/stream", "handler/upstream"},
}

func TestImportsPointOneWay(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...")
	out, err := cmd.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := ours(fields[0])
		allowed, known := mayImport[name]
		require.True(t, known, "package %q is not in this table yet: which may it import?", name)
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, module) {
				require.True(t, slices.Contains(allowed, ours(imported)), "%q may not import %q", name, ours(imported))
			}
		}
	}
}

// TestRelayKnowsNoTransport: a second transport must fit behind the same two
// interfaces.
func TestRelayKnowsNoTransport(t *testing.T) {
	for _, name := range []string{"handler", "handler/stream", "handler/upstream", "resolver", "conf"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"/"+name).Output()
		require.NoError(t, err)
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if strings.HasPrefix(dep, "github.com/cloudwego/kitex") {
				// What kitex generates of a service, which filters know methods by.
				require.Equal(t, "github.com/cloudwego/kitex/pkg/serviceinfo", dep, "%s depends on Kitex", name)
			}
		}
	}
}

func ours(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}
