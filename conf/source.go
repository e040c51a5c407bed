package conf

import (
	"strings"
	"unicode"
)

// source is the file that a Config comes from: its name, and where in it the
// fields are.
type source struct {
	file   string           // "" for a Config built in Go
	places map[string]place // by path; empty for a Config built in Go
}

// place is where a field is written, and its text if it is a scalar.
type place struct {
	line, column int
	text         string
}

// has tells whether the file has a field, if only with nothing in it.
func (s *source) has(path string) bool {
	_, ok := s.places[path]
	return ok
}

// nearestPlace returns where path is written or, for a field that is not in the
// file, where the nearest thing around it is.
func (s *source) nearestPlace(path string) place {
	for ; path != ""; path = parent(path) {
		if at, ok := s.places[path]; ok {
			return at
		}
	}
	return s.places[""]
}

// ErrorAt returns a problem of c that others have found, such as an expression
// that does not compile. path is the field's, made with KeyPath and ItemPath:
// `routes[2].rules[0].set."user.name"`. The other arguments are the Error's;
// line breaks in them become spaces.
//
// File, Line and Column are set if c comes from a file, to where that has path
// or, if it is not there, the nearest thing around it. What has been changed in
// Go since is not known here.
func (c *Config) ErrorAt(path, value, problem, hint string) *Error {
	e := &Error{Field: oneLine(path), Value: value, Problem: oneLine(problem), Hint: oneLine(hint)}
	if c.source != nil {
		at := c.source.nearestPlace(path)
		e.File, e.Line, e.Column = c.source.file, at.line, at.column
	}
	return e
}

// oneLine makes spaces of line breaks and other control characters.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, text)
}
