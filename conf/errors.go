package conf

import (
	"slices"
	"strconv"
	"strings"
)

// maxProblems bounds how many problems are collected, so that a file that is
// wrong throughout costs neither much time nor pages of output.
const maxProblems = 100

// Error is one problem of a configuration: where it is, what is wrong, and
// what would be right. Its text is a single sentence on a single line.
type Error struct {
	// File is the name the configuration was loaded under; empty for a Config
	// built in Go.
	File string
	// Line and Column count characters from 1. Both are 0 if the problem is
	// not at one place, such as a missing section.
	Line, Column int
	// Field is the path of the key, such as "routes[2].match.method"; empty
	// if the problem is with the file as a whole. Keys that are not plain
	// words are in quotes.
	Field string
	// Value is the offending text as it was written; empty if there is none.
	Value string
	// Problem says what is wrong, with Value (or else Field) as its subject.
	Problem string
	// Hint says what to do about it; it may be empty.
	Hint string

	cause error
}

// Error returns the problem as "file:line:column: field: "value" problem; hint",
// without the parts that are not known.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			b.WriteString(":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column))
		}
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	if e.Value != "" {
		b.WriteString(quote(e.Value) + " ")
	}
	b.WriteString(e.Problem)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns what made the file unreadable, such as fs.ErrNotExist; nil for
// problems with the content.
func (e *Error) Unwrap() error { return e.cause }

// Errors is every problem found in a configuration, by line; never empty.
type Errors []*Error

// Error returns one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, problem := range e {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, so that errors.Is and errors.As see them.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, problem := range e {
		all[i] = problem
	}
	return all
}

// report collects the problems of one configuration.
type report struct {
	*source
	problems Errors
	more     bool // problems were left out

	// broken holds the paths with a problem, and touched those with a problem
	// at or below them. A check that depends on such a path stays silent: its
	// complaint would be a consequence, not a cause.
	broken, touched map[string]bool

	// secret holds the paths whose text no problem shows.
	secret map[string]bool
}

func newReport(file string) *report {
	return &report{
		source:  &source{file: file, places: map[string]place{}},
		broken:  map[string]bool{},
		touched: map[string]bool{},
		secret:  map[string]bool{},
	}
}

// badValue reports a field whose value is wrong. The text from the file is shown
// if there is one, as 60m and 1h are the same to Go but not to a reader. A secret is
// not shown.
func (r *report) badValue(path, value, problem, hint string) {
	if r.secret[path] {
		r.badField(path, problem, hint)
		return
	}
	if written := r.places[path].text; written != "" {
		value = written
	}
	r.add(path, &Error{Value: value, Problem: problem, Hint: hint})
}

// badField reports a field that is missing, or wrong as a whole.
func (r *report) badField(path, problem, hint string) {
	r.add(path, &Error{Problem: problem, Hint: hint})
}

// badFile reports a problem that belongs to no field; line and column are 0 if it
// is not at one place either.
func (r *report) badFile(line, column int, problem, hint string) {
	r.append(&Error{Line: line, Column: column, Problem: problem, Hint: hint})
}

func (r *report) add(path string, e *Error) {
	at := r.nearestPlace(path)
	e.Field, e.Line, e.Column = path, at.line, at.column
	r.append(e)
	r.markBroken(path)
}

func (r *report) append(e *Error) {
	if r.full() {
		r.more = true
		return
	}
	e.File = r.file
	r.problems = append(r.problems, e)
}

func (r *report) full() bool { return len(r.problems) >= maxProblems }

func (r *report) markBroken(path string) {
	r.broken[path] = true
	for ; path != ""; path = parent(path) {
		r.touched[path] = true
	}
}

// isBroken tells whether path, or something it is part of, has a problem.
func (r *report) isBroken(path string) bool {
	for ; path != ""; path = parent(path) {
		if r.broken[path] {
			return true
		}
	}
	return r.broken[""]
}

// err returns the problems by line, those without a line first; nil if there
// are none.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if r.more {
		r.problems = append(r.problems, &Error{
			File:    r.file,
			Problem: "there are more problems; these are the first " + strconv.Itoa(maxProblems),
		})
	}
	return r.problems
}

// maxShown is how many characters of a value an error shows.
const maxShown = 80

// quote shows text from a file on one line: in quotes, and not all of it if it
// is long.
func quote(text string) string {
	shown := 0
	for i := range text {
		if shown == maxShown {
			return strconv.Quote(text[:i] + "...")
		}
		shown++
	}
	return strconv.Quote(text)
}
