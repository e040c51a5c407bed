package conf

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse checks what holds for any file: no panic, a Config or problems but
// never both or neither, every problem on one line, and what is accepted is
// valid without the file too, has errors of others at their places, and does not
// differ from itself.
func FuzzParse(f *testing.F) {
	for _, content := range corpus(f, ".yaml") {
		f.Add(content)
	}
	f.Add(SampleYAML())
	f.Add(wholeSample())
	f.Add(DefaultYAML())
	f.Add([]byte(schemaYAML))
	f.Add([]byte(ruleYAML))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Fatalf("accepted, but invalid: %v", err)
			}
			checkPlaces(t, c)
			if changes := Diff(c, c); len(changes) > 0 {
				t.Fatalf("differs from itself: %v", changes)
			}
			return
		}
		var problems Errors
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("not Errors, or empty: %#v", err)
		}
		for _, problem := range problems {
			if text := problem.Error(); strings.ContainsAny(text, "\n\r") || problem.Problem == "" {
				t.Fatalf("not one line: %q", text)
			}
		}
	})
}

// checkPlaces checks that a problem found later with a rule has a place in the
// file.
func checkPlaces(t *testing.T, c *Config) {
	for i := range c.Routes {
		rules := KeyPath(ItemPath("routes", i), "rules")
		for j, rule := range c.Routes[i].Rules {
			path := ItemPath(rules, j)
			paths := []string{KeyPath(path, "name"), KeyPath(path, "on"), KeyPath(path, "if")}
			for field := range rule.Set {
				paths = append(paths, KeyPath(KeyPath(path, "set"), field))
			}
			for _, path := range paths {
				e := c.ErrorAt(path, rule.If, "is\nwrong", "")
				if e.Line < 1 || e.Column < 1 || strings.ContainsAny(e.Error(), "\n\r") {
					t.Fatalf("no place, or not one line: %q", e)
				}
			}
		}
	}
}
