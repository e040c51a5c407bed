package cli_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

var (
	echoService = proxy.WithServices(filter.KitexService(echoservice.NewServiceInfo()))
	unaryMethod = filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Unary")
)

// hidePasswords is a filter of a program that imports this one.
func hidePasswords(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
	if !strings.Contains(m.Message, "password") {
		return filter.Forward
	}
	m.Message = "***"
	return filter.Changed
}

func countReplies(context.Context, *filter.Call, *echo.EchoReply) filter.Verdict {
	return filter.Forward
}

// audited has an interceptor of such a program be known, which lets all calls go on.
var audited = proxy.WithLinks(intercept.Link{Name: "audit", Guard: func(*intercept.Call) error { return nil }})

// threeModes has a route in each mode.
func threeModes(t *testing.T) string {
	t.Helper()
	return writeFile(t, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0", interceptors: [ids]}]
interceptors: {ids: {request_id: {}}}
clusters:
  echo: {instances: ["127.0.0.1:9000"]}
  other: {instances: ["127.0.0.1:9001"]}
schemas:
  echo: {files: [%q]}
  live: {reflection: {cluster: other}}
routes:
  - match: {method: /kitexproxy.echo.v1.Echo/Chat}
    cluster: echo
    interceptors: [audit]
    mode: dynamic
    schema: echo
    rules:
      - {name: mark, on: start, metadata: {set: {x-route: '"chat"'}}}
      - {name: no-blanks, on: request, if: message.message == "", drop: true}
      - {name: hide, on: response, redact: [message]}
  - match: {service: kitexproxy.echo.v1.Echo}
    cluster: echo
    mode: struct
  - match: {service: example.v1.Live}
    cluster: other
    mode: dynamic
    schema: live
    rules:
      - {name: mark, on: start, metadata: {set: {x-route: '"live"'}}}
  - match: {method: /example.v1.Plain/Get}
    cluster: other
`, absolute(t, "../../idl/echo.proto")))
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	return path
}

func TestRoutes(t *testing.T) {
	filters := proxy.WithFilters(unaryMethod.OnResponse(countReplies), unaryMethod.OnRequest(hidePasswords))
	code, stdout, stderr := runWith(t, []proxy.Option{echoService, filters, audited}, "routes", "-c", threeModes(t))
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr)
	const function = "github.com/kitexproxy/kitexproxy/proxy/cli_test."
	assert.Equal(t, [][]string{
		{"METHOD", "ROUTE", "MODE", "CLUSTER", "TYPES", "INTERCEPTORS", "FILTERS"},
		{"/example.v1.Plain/Get", "routes[3]", "frame", "other", "-", "127.0.0.1:0: ids", "-"},
		{"/kitexproxy.echo.v1.Echo/Chat", "routes[0]", "dynamic", "echo", "schema echo", "127.0.0.1:0: ids", `start rule "mark"`},
		{"", "", "", "", "", "audit", `request rule "no-blanks"`},
		{"", "", "", "", "", "", `response rule "hide"`},
		{"/kitexproxy.echo.v1.Echo/Collect", "routes[1]", "struct", "echo", "generated", "127.0.0.1:0: ids", "-"},
		{"/kitexproxy.echo.v1.Echo/Expand", "routes[1]", "struct", "echo", "generated", "127.0.0.1:0: ids", "-"},
		{"/kitexproxy.echo.v1.Echo/Unary", "routes[1]", "struct", "echo", "generated", "127.0.0.1:0: ids", "request " + function + "hidePasswords"},
		{"", "", "", "", "", "", "response " + function + "countReplies"},
		{"/kitexproxy.echo.v1.Echo/*", "routes[1]", "struct", "echo", "-", "127.0.0.1:0: ids", "-"},
		{
			"/example.v1.Live/*", "routes[2]", "dynamic", "other", "schema live (reflection of cluster other)",
			"127.0.0.1:0: ids", `start schema "live"`,
		},
		{"", "", "", "", "", "", `start rule "mark"`},
		{"*", "-", "-", "-", "-", "127.0.0.1:0: ids", "none: answered with UNIMPLEMENTED"},
	}, table(t, stdout))
}

// table takes a table apart into its lines and columns.
func table(t *testing.T, text string) [][]string {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var starts []int // where the columns begin
	for _, title := range []string{"METHOD", "ROUTE", "MODE", "CLUSTER", "TYPES", "INTERCEPTORS", "FILTERS"} {
		at := strings.Index(lines[0], title)
		require.GreaterOrEqual(t, at, 0, "no %s in %s", title, lines[0])
		starts = append(starts, at)
	}
	var rows [][]string
	for _, line := range lines {
		require.Equal(t, strings.TrimRight(line, " "), line)
		var row []string
		for i, start := range starts {
			end := len(line)
			if i+1 < len(starts) {
				end = min(end, starts[i+1])
			}
			require.LessOrEqual(t, start, end, line)
			row = append(row, strings.TrimSpace(line[start:end]))
		}
		rows = append(rows, row)
	}
	return rows
}

// Without a file it is what the program does without arguments.
func TestRoutesWithoutAFile(t *testing.T) {
	filters := proxy.WithFilters(unaryMethod.OnRequest(hidePasswords))
	code, stdout, stderr := runWith(t, []proxy.Option{echoService, filters}, "routes")
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr)
	rows := table(t, stdout)
	assert.Equal(t, []string{
		"/kitexproxy.echo.v1.Echo/Unary", "default", "struct", "demo", "generated", "-",
		"request github.com/kitexproxy/kitexproxy/proxy/cli_test.hidePasswords",
	}, rows[len(rows)-2])
	assert.Equal(t, []string{"*", "default", "struct", "demo", "-", "-", "-"}, rows[len(rows)-1])
}

func TestRoutesOfABadFile(t *testing.T) {
	code, stdout, stderr := run(t, "routes", "-c", "/nowhere/proxy.yaml")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.True(t, strings.HasPrefix(stderr, "kitexproxy: /nowhere/proxy.yaml: does not exist;"), stderr)

	file := writeFile(t, "listeners: [{address: \":1\"}]\nclusters: {a: {instances: [\"a:1\"]}}\ndefault: {cluster: b}\n")
	code, stdout, stderr = run(t, "routes", "-c", file)
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Regexp(t, "^kitexproxy: "+file+`:3:\d+: default\.cluster: "b" is not a cluster`, stderr)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
}

// badRules has mistakes that only the schema shows, and what they are reported
// as behind the file's name.
func badRules(t *testing.T) (file string, problems []string) {
	t.Helper()
	file = writeFile(t, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
clusters: {echo: {instances: ["127.0.0.1:9000"]}}
schemas: {echo: {files: [%q]}}
routes:
  - match: {method: /kitexproxy.echo.v1.Echo/Chat}
    cluster: echo
    mode: dynamic
    schema: echo
    rules:
      - name: field
        on: request
        if: message.mesage == "x"
        drop: true
      - name: type
        on: request
        set:
          count: '"three"'
      - name: path
        on: response
        redact: [sequence]
`, absolute(t, "../../idl/echo.proto")))
	return file, []string{
		`:12:9: routes\[0\]\.rules\[0\]\.if: "message\.mesage == .* has no field "mesage"; did you mean "message"\?`,
		`:17:11: routes\[0\]\.rules\[1\]\.set\.count: .*"three.* of type int32.*`,
		`:20:18: routes\[0\]\.rules\[2\]\.redact\[0\]: .*sequence.* of type int32.*`,
	}
}

func TestRuleErrorsNameTheirPlace(t *testing.T) {
	file, problems := badRules(t)
	for command, prefix := range map[string]string{"check": "", "serve": "kitexproxy: ", "routes": "kitexproxy: "} {
		t.Run(command, func(t *testing.T) {
			code, stdout, stderr := run(t, command, "-c", file)
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			require.Len(t, lines, len(problems), stderr)
			for i, problem := range problems {
				assert.Regexp(t, "^"+prefix+file+problem+"$", lines[i])
			}
		})
	}
}

// A filter that would never be asked is no mistake of the file's alone.
func TestFiltersThatTheFileDoesNotAsk(t *testing.T) {
	file := writeFile(t, "listeners: [{address: \"127.0.0.1:0\"}]\nclusters: {a: {instances: [\"127.0.0.1:9\"]}}\ndefault: {cluster: a}\n")
	options := []proxy.Option{echoService, proxy.WithFilters(unaryMethod.OnRequest(hidePasswords))}
	for command, prefix := range map[string]string{"check": file + ": ", "serve": "kitexproxy: ", "routes": "kitexproxy: "} {
		t.Run(command, func(t *testing.T) {
			code, stdout, stderr := runWith(t, options, command, "-c", file)
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			assert.Equal(t, prefix+"filter github.com/kitexproxy/kitexproxy/proxy/cli_test.hidePasswords: "+
				"its method /kitexproxy.echo.v1.Echo/Unary goes by default, which has mode: frame; "+
				"write mode: struct there, or leave the filter out\n", stderr)
		})
	}
}
