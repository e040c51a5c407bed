package cli_test

import (
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/proxy"
)

func TestTryRunsProxyAndBackend(t *testing.T) {
	p := start(t, "--listen", "127.0.0.1:0", "--demo-backend", "127.0.0.1:0")
	p.stdout.await(t, "Ctrl-C stops it")
	address := p.address(t)
	banner := p.stdout.String()
	assert.Contains(t, banner, "kitexproxy takes calls at "+address+" and sends them to its demo backend at 127.0.0.1:")
	assert.Contains(t, banner, " demo --proxy "+address+"\n")
	assert.Contains(t, banner, `-d '{"message":"hello"}' `+address+" kitexproxy.echo.v1.Echo/Unary\n")
	assert.Contains(t, banner, `-d '{"message":"again","count":5}' `+address+" kitexproxy.echo.v1.Echo/Expand\n")
	checkCalls(t, address)
	p.stop()
	assert.Equal(t, 0, p.code(t))
}

func TestTryNamesAProtoFileThatExists(t *testing.T) {
	p := start(t, "--listen", "127.0.0.1:0", "--demo-backend", "127.0.0.1:0")
	path := p.stdout.await(t, `-import-path (idl) -proto echo\.proto`)
	assert.FileExists(t, filepath.Join("..", "..", path, "echo.proto"))
}

func TestTryWhenAPortIsTaken(t *testing.T) {
	taken := takenAddress(t)
	code, stdout, stderr := run(t, "--listen", taken, "--demo-backend", "127.0.0.1:0")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.True(t, strings.HasPrefix(stderr, "kitexproxy: cannot listen on "+taken+": "), stderr)

	code, stdout, stderr = run(t, "--listen", "127.0.0.1:0", "--demo-backend", taken)
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Equal(t, "kitexproxy: demo backend: cannot listen on "+taken+": the address is in use; choose another address with --demo-backend\n", stderr)
}

func TestDemoInOneProcess(t *testing.T) {
	code, stdout, stderr := run(t, "demo")
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
	assert.True(t, strings.HasPrefix(stdout, "client -> proxy at 127.0.0.1:"), stdout)
	assert.Contains(t, stdout, "\n5 of 5 calls arrived as sent\n")
	assert.Contains(t, stdout, ", mode: struct -> demo backend\n")
	assert.Contains(t, stdout, ", mode: dynamic -> demo backend\n")
	assert.True(t, strings.HasSuffix(stdout, "\n3 of 3 calls arrived as filtered\n"), stdout)
	assert.Equal(t, 2, strings.Count(stdout, "\n3 of 3 calls arrived as filtered\n"), stdout)
}

// The demo shows filters of its own, whatever the program has.
func TestDemoOfAProgramWithFilters(t *testing.T) {
	code, stdout, stderr := runWith(t, []proxy.Option{echoService, proxy.WithFilters(unaryMethod.OnRequest(hidePasswords))}, "demo")
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
}

func TestDemoThroughAProxyThatRuns(t *testing.T) {
	p := start(t, "--listen", "127.0.0.1:0", "--demo-backend", "127.0.0.1:0")
	code, stdout, stderr := run(t, "demo", "--proxy", p.address(t))
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
	assert.True(t, strings.HasPrefix(stdout, "client -> proxy at "+p.address(t)+" -> demo backend\n"+
		"Without --proxy there are calls with filters and with rules, too.\n"), stdout)
	assert.NotContains(t, stdout, "as filtered")
	assert.True(t, strings.HasSuffix(stdout, "\n5 of 5 calls arrived as sent\n"), stdout)
}

func TestDemoBeforeSomethingElse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer() // without services
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() {
		server.Stop()
		<-served
	}()
	code, stdout, stderr := run(t, "demo", "--proxy", ln.Addr().String())
	assert.Equal(t, 1, code)
	assert.Contains(t, stdout, `NOT as sent: status: want OK, got Unimplemented (12) "unknown service kitexproxy.echo.v1.Echo"`)
	assert.True(t, strings.HasPrefix(stderr, "kitexproxy: 5 of 5 calls did not arrive as sent: "), stderr)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
}

func TestDemoWithoutAProxy(t *testing.T) {
	code, _, stderr := run(t, "demo", "--proxy", "unix:///nowhere/proxy.sock")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "kitexproxy: cannot connect to unix:///nowhere/proxy.sock, is the proxy running there?")
}

func TestCheckAGoodFile(t *testing.T) {
	file := writeFile(t, `
listeners: [{address: ":1"}]
clusters:
  a: {instances: ["a:1"]}
  b: {instances: ["b:1"]}
routes:
  - {match: {method: /x.Y/Z}, cluster: a}
  - {match: {service: x.Y}, cluster: b}
  - {match: {service: x.W}, cluster: b}
`)
	code, stdout, stderr := run(t, "check", "-c", file)
	assert.Equal(t, 0, code)
	assert.Equal(t, file+": ok: 1 listener, 2 clusters, 3 routes\n", stdout)
	assert.Empty(t, stderr)
}

func TestCheckABadFile(t *testing.T) {
	file := writeFile(t, "listeners:\n  - address: nowhere\nclusters:\n  a:\n    instances: [b]\ndefault:\n  cluster: c\n")
	code, stdout, stderr := run(t, "check", "-c", file)
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Len(t, lines, 3, stderr)
	assert.Regexp(t, "^"+file+`:2:\d+: listeners\[0\]\.address: "nowhere" `, lines[0])
	assert.Regexp(t, "^"+file+`:5:\d+: clusters\.a\.instances\[0\]: "b" `, lines[1])
	assert.Regexp(t, "^"+file+`:7:\d+: default\.cluster: "c" `, lines[2])
}

func TestCheckTheShippedFile(t *testing.T) {
	code, _, stderr := run(t, "check", "-c", filepath.Join("..", "..", "conf", "proxy.yaml"))
	assert.Equal(t, 0, code, stderr)
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := run(t, "version")
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr)
	assert.Regexp(t, `^kitexproxy \S+\ngo         `+runtime.Version()+` \S+\nkitex      v0\.16\.3\n$`, stdout)
}

func TestHelpHasExamples(t *testing.T) {
	for _, command := range []string{"", "serve", "check", "routes", "demo", "version"} {
		args := append(strings.Fields(command), "--help")
		code, stdout, stderr := run(t, args...)
		assert.Equal(t, 0, code)
		assert.Empty(t, stderr)
		assert.Contains(t, stdout, "Examples:\n", "help of %q", command)
		assert.Contains(t, stdout, "  kitexproxy"+strings.TrimSuffix(" "+command, " "), "help of %q", command)
	}
}

func TestMistakesInArguments(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"UnknownCommand":  {[]string{"launch"}, `unknown command "launch"; see 'kitexproxy --help'`},
		"MistypedCommand": {[]string{"serv"}, `unknown command "serv", did you mean "serve"?; see 'kitexproxy --help'`},
		"UnknownFlag":     {[]string{"serve", "--port", "1"}, `unknown flag: --port; see 'kitexproxy serve --help'`},
		"UnknownRootFlag": {[]string{"-x"}, `unknown shorthand flag: 'x' in -x; see 'kitexproxy --help'`},
		"NoValue":         {[]string{"check", "-c"}, `flag needs an argument: 'c' in -c; see 'kitexproxy check --help'`},
		"Argument":        {[]string{"check", "proxy.yaml"}, `check takes flags only, not "proxy.yaml"; see 'kitexproxy check --help'`},
		"UnknownRoutesFlag": {
			[]string{"routes", "--backend", "a:1"}, `unknown flag: --backend; see 'kitexproxy routes --help'`,
		},
		"RoutesNoValue":  {[]string{"routes", "-c"}, `flag needs an argument: 'c' in -c; see 'kitexproxy routes --help'`},
		"RoutesArgument": {[]string{"routes", "proxy.yaml"}, `routes takes flags only, not "proxy.yaml"; see 'kitexproxy routes --help'`},
		"MistypedRoutes": {[]string{"route"}, `unknown command "route", did you mean "routes"?; see 'kitexproxy --help'`},
		"ServeWhat": {[]string{"serve"}, "serve needs to know where calls go: give a file with -c FILE, " +
			"or an address with --backend ADDRESS; see 'kitexproxy serve --help'"},
		"CheckWhat": {[]string{"check"}, `check needs a file: give it with -c FILE; see 'kitexproxy check --help'`},
		"Duration": {
			[]string{"serve", "--backend", "a:1", "--shutdown-timeout", "5"},
			`invalid argument "5" for "--shutdown-timeout" flag: "5" has no unit; ` +
				`write a number with a unit, such as "250ms", "10s" or "5m"; see 'kitexproxy serve --help'`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, test.args...)
			assert.Equal(t, 2, code)
			assert.Empty(t, stdout)
			assert.Equal(t, "kitexproxy: "+test.says+"\n", stderr)
		})
	}
}
