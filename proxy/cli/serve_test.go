package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/proxy/cli"
)

func TestServeBeforeABackend(t *testing.T) {
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--backend", startBackend(t))
	checkCalls(t, p.address(t))
	p.stop()
	assert.Equal(t, 0, p.code(t))
	assert.Empty(t, p.stdout.String())
	assert.Equal(t, 1, strings.Count(p.stderr.String(), "ready"), "one line announces it: %s", p.stderr)
	assert.Contains(t, p.stderr.String(), "msg=stopped")
}

func TestServeWithAFile(t *testing.T) {
	file := writeFile(t, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
clusters: {echo: {instances: ["%s"]}}
routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: echo}]
`, startBackend(t)))
	for _, flag := range []string{"-c", "--config"} {
		p := start(t, "serve", flag, file)
		checkCalls(t, p.address(t))
		p.stop()
		assert.Equal(t, 0, p.code(t))
	}
}

func TestServeAtSeveralAddresses(t *testing.T) {
	socket := "unix://" + filepath.Join(t.TempDir(), "proxy.sock")
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--listen", socket, "--backend", startBackend(t))
	tcp, unix, found := strings.Cut(p.address(t), ",")
	require.True(t, found)
	assert.Equal(t, socket, unix)
	checkCalls(t, tcp)
	checkCalls(t, unix)
}

func TestFlagsBeatTheFile(t *testing.T) {
	file := writeFile(t, fmt.Sprintf(`
listeners: [{address: "%s"}]
clusters: {dead: {instances: ["unix:///nowhere/backend.sock"]}}
routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: dead, timeout: 1ms}]
timeouts: {shutdown: 1h}
log: {level: error, format: text}
`, takenAddress(t)))
	p := start(t, "serve", "-c", file, "--listen", "127.0.0.1:0", "--backend", startBackend(t),
		"--log-level", "info", "--log-format", "json", "--shutdown-timeout", "3s")
	checkCalls(t, p.address(t))
	p.stop()
	assert.Equal(t, 0, p.code(t))
	var draining map[string]any
	for line := range strings.Lines(p.stderr.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		if fields["msg"] == "draining" {
			draining = fields
		}
	}
	require.NotNil(t, draining, "%s", p.stderr)
	assert.EqualValues(t, 3e9, draining["grace"])
}

func TestFlagsLeaveTheRestOfTheFile(t *testing.T) {
	file := writeFile(t, fmt.Sprintf(`
listeners: [{address: "%s"}]
clusters: {echo: {instances: ["%s"]}}
default: {cluster: echo}
`, takenAddress(t), startBackend(t)))
	checkCalls(t, start(t, "serve", "-c", file, "--listen", "127.0.0.1:0").address(t))
}

func TestServeWhenThePortIsTaken(t *testing.T) {
	taken := takenAddress(t)
	code, stdout, stderr := run(t, "serve", "--listen", taken, "--backend", "127.0.0.1:9")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.True(t, strings.HasPrefix(stderr, "kitexproxy: cannot listen on "+taken+": the address is in use;"), stderr)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), "one sentence: %s", stderr)
}

func TestServeWithABadFile(t *testing.T) {
	file := writeFile(t, "listeners:\n  - address: 127.0.0.1:0\nclusters:\n  a:\n    instances: [nowhere]\n    conections: 3\ndefault:\n  cluster: a\n")
	code, _, stderr := run(t, "serve", "-c", file)
	assert.Equal(t, 1, code)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Len(t, lines, 2, stderr)
	assert.Regexp(t, "^kitexproxy: "+file+`:5:\d+: clusters\.a\.instances\[0\]: "nowhere" has no port`, lines[0])
	assert.Regexp(t, "^kitexproxy: "+file+`:6:\d+: clusters\.a\.conections: unknown key; did you mean "connections"`, lines[1])
}

func TestServeWithoutTheFile(t *testing.T) {
	code, _, stderr := run(t, "serve", "-c", "/nowhere/proxy.yaml")
	assert.Equal(t, 1, code)
	assert.True(t, strings.HasPrefix(stderr, "kitexproxy: /nowhere/proxy.yaml: does not exist;"), stderr)
}

func TestServeWithBadFlagsNamesThem(t *testing.T) {
	code, _, stderr := run(t, "serve", "--listen", "here", "--backend", "there", "--log-level", "loud", "--log-format", "xml")
	assert.Equal(t, 1, code)
	for _, problem := range []string{
		`kitexproxy: --listen: "here" has no port`,
		`kitexproxy: --backend: "there" has no port`,
		`kitexproxy: --log-level: "loud" is not valid`,
		`kitexproxy: --log-format: "xml" is not valid`,
	} {
		assert.Contains(t, stderr, problem)
	}
	assert.Equal(t, 4, strings.Count(stderr, "\n"), stderr)
}

func TestStoppedBeforeItHasStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stderr := newOutput()
	code := cli.Main(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--backend", "127.0.0.1:9"}, newOutput(), stderr)
	assert.Equal(t, 0, code, "%s", stderr)
}

func TestServeFreesThePort(t *testing.T) {
	address := loopback.Free(t)
	p := start(t, "serve", "--listen", address, "--backend", "127.0.0.1:9")
	assert.Equal(t, address, p.address(t))
	p.stop()
	assert.Equal(t, 0, p.code(t))
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}
