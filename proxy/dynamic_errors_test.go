package proxy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// startErrors returns the lines of what New, NewRelay and Plan all refuse a
// configuration with.
func startErrors(t testing.TB, cfg *conf.Config) []string {
	t.Helper()
	_, err := proxy.New(cfg)
	require.Error(t, err)
	_, relayErr := proxy.NewRelay(cfg)
	require.EqualError(t, relayErr, err.Error())
	_, planErr := proxy.Plan(cfg)
	require.EqualError(t, planErr, err.Error())
	return strings.Split(err.Error(), "\n")
}

// wrongYAML is startErrors for the part of a configuration behind its clusters,
// whose first line is line 5.
func wrongYAML(t testing.TB, rest string) []string {
	t.Helper()
	return startErrors(t, dynamicConfig(t, "127.0.0.1:1", "127.0.0.1:2", rest))
}

// requireParts checks that a line begins with the first part of want, and has the
// others, which follow "…", in this order.
func requireParts(t testing.TB, want, line string) {
	t.Helper()
	parts := strings.Split(want, "…")
	require.True(t, strings.HasPrefix(line, parts[0]), "want %s\ngot  %s", want, line)
	for rest := line; len(parts) > 0; parts = parts[1:] {
		_, after, found := strings.Cut(rest, parts[0])
		require.True(t, found, "want %s\ngot  %s", want, line)
		rest = after
	}
}

const echoSchema = "schemas: {echo: {files: [../idl/echo.proto]}}\n"

func TestDynamicStartErrors(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"a field that is not there": {
			echoSchema + `routes:
  - match: {method: /kitexproxy.echo.v1.Echo/Unary}
    cluster: main
    mode: dynamic
    schema: echo
    rules:
      - name: a
        on: request
        if: message.mesage == "x"
        clear: [payload]
`,
			[]string{`proxy.yaml:14:9: routes[0].rules[0].if: "message.mesage == \"x\"" column 8: …"mesage"; did you mean "message"?`},
		},
		"a cluster that is not configured": {
			echoSchema + "routes:\n" + proxytest.Route("method: /kitexproxy.echo.v1.Echo/Unary", "echo", `- {name: a, on: start, cluster: '"othre"'}`),
			[]string{`proxy.yaml:12:30: routes[0].rules[0].cluster: "\"othre\"" is no cluster that is configured; did you mean "other"?`},
		},
		"for all methods of a service, once": {
			echoSchema + `routes:
  - match: {service: kitexproxy.echo.v1.Echo}
    cluster: main
    mode: dynamic
    schema: echo
    rules:
      - {name: a, on: response, set: {message: '1'}}
`,
			[]string{`proxy.yaml:12:39: routes[0].rules[0].set.message: "1" …string`},
		},
		"for some methods of a service": {
			echoSchema + `routes:
  - match: {service: kitexproxy.echo.v1.Echo}
    cluster: main
    mode: dynamic
    schema: echo
    rules:
      - {name: a, on: request, if: number > 1, drop: true}
`,
			[]string{
				`proxy.yaml:12:48: routes[0].rules[0].drop: …(method /kitexproxy.echo.v1.Echo/Expand)`,
				`proxy.yaml:12:48: routes[0].rules[0].drop: …(method /kitexproxy.echo.v1.Echo/Unary)`,
			},
		},
		"in the default, with several services": {
			"schemas: {two: {files: [" + writeProto(t, twoServices) + `]}}
default:
  cluster: main
  mode: dynamic
  schema: two
  rules:
    - {name: a, on: request, set: {size: '1'}}
    - {name: b, on: start, metadata: {set: {a: 'x'}}}
`,
			[]string{
				`proxy.yaml:11:36: default.rules[0].set.size: "1" …two.v1.A…(method /two.v1.First/Do and 1 more)`,
				`proxy.yaml:12:45: default.rules[1].metadata.set.a: "x" column 1: `,
			},
		},
		"of several rules and routes, in their order": {
			echoSchema + `routes:
  - match: {method: /kitexproxy.echo.v1.Echo/Unary}
    cluster: main
    mode: dynamic
    schema: echo
    rules:
      - {name: a, on: start, cluster: '1'}
      - {name: b, on: request, redact: [message, count]}
      - {name: c, on: start, metadata: {remove: [a, te]}}
  - match: {service: kitexproxy.echo.v1.Echo}
    cluster: main
    mode: dynamic
    schema: echo
    rules:
      - {name: a, on: end, metadata: {add: {x.y: code}}}
      - {name: b, on: request, method: None, clear: [payload]}
      - {name: c, on: request, method: Chat, reject: {code: ABORTED, message: message}}
      - {name: d, on: request, method: Chat, set: {payload.size: '1'}}
`,
			[]string{
				`proxy.yaml:12:30: routes[0].rules[0].cluster: "1" …string`,
				`proxy.yaml:13:50: routes[0].rules[1].redact[1]: …count`,
				`proxy.yaml:14:53: routes[0].rules[2].metadata.remove[1]: …"te"`,
				`proxy.yaml:21:32: routes[1].rules[1].method: "None" is no method of kitexproxy.echo.v1.Echo`,
				`proxy.yaml:20:45: routes[1].rules[0].metadata.add."x.y": "code" …string`,
				`proxy.yaml:22:70: routes[1].rules[2].reject.message: "message" …string`,
				`proxy.yaml:23:52: routes[1].rules[3].set."payload.size": "1" …`,
			},
		},
		"of the rules in their order, and not of the methods": {
			"schemas: {two: {files: [" + writeProto(t, twoServices) + `]}}
routes:
  - match: {service: two.v1.First}
    cluster: main
    mode: dynamic
    schema: two
    rules:
      - {name: a, method: Other, on: request, clear: [a]}
      - {name: b, method: Do, on: request, clear: [b]}
`,
			[]string{"proxy.yaml:12:55: routes[0].rules[0].clear[0]: ", "proxy.yaml:13:52: routes[0].rules[1].clear[0]: "},
		},
		"a service that the schema has not": {
			echoSchema + "routes:\n" + proxytest.Route("service: kitexproxy.echo.v1.Ekho", "echo", ""),
			[]string{`proxy.yaml:10:5: routes[0].schema: "echo" has no service kitexproxy.echo.v1.Ekho`},
		},
		"a method that the schema has not": {
			echoSchema + "routes:\n" + proxytest.Route("method: /kitexproxy.echo.v1.Echo/None", "echo", "- {name: a, on: start, reject: {code: ABORTED}}"),
			[]string{`proxy.yaml:10:5: routes[0].schema: "echo" has no method /kitexproxy.echo.v1.Echo/None`},
		},
		"a schema without any method": {
			"schemas: {none: {files: [" + writeProto(t, `syntax = "proto3";`) + "]}}\ndefault: {cluster: main, mode: dynamic, schema: none}\n",
			[]string{`proxy.yaml:6:41: default.schema: "none" has no methods`},
		},
		"a rule for a backend's schema, as far as it can be told": {
			`schemas: {live: {reflection: {cluster: main}}}
default:
  cluster: main
  mode: dynamic
  schema: live
  rules:
    - {name: a, on: request, if: message.nobody.knows == 1, set: {maybe: '1 +'}}
`,
			[]string{`proxy.yaml:11:67: default.rules[0].set.maybe: "1 +" column 4: `},
		},
	} {
		t.Run(name, func(t *testing.T) {
			lines := wrongYAML(t, c.config)
			require.Len(t, lines, len(c.want), "%s", strings.Join(lines, "\n"))
			for i := range c.want {
				requireParts(t, c.want[i], lines[i])
			}
		})
	}
}

func TestDynamicStartErrorsHaveTheirPlaces(t *testing.T) {
	cfg := dynamicConfig(t, "127.0.0.1:1", "127.0.0.1:2", echoSchema+echoRoute("- {name: a, on: request, if: nothing, clear: [payload]}"))
	_, err := proxy.New(cfg)
	var e *conf.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, "proxy.yaml", e.File)
	require.Equal(t, 12, e.Line)
	require.Equal(t, "routes[0].rules[0].if", e.Field)
	require.Equal(t, "nothing", e.Value)
}

func TestDynamicStartErrorsAreBounded(t *testing.T) {
	var methods, messages strings.Builder
	for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		methods.WriteString("rpc M" + name + "(R" + name + ") returns (R" + name + ");\n")
		messages.WriteString("message R" + name + " {}\n")
	}
	file := writeProto(t, `syntax = "proto3"; package many; service S {`+methods.String()+"}\n"+messages.String())
	lines := wrongYAML(t, "schemas: {many: {files: ["+file+"]}}\nroutes:\n"+proxytest.Route("service: many.S", "many", "- {name: a, on: request, clear: [x]}"))
	require.Len(t, lines, 21)
	require.Contains(t, lines[0], "(method /many.S/Ma)")
	require.Contains(t, lines[20], "routes[0].rules: have more problems; these are 20")
}

func TestDynamicSchemaErrors(t *testing.T) {
	broken := writeProto(t, "syntax = \"proto3\";\nmessage A {\n  string b = 1\n}\nmessage C { Missing d = 1; }")
	dir := t.TempDir()
	noSet := filepath.Join(dir, "no.binpb")
	require.NoError(t, os.WriteFile(noSet, []byte("\xff\xff"), 0o600))
	const use = "routes:\n  - {match: {service: a.B}, cluster: main, mode: dynamic, schema: s}\ndefault: {cluster: main, mode: dynamic, schema: s}\n"
	for name, c := range map[string]struct {
		schema string
		want   []string
	}{
		"a file that is missing": {"{files: [" + dir + "/none.proto]}", []string{"proxy.yaml:5:15: schemas.s.files: there is no file " + dir + "/none.proto"}},
		"a file that does not parse": {"{files: [" + broken + "]}", []string{
			"proxy.yaml:5:15: schemas.s.files: test.proto:4:1: syntax error",
		}},
		"a descriptor set that is missing": {"{descriptor_set: " + dir + "/none.binpb}", []string{
			"proxy.yaml:5:15: schemas.s.descriptor_set: descriptor set: open " + dir + "/none.binpb: no such file or directory",
		}},
		"a descriptor set that is none": {"{descriptor_set: " + noSet + "}", []string{
			"proxy.yaml:5:15: schemas.s.descriptor_set: descriptor set " + noSet + ": it is no FileDescriptorSet in binary",
		}},
	} {
		t.Run(name, func(t *testing.T) { // each is used twice, and reported once
			lines := wrongYAML(t, "schemas: {s: "+c.schema+"}\n"+use)
			require.Len(t, lines, len(c.want), "%s", strings.Join(lines, "\n"))
			for i := range c.want {
				require.Contains(t, lines[i], c.want[i])
			}
		})
	}
}

// A schema with several problems has one line for each, all at the schema's place.
func TestDynamicSchemaErrorsAreAllTold(t *testing.T) {
	file := writeProto(t, "syntax = \"proto3\";\nmessage A { B b = 1; }\nmessage C { D d = 1; }\n")
	lines := wrongYAML(t, "schemas: {s: {files: ["+file+"]}}\ndefault: {cluster: main, mode: dynamic, schema: s}\n")
	require.Len(t, lines, 2, "%s", strings.Join(lines, "\n"))
	require.Contains(t, lines[0], "proxy.yaml:5:15: schemas.s.files: test.proto:2:13: ")
	require.Contains(t, lines[1], "proxy.yaml:5:15: schemas.s.files: test.proto:3:13: ")
}

// A configuration built in Go has no places, and otherwise the same errors.
func TestDynamicErrorsOfAConfigBuiltInGo(t *testing.T) {
	cfg, err := conf.Simple("127.0.0.1:0", "127.0.0.1:1")
	require.NoError(t, err)
	cfg.Schemas = map[string]*conf.Schema{"echo": {Files: []string{"../idl/echo.proto"}}}
	cfg.Default.Mode, cfg.Default.Schema = conf.ModeDynamic, "echo"
	cfg.Default.Rules = []conf.Rule{{Name: "a", On: conf.OnRequest, If: "message.x == 1", Drop: true, Method: ""}}
	lines := startErrors(t, cfg)
	require.Contains(t, lines[0], `default.rules[0].if: "message.x == 1" column 8: `)
}
