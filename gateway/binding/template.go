package binding

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Template is a parsed path template. It is read-only.
type Template struct {
	// Text is the template as it is written.
	Text string
	// Segments are the parts of the path between slashes, variables replaced by
	// what they stand for: a literal, "*" for any segment, or "**" for any number
	// of segments. "/" has one segment, "".
	Segments []string
	// Variables are those of the template, from left to right.
	Variables []Variable
	// Verb is the custom verb, what follows the colon; "" for none.
	Verb string
}

// Variable is a part of a path that is put into a field of the request.
type Variable struct {
	// Path is the field's, with dots, as it is written.
	Path string
	// Fields are those that Path goes by; the last one gets the value.
	Fields []protoreflect.FieldDescriptor
	// First and Len say which of the template's segments it stands for.
	First, Len int
}

// Pattern is what a variable stands for, as in "shelves/*". That of one written
// without is "*".
func (t *Template) Pattern(v Variable) string {
	return strings.Join(t.Segments[v.First:v.First+v.Len], "/")
}

// Shape is the template without the names of its variables. Of two templates with the
// same one, exactly the same paths are bound.
func (t *Template) Shape() string {
	s := "/" + strings.Join(t.Segments, "/")
	if t.Verb != "" {
		s += ":" + t.Verb
	}
	return s
}

var (
	fieldPath = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	// literal is RFC 3986's segment of pchar, without what a template gives a
	// meaning of its own.
	literal = regexp.MustCompile(`^([A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})+$`)
)

// parseTemplate parses a template by the grammar in http.proto:
//
//	Template = "/" Segments [ Verb ] ;
//	Segments = Segment { "/" Segment } ;
//	Segment  = "*" | "**" | LITERAL | Variable ;
//	Variable = "{" FieldPath [ "=" Segments ] "}" ;
//	Verb     = ":" LITERAL ;
func parseTemplate(text string) (*Template, error) {
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return nil, errors.New("the path does not begin with /")
	}
	t := &Template{Text: text}
	rest, t.Verb = cutVerb(rest)
	if t.Verb != "" && !literal.MatchString(t.Verb) {
		return nil, fmt.Errorf("%q cannot be a verb", t.Verb)
	}
	if rest == "" {
		t.Segments = []string{""}
		return t, nil
	}
	if err := t.parse(rest); err != nil {
		return nil, err
	}
	return t, t.check()
}

// cutVerb cuts the verb off. Behind a variable it begins with the first colon, behind
// a literal with the last one, as in grpc-gateway.
func cutVerb(path string) (rest, verb string) {
	tail := strings.LastIndexAny(path, "/}") + 1
	colon := strings.LastIndexByte(path[tail:], ':')
	if tail > 0 && path[tail-1] == '}' {
		colon = strings.IndexByte(path[tail:], ':')
	}
	if colon < 0 {
		return path, ""
	}
	return path[:tail+colon], path[tail+colon+1:]
}

// parse adds the segments and variables of a path that has lost its first slash.
func (t *Template) parse(rest string) error {
	for {
		part, after, more := cutSegment(rest)
		if strings.HasPrefix(part, "{") {
			if err := t.addVariable(part); err != nil {
				return err
			}
		} else if err := t.addSegment(part); err != nil {
			return err
		}
		if !more {
			return nil
		}
		rest = after
	}
}

// cutSegment is strings.Cut by the first slash that is not in a variable.
func cutSegment(path string) (segment, after string, more bool) {
	end := 0
	if strings.HasPrefix(path, "{") {
		end = max(0, strings.IndexByte(path, '}'))
	}
	slash := strings.IndexByte(path[end:], '/')
	if slash < 0 {
		return path, "", false
	}
	return path[:end+slash], path[end+slash+1:], true
}

func (t *Template) addVariable(part string) error {
	inner, ok := strings.CutSuffix(part[1:], "}")
	if !ok {
		return fmt.Errorf("%q is no variable: a } is missing, or something stands behind it", part)
	}
	path, pattern, ok := strings.Cut(inner, "=")
	if !ok {
		pattern = "*"
	}
	if !fieldPath.MatchString(path) {
		return fmt.Errorf("%q in %q is no path of a field", path, part)
	}
	v := Variable{Path: path, First: len(t.Segments)}
	for s := range strings.SplitSeq(pattern, "/") {
		if err := t.addSegment(s); err != nil {
			return fmt.Errorf("variable {%s}: %w", path, err)
		}
	}
	v.Len = len(t.Segments) - v.First
	t.Variables = append(t.Variables, v)
	return nil
}

func (t *Template) addSegment(s string) error {
	if s != "*" && s != "**" && !literal.MatchString(s) {
		return fmt.Errorf("%q is neither a literal, *, ** nor a variable", s)
	}
	t.Segments = append(t.Segments, s)
	return nil
}

// check finds what is wrong with the whole though all of its parts are right.
func (t *Template) check() error {
	if first := slices.Index(t.Segments, "**"); first >= 0 && slices.Contains(t.Segments[first+1:], "**") {
		return errors.New("** stands in it twice, which leaves open how much is whose")
	}
	seen := make(map[string]bool)
	for _, v := range t.Variables {
		if seen[v.Path] {
			return fmt.Errorf("variable {%s} stands in it twice", v.Path)
		}
		seen[v.Path] = true
	}
	return nil
}
