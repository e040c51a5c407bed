package cli_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/proxy"
)

// tryFlags have the program run beside others.
func tryFlags(more ...string) []string {
	const free = "127.0.0.1:0"
	return append([]string{"--listen", free, "--http-listen", free, "--admin", free, "--demo-backend", free}, more...)
}

func TestTryRunsProxyAndBackend(t *testing.T) {
	p := start(t, tryFlags()...)
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

// The lines with curl do what they say, from any directory.
func TestTryAnswersCurl(t *testing.T) {
	t.Chdir(t.TempDir())
	p := start(t, tryFlags()...)
	p.stdout.await(t, "Ctrl-C stops it")
	lines := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(p.stdout.String(), -1)
	require.Len(t, lines, 4, "%s", p.stdout)
	for i, answer := range []string{
		`^\{"message":"hello", ?"sequence":1\}$`,
		`(?s)^data: \{"message":"again", ?"sequence":1\}\n\n.*data: \{"message":"again", ?"sequence":5\}\n\nevent: end\ndata: \{\}\n\n$`,
		`^\{"message":"hello", ?"sequence":1\}$`,
		`kitexproxy_calls_finished_total\{cluster="demo",code="OK",method="/kitexproxy.echo.v1.Echo/Unary",route="default"\} 2\n`,
	} {
		assert.Regexp(t, answer, answerTo(t, lines[i]), lines[i])
	}
}

// What a program gives grpc-gateway gets there.
func TestTryWithOptionsOfGRPCGateway(t *testing.T) {
	matcher := runtime.WithOutgoingHeaderMatcher(func(key string) (string, bool) { return "X-Mine-" + key, key == "echo-color" })
	p := startWith(t, []proxy.Option{proxy.WithServeMuxOptions(matcher)}, tryFlags()...)
	address := p.stderr.await(t, ` http=(\S+)`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/kitexproxy.echo.v1.Echo/Unary", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Grpc-Metadata-Demo-Color", "teal")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, "teal", resp.Header.Get("X-Mine-Echo-Color"), "%v", resp.Header)
}

// answerTo makes the request of a line with curl and returns the body of the response.
func answerTo(t *testing.T, line string) string {
	t.Helper()
	method, body := http.MethodGet, ""
	if data := regexp.MustCompile(`-d '([^']*)'`).FindStringSubmatch(line); data != nil {
		method, body = http.MethodPost, data[1]
	}
	req, err := http.NewRequestWithContext(t.Context(), method, regexp.MustCompile(`http://\S+`).FindString(line), strings.NewReader(body))
	require.NoError(t, err)
	for _, header := range regexp.MustCompile(`-H '([^:']*): ([^']*)'`).FindAllStringSubmatch(line, -1) {
		req.Header.Set(header[1], header[2])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
	return string(answer)
}

// What is in use, and which flag says another address.
func TestTryWhenAPortIsTaken(t *testing.T) {
	taken := takenAddress(t)
	for flag, says := range map[string]string{
		"--listen":       "cannot listen on " + taken + ": the address is in use; stop the process that uses it, or choose another address (--listen, ",
		"--http-listen":  "cannot listen on " + taken + ": the address is in use; stop the process that uses it, or choose another address (--http-listen, ",
		"--admin":        "admin: cannot listen on " + taken + ": the address is in use; stop the process that uses it, or choose another address (--admin, ",
		"--demo-backend": "demo backend: cannot listen on " + taken + ": the address is in use; choose another address with --demo-backend\n",
	} {
		args := tryFlags()
		args[slices.Index(args, flag)+1] = taken
		code, stdout, stderr := run(t, args...)
		assert.Equal(t, 1, code)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, "kitexproxy: "+says), stderr)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
}

func TestDemoInOneProcess(t *testing.T) {
	code, stdout, stderr := run(t, "demo")
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
	assert.True(t, strings.HasPrefix(stdout, "client -> proxy at 127.0.0.1:"), stdout)
	assert.Contains(t, stdout, "\n5 of 5 calls arrived as sent\n")
	assert.Contains(t, stdout, ", mode: struct -> demo backend\n")
	assert.Contains(t, stdout, ", mode: dynamic -> demo backend\n")
	assert.True(t, strings.HasSuffix(stdout, "\n2 of 2 calls arrived as configured\n"), stdout)
	assert.Equal(t, 2, strings.Count(stdout, "\n3 of 3 calls arrived as filtered\n"), stdout)
}

// The demo shows filters of its own, whatever the program has.
func TestDemoOfAProgramWithFilters(t *testing.T) {
	code, stdout, stderr := runWith(t, []proxy.Option{echoService, proxy.WithFilters(unaryMethod.OnRequest(hidePasswords))}, "demo")
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
}

func TestDemoThroughAProxyThatRuns(t *testing.T) {
	p := start(t, tryFlags()...)
	code, stdout, stderr := run(t, "demo", "--proxy", p.address(t))
	assert.Equal(t, 0, code, stdout)
	assert.Empty(t, stderr)
	assert.True(t, strings.HasPrefix(stdout, "client -> proxy at "+p.address(t)+" -> demo backend\n"+
		"Without --proxy there are calls with filters, rules and an interceptor, too.\n"), stdout)
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

// All that would keep a proxy from starting is told, and nothing is left of it.
func TestCheckFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, fmt.Sprintf(`
listeners: [{address: ":1"}]
clusters: {a: {instances: ["a:1"]}}
default: {cluster: a}
interceptors:
  keys: {api_keys: {file: %[1]s/keys.yaml}}
  tokens: {jwt: {issuer: any, jwks: {file: %[1]s/jwks.json}}}
  far: {jwt: {issuer: any, jwks: {url: "https://127.0.0.1:1/jwks.json", ca: %[1]s/ca.pem}}}
access_log: {output: %[1]s/no/calls.log}
tracing: {otlp: {endpoint: "https://127.0.0.1:1", ca: %[1]s/otlp.pem}}
http:
  listeners: [{address: ":2", tls: {certificates: [{cert: %[1]s/a.pem, key: %[1]s/a.key}]}}]
  gateway: {schemas: [api]}
schemas: {api: {files: [%[1]s/api.proto]}}
`, dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "api.proto"), []byte(`syntax = "proto3";
package a;
import "google/api/annotations.proto";
message M { string name = 1; }
service S {
  rpc Get(M) returns (M) { option (google.api.http) = {get: "/{nme}"}; }
  rpc Set(M) returns (M) { option (google.api.http) = {post: "/{name"}; }
}
`), 0o600))
	code, stdout, stderr := run(t, "check", "-c", file)
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	for _, says := range []string{
		": interceptors.keys: " + dir + "/keys.yaml: no such file", ": interceptors.tokens: jwks: " + dir + "/jwks.json: no such file",
		": interceptors.far: jwks: " + dir + "/ca.pem: no such file", ": access_log.output: write to " + dir + "/no: no such file",
		": tracing: CA file: open " + dir + "/otlp.pem: no such file", ": http.listeners[0].tls: ", ": http.gateway: method a.S.Get: ", ": http.gateway: method a.S.Set: ",
	} {
		assert.Contains(t, stderr, file+says)
	}
	assert.Equal(t, 8, strings.Count(stderr, "\n"), "each is told once: %s", stderr)
}

// What keeps no proxy from starting, as it may be mended while that runs, is a warning.
func TestCheckWarns(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, fmt.Sprintf(`
listeners: [{address: ":1"}]
clusters:
  absent: {discovery: {file: %[1]s/absent.yaml}}
  good: {discovery: {file: %[1]s/good.yaml}}
  none: {discovery: {file: %[1]s/none.yaml}}
routes:
  - {match: {authority: "*.example.com"}, cluster: absent}
  - {match: {authority: a.example.com, service: x.Y}, cluster: none}
default: {cluster: good}
`, dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "good.yaml"), []byte("- a:1\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "none.yaml"), []byte("[]\n"), 0o600))
	code, stdout, stderr := run(t, "check", "-c", file)
	assert.Equal(t, 0, code)
	assert.Equal(t, file+": ok: 1 listener, 3 clusters, 2 routes\n", stdout)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Len(t, lines, 3, stderr)
	assert.Regexp(t, "^"+file+`: warning: routes\[1\] is never reached, as routes\[0\] takes `, lines[0])
	assert.Regexp(t, "^"+file+": warning: clusters.absent.discovery: .+/absent.yaml: no such file", lines[1])
	assert.Regexp(t, "^"+file+": warning: clusters.none.discovery: .+/none.yaml:1:1: the list has no instances", lines[2])
}

func TestCheckWritesNothing(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls.log")
	file := writeFile(t, configFor("127.0.0.1:9000", fmt.Sprintf("access_log: {output: %q}\nadmin: {}\n", log)))
	code, _, stderr := run(t, "check", "-c", file)
	assert.Equal(t, 0, code, stderr)
	assert.NoFileExists(t, log)
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := run(t, "version")
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr)
	assert.Regexp(t, `^kitexproxy \S+\ngo         `+goruntime.Version()+` \S+\nkitex      v0\.16\.3\n$`, stdout)
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
