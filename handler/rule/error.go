package rule

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a rule, in one line.
type Error struct {
	// Field is the place within the rule, such as "if", "set.payload.name",
	// "clear[0]" or "reject.code"; "" for the rule as a whole.
	Field string
	// Problem says what is wrong. Within an expression it begins with the column,
	// and the line if that has several.
	Problem string
	// Hint says what may have been meant, or what to do; "" if nothing comes to
	// mind.
	Hint string
}

// Error returns "field: problem; hint".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return oneLine(b.String()) // a key may be anything
}

// problems collects what is wrong with a rule.
type problems []error

func (p *problems) add(e *Error) { *p = append(*p, e) }

// addf adds a problem without a hint.
func (p *problems) addf(field, format string, args ...any) {
	p.add(&Error{Field: field, Problem: fmt.Sprintf(format, args...)})
}

// err returns all of them joined, nil for none.
func (p problems) err() error { return errors.Join(p...) }
