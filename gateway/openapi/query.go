package openapi

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxQuery is how many query parameters an operation has at most. A message that
// leads to more is for a body.
const maxQuery = 200

// nest is a message that query parameters can reach, by the fields that lead there.
type nest struct {
	d     protoreflect.MessageDescriptor
	field string // with dots, by names in the source
	name  string // with dots, by names in JSON
	above *nest
}

// inside reports whether it lies in a message of its own type: one that contains
// itself would never end.
func (n *nest) inside(d protoreflect.MessageDescriptor) bool {
	for ; n != nil; n = n.above {
		if n.d.FullName() == d.FullName() {
			return true
		}
	}
	return false
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// query returns parameters for all fields but those that are given: they come from
// the path or the body. Those of the message itself come first, then those of
// messages in it.
func (s *schemas) query(d protoreflect.MessageDescriptor, given []string) []*parameter {
	var all []*parameter
	todo := []*nest{{d: d}}
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		for i := range n.d.Fields().Len() {
			f := n.d.Fields().Get(i)
			field := join(n.field, string(f.Name()))
			if slices.Contains(given, field) || behaves(f, outputOnly) {
				continue
			}
			if p := s.queryParameter(n, f); p != nil {
				s.parts++
				if all = append(all, p); len(all) == maxQuery {
					return all
				}
			} else if nests(f) && !n.inside(f.Message()) && len(todo) < maxQuery {
				todo = append(todo, &nest{f.Message(), field, join(n.name, s.nameOf(f)), n})
			}
		}
	}
	return all
}

// nests reports whether a field is a message whose fields have parameters.
func nests(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Cardinality() != protoreflect.Repeated && wellKnown(f.Message().FullName()) == nil &&
		f.Message().FullName() != anyName
}

// queryParameter returns the parameter of a field, nil if there is none.
func (s *schemas) queryParameter(n *nest, f protoreflect.FieldDescriptor) *parameter {
	p := &parameter{
		Name: join(n.name, s.nameOf(f)), In: "query",
		Description: paragraphs(comment(f), s.exclusive(f)), Deprecated: deprecated(f),
		Required: n.above == nil && required(f),
	}
	switch {
	case f.IsMap():
		if !text(f.MapValue()) {
			return nil
		}
		p.Style, p.Explode = "deepObject", new(true) // name[key]=value
		p.Schema = s.field(f)
	case f.IsList():
		if !text(f) {
			return nil
		}
		p.Style, p.Explode = "form", new(true) // name=value&name=value
		p.Schema = s.field(f)
	case asJSON(f):
		p.Content = content{jsonType: {s.value(f)}}
	case text(f):
		p.Schema = s.value(f)
	default:
		return nil
	}
	return p
}

// text reports whether one value of f is written without quotes, as in a URL.
func text(f protoreflect.FieldDescriptor) bool {
	if f.Message() == nil {
		return true
	}
	known := wellKnown(f.Message().FullName())
	return known != nil && (known.AnyOf != nil || known.Type != "object" && known.Type != "array" && known.Type != "")
}

// asJSON reports whether f is a message that a URL has in JSON.
func asJSON(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil &&
		(f.Message().FullName() == "google.protobuf.Struct" || f.Message().FullName() == "google.protobuf.Value")
}

// exclusive says which fields exclude f.
func (s *schemas) exclusive(f protoreflect.FieldDescriptor) string {
	o := f.ContainingOneof()
	if o == nil || o.IsSynthetic() {
		return ""
	}
	var names []string
	for i := range o.Fields().Len() {
		names = append(names, "`"+s.nameOf(o.Fields().Get(i))+"`")
	}
	return "At most one of " + strings.Join(names, ", ") + "."
}
