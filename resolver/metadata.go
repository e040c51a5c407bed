package resolver

import (
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// condition is a conf.MetadataMatch made ready.
type condition struct {
	key  string // in lower case
	kind conditionKind
	text string // of the configuration, for the kinds that have one
	full *regexp.Regexp
}

type conditionKind uint8

const (
	isExact conditionKind = iota
	hasPrefix
	matchesRegexp
	isPresent
	isAbsent
)

func newCondition(m *conf.MetadataMatch) condition {
	c := condition{key: lower(m.Key)}
	switch {
	case m.Exact != nil:
		c.kind, c.text = isExact, unpadded(c.key, *m.Exact)
	case m.Prefix != "":
		c.kind, c.text = hasPrefix, unpadded(c.key, m.Prefix)
	case m.Regexp != "":
		c.kind, c.text, c.full = matchesRegexp, m.Regexp, compileFull(m.Regexp)
	case *m.Present:
		c.kind = isPresent
	default:
		c.kind = isAbsent
	}
	return c
}

// compileFull compiles a valid regular expression so that it matches whole
// values. It goes by what the expression means, not by its text: behind a \Q that
// is left open, nothing can be added to that.
func compileFull(expr string) *regexp.Regexp {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		panic(err) // package conf has refused it
	}
	return regexp.MustCompile(`\A(?:` + parsed.String() + `)\z`)
}

// holds reports whether metadata is as the condition wants it.
func (c *condition) holds(m Metadata) bool {
	value, ok := valueOf(m, c.key, 0)
	switch c.kind {
	case isPresent:
		return ok
	case isAbsent:
		return !ok
	}
	for i := 1; ok; i++ {
		if c.takes(value) {
			return true
		}
		value, ok = valueOf(m, c.key, i)
	}
	return false
}

func (c *condition) takes(value string) bool {
	switch c.kind {
	case isExact:
		return value == c.text
	case hasPrefix:
		return strings.HasPrefix(value, c.text)
	default:
		return c.full.MatchString(value)
	}
}

// followsFrom reports whether c holds wherever d does. It may say no where that is
// hard to tell.
func (c *condition) followsFrom(d *condition) bool {
	if c.key != d.key {
		return false
	}
	switch c.kind {
	case isPresent:
		return d.kind != isAbsent
	case isAbsent:
		return d.kind == isAbsent
	case matchesRegexp:
		return d.kind == matchesRegexp && c.text == d.text || d.kind == isExact && c.takes(d.text)
	case hasPrefix:
		return (d.kind == hasPrefix || d.kind == isExact) && c.takes(d.text)
	default:
		return d.kind == isExact && c.takes(d.text)
	}
}

// contradicts reports whether c and d never hold together. Others than these may,
// by one value each.
func (c *condition) contradicts(d *condition) bool {
	return c.key == d.key && c.kind == isAbsent && d.kind != isAbsent
}

// field is the key and the value of an exact condition.
func (c *condition) field() Field { return Field{Key: c.key, Value: c.text} }

// String says in words what the condition asks for.
func (c *condition) String() string {
	switch c.kind {
	case isExact:
		return c.key + " " + strconv.Quote(c.text)
	case hasPrefix:
		return c.key + " that begins with " + strconv.Quote(c.text)
	case matchesRegexp:
		return c.key + " that matches " + strconv.Quote(c.text)
	case isPresent:
		return c.key
	default:
		return "no " + c.key
	}
}

func conditionList(conditions []condition) string {
	var texts []string
	for i := range conditions {
		texts = append(texts, conditions[i].String())
	}
	return strings.Join(texts, " and ")
}

// valueOf returns the ith value of a key, as conditions see it.
func valueOf(m Metadata, key string, i int) (string, bool) {
	value, ok := m.Value(key, i)
	return unpadded(key, value), ok
}

// unpadded returns a value without the padding of base64, if that is what it is:
// both spellings cross the wire, and mean the same.
func unpadded(key, value string) string {
	if strings.HasSuffix(key, "-bin") {
		return strings.TrimRight(value, "=")
	}
	return value
}

// exactValues are the values that a route asks for, as Metadata. Its zero value is
// none.
type exactValues []condition

// Value implements Metadata.
func (e exactValues) Value(key string, i int) (string, bool) {
	for k := range e {
		if e[k].kind != isExact || e[k].key != key {
			continue
		}
		if i == 0 {
			return e[k].text, true
		}
		i--
	}
	return "", false
}
