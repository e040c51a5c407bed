package conf

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const diffYAML = `listeners:
  - address: 127.0.0.1:8888
clusters:
  a: {instances: ["a:1", "b:1"]}
  b: {instances: ["a:1"], weights: {"a:1": 2}, tls: {ca: a.pem}}
schemas: {echo: {files: [echo.proto]}}
routes:
  - {match: {method: /a.B/C}, cluster: a}
  - {name: second, match: {service: a.B}, cluster: a, retry: {}}
  - match: {service: a.C}
    cluster: a
    mode: dynamic
    schema: echo
    rules:
      - {name: x, on: request, redact: [x]}
      - {name: y, on: request, redact: [y]}
default: {cluster: a}
`

// diffLines returns what changes with some text of diffYAML replaced, a line each.
func diffLines(t *testing.T, replace ...string) string {
	t.Helper()
	text := diffYAML
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, text, replace[i])
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	old, err := Parse("old.yaml", []byte(diffYAML))
	require.NoError(t, err)
	new, err := Parse("new.yaml", []byte(text))
	require.NoError(t, err)
	var lines []string
	for _, change := range Diff(old, new) {
		lines = append(lines, change.String())
	}
	return strings.Join(lines, "\n")
}

func TestDiff(t *testing.T) {
	const (
		first  = "  - {match: {method: /a.B/C}, cluster: a}\n"
		second = "  - {name: second, match: {service: a.B}, cluster: a, retry: {}}\n"
	)
	for name, c := range map[string]struct {
		replace []string
		want    string
	}{
		"nothing": {nil, ""},
		"comments and order of keys": {
			[]string{"clusters:\n", "clusters: # of backends\n", `{instances: ["a:1"], weights: {"a:1": 2}`, `{weights: {"a:1": 2}, instances: ["a:1"]`},
			"",
		},
		"a default written out": {[]string{"default: {cluster: a}", "default: {cluster: a, mode: frame, timeout: 0}"}, ""},
		"a value": {
			[]string{"default: {cluster: a}", "default: {cluster: a, timeout: 5s}\nlimits: {message: 4MiB}\nlog: {level: debug}"},
			"default.timeout: 0 -> 5s\nlimits.message: 0 -> 4MiB\nlog.level: info -> debug",
		},
		"a value that was none": {
			[]string{"default: {cluster: a}", "default: {cluster: a, unary_timeout: 5s}"},
			"default.unary_timeout: (none) -> 5s",
		},
		"a list of plain values": {
			[]string{`["a:1", "b:1"]`, `["b:1", "a:1"]`},
			"clusters.a.instances: [a:1, b:1] -> [b:1, a:1]",
		},
		"an entry of a map": {
			[]string{`{"a:1": 2}`, `{"a:1": 3}`, "default: {cluster: a}", "default: {cluster: a, request_metadata: {set: {x-a: added}}}"},
			"clusters.b.weights.\"a:1\": 2 -> 3\ndefault.request_metadata.set.x-a: (none) -> \"added\"",
		},
		"a section more": {
			[]string{"default: {cluster: a}", "default: {cluster: a, mirror: {cluster: b}}"},
			"default.mirror.cluster: (none) -> b\ndefault.mirror.percent: (none) -> 100",
		},
		"a section less": {
			[]string{", tls: {ca: a.pem}", ""},
			"clusters.b.tls.ca: a.pem -> (none)\nclusters.b.tls.min_version: \"1.2\" -> (none)",
		},
		"a section of nothing": {
			[]string{`["a:1", "b:1"]`, `["a:1", "b:1"], health: {}`},
			"clusters.a.health: (none) -> {}",
		},
		"no default": {
			[]string{"default: {cluster: a}\n", ""},
			"default.cluster: a -> (none)\ndefault.mode: frame -> (none)\ndefault.timeout: 0 -> (none)\n" +
				"default.message_limit: 0 -> (none)\ndefault.undecodable: reject -> (none)",
		},
		"a cluster and a listener more": {
			[]string{"schemas:", "  c: {instances: [\"c:1\"]}\nschemas:", "clusters:\n", "  - address: 127.0.0.1:8889\nclusters:\n"},
			"listeners[1] added\nclusters.c added",
		},
		"a cluster less": {[]string{`  b: {instances: ["a:1"], weights: {"a:1": 2}, tls: {ca: a.pem}}` + "\n", ""}, "clusters.b removed"},
		"a route more": {
			[]string{first, "  - {match: {service: new.A}, cluster: b}\n" + first},
			"routes[0] added",
		},
		"a route less": {[]string{first, ""}, "routes[0] removed"},
		"a route with another match": {
			[]string{"{method: /a.B/C}", "{method: /a.B/D}"},
			"routes[0] removed\nroutes[0] added",
		},
		"a route with a name and another match": {
			[]string{"{service: a.B}", "{service: a.D, authority: a}"},
			"routes[1].match.service: a.B -> a.D\nroutes[1].match.authority: (none) -> a",
		},
		"a route that gets a name": {[]string{"- {match: {method", "- {name: first, match: {method"}, "routes[0].name: (none) -> first"},
		"a route below one that is new": {
			[]string{first, "  - {match: {service: new.A}, cluster: b}\n" + first, "cluster: a, retry: {}", "cluster: b"},
			"routes[0] added\nroutes[2].cluster: a -> b\nroutes[2].retry.codes: [UNAVAILABLE] -> (none)\n" +
				"routes[2].retry.attempts: 3 -> (none)\nroutes[2].retry.backoff: 25ms -> (none)\n" +
				"routes[2].retry.max_backoff: 1s -> (none)\nroutes[2].retry.buffer: 64KiB -> (none)\n" +
				"routes[2].retry.budget_percent: 20 -> (none)",
		},
		"an interceptor more, and one in a list": {
			[]string{"default: {cluster: a}", "interceptors: {ids: {request_id: {}}}\ndefault: {cluster: a, interceptors: [ids]}"},
			"default.interceptors: (none) -> [ids]\ninterceptors.ids added",
		},
		"all the rest": {
			[]string{"default: {cluster: a}", "default: {cluster: a}\nadmin: {}\nmetrics: {methods: 5}\n" +
				"http: {listeners: [{address: :80}], functions: {routes: {f: {cluster: a}}}}"},
			"http.listeners[0] added\nhttp.functions.prefix: (none) -> /function/\nhttp.functions.timeout: (none) -> 10s\n" +
				"http.functions.routes.f added\nmetrics.methods: 1000 -> 5\nadmin.address: (none) -> 127.0.0.1:9901",
		},
		"routes that change places": {
			[]string{second, "", "default:", second + "default:"},
			"routes[1]: routes[2] -> routes[1]",
		},
		"rules": {
			[]string{"redact: [y]", "redact: [\"y,z\", zz]", "      - {name: x, on: request, redact: [x]}\n", ""},
			"routes[2].rules[0] removed\nroutes[2].rules[0].redact: [\"y\"] -> [\"y,z\", zz]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, diffLines(t, c.replace...))
		})
	}
}

// Rules of who may call what are known by their conditions, and keys by their names.
func TestDiffOfInterceptors(t *testing.T) {
	const (
		hash   = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b68"
		first  = "        - {methods: [a.B], identities: [alice], allow: true}\n"
		second = "        - {methods: [a.C], claims: {role: [a]}, allow: true}\n"
		alice  = "        - {name: alice, sha256: " + hash + "1}\n"
		bob    = "        - {name: bob, sha256: " + hash + "2}\n"
	)
	config := func(keys, rules string) *Config {
		c, err := Parse("a.yaml", []byte(smallYAML+"interceptors:\n  keys:\n    api_keys:\n      keys:\n"+keys+
			"  may:\n    authorize:\n"+rules))
		require.NoError(t, err)
		return c
	}
	old := config(alice+bob, first+second)
	for name, c := range map[string]struct {
		new  *Config
		want []Change
	}{
		"a key less": {config(bob, first+second), []Change{{"interceptors.keys.api_keys.keys[0]", "", removed}}},
		"places":     {config(bob+alice, first+second), []Change{{"interceptors.keys.api_keys.keys[0]", "interceptors.keys.api_keys.keys[1]", "interceptors.keys.api_keys.keys[0]"}}},
		"a rule more": {
			config(alice+bob, "        - {methods: [a.D], allow: false}\n"+first+second),
			[]Change{{"interceptors.may.authorize[0]", "", added}},
		},
		"a rule that denies": {
			config(alice+bob, first+strings.Replace(second, "true", "false", 1)),
			[]Change{{"interceptors.may.authorize[1].allow", "true", "false"}},
		},
		"another claim": {
			config(alice+bob, first+strings.Replace(second, "[a]", "[a, b]", 1)),
			[]Change{{"interceptors.may.authorize[1].claims.role", "[a]", "[a, b]"}},
		},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Diff(old, c.new)) })
	}
}

// There is no way for two files of the corpus to differ in silence, and the way back
// has as many changes.
func TestDiffOfTheCorpus(t *testing.T) {
	files := corpus(t, ".good.yaml")
	for one, oneText := range files {
		for other, otherText := range files {
			a, err := Parse(one, oneText)
			require.NoError(t, err)
			b, err := Parse(other, otherText)
			require.NoError(t, err)
			changes := Diff(a, b)
			require.Equal(t, one == other, len(changes) == 0, "%s and %s: %v", one, other, changes)
			require.Len(t, Diff(b, a), len(changes), "%s and %s", one, other)
			for _, change := range changes {
				require.NotEqual(t, change.Old, change.New)
				require.NotContains(t, change.String(), "\n")
			}
		}
	}
}

func TestLongestRise(t *testing.T) {
	for _, c := range []struct {
		numbers []int
		want    []bool
	}{
		{nil, nil},
		{[]int{-1, -1}, []bool{false, false}},
		{[]int{0, -1, 1, 2}, []bool{true, false, true, true}},
		{[]int{3, 0, 1, 2}, []bool{false, true, true, true}},
		{[]int{1, 2, 3, 0}, []bool{true, true, true, false}},
		{[]int{1, 0, 3, 2, 4, -1}, []bool{false, true, false, true, true, false}},
	} {
		require.True(t, slices.Equal(c.want, longestRise(c.numbers)), "%v", c.numbers)
	}
}
