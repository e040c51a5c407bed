package conf

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse checks what holds for any file: no panic, a Config or problems but
// never both or neither, every problem on one line, and what is accepted is
// valid without the file too.
func FuzzParse(f *testing.F) {
	for _, content := range corpus(f, ".yaml") {
		f.Add(content)
	}
	f.Add(SampleYAML())
	f.Add(DefaultYAML())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Fatalf("accepted, but invalid: %v", err)
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
