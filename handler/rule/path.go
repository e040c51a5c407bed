package rule

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// path leads from a message to a field in it.
type path []protoreflect.FieldDescriptor

// last returns the field that the path leads to.
func (p path) last() protoreflect.FieldDescriptor { return p[len(p)-1] }

// String returns the path with the names of the schema.
func (p path) String() string {
	names := make([]string, len(p))
	for i, fd := range p {
		names[i] = string(fd.Name())
	}
	return strings.Join(names, ".")
}

// checkPath tells what is wrong with a path that can be told without a schema,
// nil if nothing is.
func checkPath(text string) *Error {
	for name := range strings.SplitSeq(text, ".") {
		if !protoreflect.Name(name).IsValid() {
			return &Error{Problem: fmt.Sprintf("%q is no path of fields", text), Hint: `a path is one or more names of fields, "a.b.c"`}
		}
	}
	return nil
}

// parsePath returns the path in a message that a text names. It leads through
// single messages, and with elements through those in lists and maps, too.
func parsePath(m protoreflect.MessageDescriptor, text string, elements bool) (path, *Error) {
	if e := checkPath(text); e != nil {
		return nil, e
	}
	var p path
	for name := range strings.SplitSeq(text, ".") {
		if len(p) > 0 {
			var e *Error
			if m, e = through(p, elements); e != nil {
				return nil, e
			}
		}
		fd := fieldOf(m, name)
		if fd == nil {
			return nil, noField(m, name)
		}
		p = append(p, fd)
	}
	return p, nil
}

// through returns the message that a path may go on in.
func through(p path, elements bool) (protoreflect.MessageDescriptor, *Error) {
	fd := p.last()
	inner := fd
	if fd.IsMap() {
		inner = fd.MapValue()
	}
	switch {
	case inner.Message() == nil:
		return nil, &Error{Problem: fmt.Sprintf("%s is of type %s, and has no fields", p, typeName(fd))}
	case (fd.IsList() || fd.IsMap()) && !elements:
		return nil, &Error{
			Problem: fmt.Sprintf("%s is of type %s, and the path does not say which element is meant", p, typeName(fd)),
			Hint:    "only redact goes through all elements; otherwise end the path here",
		}
	}
	return inner.Message(), nil
}

// noField says that a message does not have a field, and which may be meant.
func noField(m protoreflect.MessageDescriptor, name string) *Error {
	e := &Error{Problem: fmt.Sprintf("message %s has no field %q", m.FullName(), name)}
	names := fieldNames(m)
	const few = 8
	switch e.Hint = didYouMean(name, names); {
	case e.Hint != "":
	case m.Oneofs().ByName(protoreflect.Name(name)) != nil:
		e.Hint = "that is a oneof; name one of its fields"
	case len(names) > 0 && len(names) <= few:
		e.Hint = "it has " + strings.Join(names, ", ")
	}
	return e
}

// typeName returns the type of a field as a schema has it.
func typeName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return fmt.Sprintf("map<%s, %s>", typeName(fd.MapKey()), typeName(fd.MapValue()))
	case fd.IsList():
		return "repeated " + elementName(fd)
	}
	return elementName(fd)
}

func elementName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().FullName())
	case fd.Enum() != nil:
		return string(fd.Enum().FullName())
	}
	return fd.Kind().String()
}

// contains reports whether the field that p leads to is that of other, or has it
// in it.
func (p path) contains(other path) bool {
	return len(p) <= len(other) && slices.Equal(p, other[:len(p)])
}

// conflict tells why two paths cannot both be set, "" if they can: a rule says
// nothing of an order in which that is done.
func conflict(a, b path) string {
	switch {
	case slices.Equal(a, b):
		return fmt.Sprintf("is the same field as %s", b)
	case a.contains(b) || b.contains(a):
		return fmt.Sprintf("overlaps with %s", b)
	}
	i := 0
	for a[i] == b[i] {
		i++
	}
	if one := a[i].ContainingOneof(); one != nil && one == b[i].ContainingOneof() {
		return fmt.Sprintf("is in the same oneof as %s, and only one of them can have a value", b)
	}
	return ""
}
