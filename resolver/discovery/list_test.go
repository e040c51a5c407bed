package discovery

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func TestLists(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": `
# the west side
- 10.0.0.1:8888
- address: "[::1]:8888" # the east side
  weight: 3
- {weight: 0, address: unix:///run/orders.sock}
`,
		"in brackets": `["10.0.0.1:8888", {address: "[::1]:8888", weight: 3}, {address: unix:///run/orders.sock, weight: 0}]`,
		"JSON": "[\n\t\"10.0.0.1:8888\",\n\t{\"address\": \"[::1]:8888\", \"weight\": 3},\n" +
			"\t{\n\t\t\"weight\": 0,\n\t\t\"address\": \"unix:///run/orders.sock\"\n\t}\n]\n",
		"as other systems write it": "\ufeff---\r\n- 10.0.0.1:8888\r\n- {address: \"[::1]:8888\", weight: 3}\r\n" +
			"- address: unix:///run/orders.sock\r\n  weight: 0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			all, err := parseList("list.yaml", []byte(text))
			require.NoError(t, err)
			require.Len(t, all, 3)
			for i, want := range []struct {
				address string
				weight  int
			}{{"10.0.0.1:8888", 1}, {"[::1]:8888", 3}, {"unix:///run/orders.sock", 0}} {
				address, err := addressOf(all[i])
				require.NoError(t, err)
				assert.Equal(t, want.address, address)
				assert.Equal(t, want.weight, all[i].Weight())
			}
		})
	}
}

func TestListsThatAreWrong(t *testing.T) {
	for _, c := range []struct{ text, problem string }{
		{"", "list.yaml: the file lists no instances; "},
		{"# nothing yet\n", "list.yaml: the file lists no instances; "},
		{"[]\n", "list.yaml:1:1: the list has no instances; "},
		{"instances: []\n", "list.yaml:1:"},
		{"10.0.0.1:1\n", "the file is not a list; write each instance on a line of its own"},
		{"- 10.0.0.1\n", `list.yaml:1:3: [0]: "10.0.0.1" has no port; write "host:port"`},
		{"- a:1\n- b:99999\n", `list.yaml:2:3: [1]: "b:99999" has a port that is not a number from 0 to 65535`},
		{"- 7\n", "list.yaml:1:3: [0]: the address is not plain text"},
		{"-\n- a:1\n", "list.yaml:2:1: a list entry is empty"},
		{"- a:1\n-\n", "list.yaml:2:"},
		{"- - a:1\n", "list.yaml:1:3: a list entry is empty, or a list itself"},
		{"- [a: 1]\n", `list.yaml:1:5: a "key: value" pair stands in brackets; write "host:port" in quotes`},
		{"- {address: a:1, weigth: 2}\n", `[0]: unknown key "weigth"; write "host:port" in quotes, or a map with "address" and "weight"`},
		{"- {weight: 2}\n", "[0]: the instance has no address"},
		{"- {address: a:1, address: b:1}\n", `[0]: the instance has "address" twice; keep one of the two`},
		{"- {address: a:1, weight: 2, zone: c}\n", "an instance has more than two keys"},
		{"- {address: a:1, weight: -1}\n", `the weight "-1" is not a whole number from 0 to 1000`},
		{"- {address: a:1, weight: 1001}\n", `the weight "1001" is not a whole number`},
		{"- {address: a:1, weight: 0x10}\n", `the weight "0x10" is not a whole number`},
		{"- {address: a:1, weight: \"1\"}\n", `the weight "1" is not a whole number`},
		{"- {address: a:1, weight: 1.5}\n", `the weight "1.5" is not a whole number`},
		{"- address:\n    a:1\n", "list.yaml:1:10: a key has no value on its line"},
		{"- &a a:1\n- *a\n", "list.yaml:1:3: anchors, aliases, tags and the like are not supported"},
		{"- !x a:1\n", "are not supported"},
		{"- a:1\n---\n- b:1\n", "list.yaml:2:1: a second document begins here"},
		{"[[[a]]]", "list.yaml:1:3: brackets stand in brackets"},
		{"[\"a:1\"", "list.yaml:1:1: not valid YAML"},
		{"- \"a:1\n", "not valid YAML"},
		{"- \xff\n", "list.yaml: the file is not UTF-8 text; save it in UTF-8"},
		{strings.Repeat("-", maxMarks+1), "list.yaml: the file has too many marks"},
	} {
		_, err := parseList("list.yaml", []byte(c.text))
		var problem *conf.Error
		require.ErrorAs(t, err, &problem, "%q", c.text)
		assert.ErrorContains(t, err, c.problem, "%q", c.text)
		assert.NotContains(t, err.Error(), "\n")
	}
}

// What makes the parser slow or recurse is refused before it runs.
func FuzzParseList(f *testing.F) {
	f.Add([]byte("- a:1\n- {address: \"[::1]:1\", weight: 3}\n"))
	f.Add([]byte("[\"a:1\", {\"address\": \"b:1\", \"weight\": 3}]"))
	f.Add([]byte("- address: a:1\n  weight: 2\n"))
	f.Add([]byte(strings.Repeat("- address:\n", 1000)))
	f.Add([]byte(strings.Repeat("a: b\n", 1000)))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		begun := time.Now()
		all, err := parseList("list.yaml", data)
		if took := time.Since(begun); took > 10*time.Second && len(data) < 1<<20 {
			t.Errorf("%d bytes took %v", len(data), took)
		}
		var problem *conf.Error
		if err != nil && !errors.As(err, &problem) {
			t.Errorf("error %T: %v", err, err)
		}
		if (err == nil) != (len(all) > 0) {
			t.Errorf("%d instances with error %v", len(all), err)
		}
		if _, refused := usable(all); len(refused) > 0 && len(all) <= maxInstances {
			t.Errorf("refused what was read: %v", refused)
		}
	})
}
