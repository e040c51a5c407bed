package conf

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const ruleYAML = `listeners: [{address: 127.0.0.1:8888}]
clusters: {a: {instances: ["127.0.0.1:9000"]}}
schemas:
  echo: {files: [echo.proto]}
default: {cluster: a}
routes:
  - match: {service: a.B}
    cluster: a
    mode: dynamic
    schema: echo
    rules:
      - name: x
        on: request
        if: size(message.nmae) > 3
        set:
          user.name: '"***"'
          "labels[\"a\"]": "1"
        redact: [email]
`

func TestErrorAtKnowsThePlace(t *testing.T) {
	c, err := Parse("proxy.yaml", []byte(ruleYAML))
	require.NoError(t, err)
	for path, want := range map[string]string{
		"routes[0].rules[0].if":                        "proxy.yaml:14:9",
		`routes[0].rules[0].set."user.name"`:           "proxy.yaml:16:11",
		`routes[0].rules[0].set."labels[\"a\"]"`:       "proxy.yaml:17:11",
		"routes[0].rules[0].redact[0]":                 "proxy.yaml:18:18",
		"schemas.echo.files[0]":                        "proxy.yaml:4:18",
		"routes[0].rules[0].cluster":                   "proxy.yaml:12:9", // the rule's
		`routes[0].rules[0].set."other.name"`:          "proxy.yaml:15:9", // that of set
		"routes[0].rules[7].if":                        "proxy.yaml:11:5", // that of rules
		"default.rules[0].metadata.set.x-a":            "proxy.yaml:5:1",
		"nothing.here":                                 "proxy.yaml",
		"":                                             "proxy.yaml",
		"routes[0].rules[0].if.and.something.below[0]": "proxy.yaml:14:9",
	} {
		e := c.ErrorAt(path, "", "does not compile", "fix it")
		require.Equal(t, path, e.Field)
		field := ": " + path
		if path == "" {
			field = ""
		}
		require.EqualError(t, e, want+field+": does not compile; fix it")
	}
}

func TestErrorAtShowsWhatItIsGiven(t *testing.T) {
	c, err := Parse("proxy.yaml", []byte(ruleYAML))
	require.NoError(t, err)
	rule := c.Routes[0].Rules[0]
	path := KeyPath(ItemPath(KeyPath(ItemPath("routes", 0), "rules"), 0), "if")
	require.EqualError(t, c.ErrorAt(path, rule.If, "does not compile:\n\tundefined field 'nmae'", ""),
		`proxy.yaml:14:9: routes[0].rules[0].if: "size(message.nmae) > 3" does not compile:  undefined field 'nmae'`)
	require.EqualError(t, c.ErrorAt(path, strings.Repeat("a\n", 99), "is wrong", "use\r\none"),
		`proxy.yaml:14:9: routes[0].rules[0].if: "`+strings.Repeat(`a\n`, 40)+`..." is wrong; use  one`)
}

func TestErrorAtWithoutAFile(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	require.Equal(t, &Error{Field: "default.cluster", Value: "default", Problem: "is odd"},
		c.ErrorAt("default.cluster", "default", "is odd", ""))
}

func TestPaths(t *testing.T) {
	require.Equal(t, "log", KeyPath("", "log"))
	require.Equal(t, "log.level", KeyPath("log", "level"))
	require.Equal(t, `a."b.c"`, KeyPath("a", "b.c"))
	require.Equal(t, `a.""`, KeyPath("a", ""))
	require.Equal(t, `"\n"`, KeyPath("", "\n"))
	require.Equal(t, "a[0]", ItemPath("a", 0))
	require.Equal(t, "a", parent("a.b"))
	require.Equal(t, "a.b", parent("a.b[10]"))
	require.Equal(t, "", parent("a"))
}
