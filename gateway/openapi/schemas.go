package openapi

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// schemas makes the schemas of messages and enums, each of them once, whatever it
// refers to. It is for one goroutine.
type schemas struct {
	marshal protojson.MarshalOptions
	all     map[string]*schema // by full name
	todo    []protoreflect.MessageDescriptor
	parts   int // fields and parameters so far; see maxParts
}

func newSchemas(marshal protojson.MarshalOptions) *schemas {
	return &schemas{marshal: marshal, all: make(map[string]*schema)}
}

// finish makes what has been referred to. It goes by a list rather than into the
// depth: a backend decides how long a chain of messages is.
func (s *schemas) finish() {
	for len(s.todo) > 0 && s.parts <= maxParts {
		d := s.todo[0]
		s.todo = s.todo[1:]
		*s.all[string(d.FullName())] = *s.object(d, nil)
	}
}

// message returns the schema of a message as a value.
func (s *schemas) message(d protoreflect.MessageDescriptor) *schema {
	if known := wellKnown(d.FullName()); known != nil {
		return known
	}
	name := string(d.FullName())
	if s.all[name] == nil {
		s.all[name] = new(schema)
		s.todo = append(s.todo, d)
	}
	return reference(name)
}

func reference(name string) *schema { return &schema{Ref: "#/components/schemas/" + name} }

// object returns the schema of a message's fields, without those whose values come
// from the path. Their names have dots where they lie deeper.
func (s *schemas) object(d protoreflect.MessageDescriptor, bound []string) *schema {
	if d.FullName() == anyName {
		return anySchema()
	}
	o := &schema{Type: "object", Description: paragraphs(comment(d), oneofs(s, d)), Deprecated: deprecated(d)}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if slices.Contains(bound, string(f.Name())) {
			continue
		}
		s.parts++
		o.Properties = append(o.Properties, property{s.nameOf(f), s.property(f, below(bound, f))})
		if required(f) {
			o.Required = append(o.Required, s.nameOf(f))
		}
	}
	return o
}

// nameOf returns the name of a field in JSON.
func (s *schemas) nameOf(f protoreflect.FieldDescriptor) string {
	if s.marshal.UseProtoNames {
		return f.TextName()
	}
	return f.JSONName()
}

// property returns the schema of a field as a member of an object.
func (s *schemas) property(f protoreflect.FieldDescriptor, bound []string) *schema {
	var value *schema
	if len(bound) > 0 && wellKnown(f.Message().FullName()) == nil { // the path leads through it
		value = s.object(f.Message(), bound)
	} else {
		value = s.field(f)
	}
	more := schema{
		Description: comment(f), Deprecated: deprecated(f), Nullable: value.Nullable || s.nullable(f),
		ReadOnly: behaves(f, outputOnly), WriteOnly: behaves(f, inputOnly),
	}
	if value.Ref == "" {
		value.Description = paragraphs(more.Description, value.Description)
		value.Deprecated, value.Nullable = value.Deprecated || more.Deprecated, more.Nullable
		value.ReadOnly, value.WriteOnly = more.ReadOnly, more.WriteOnly
		return value
	}
	if more.Description == "" && !more.Deprecated && !more.Nullable && !more.ReadOnly && !more.WriteOnly {
		return value
	}
	more.AllOf = []*schema{value} // what stands beside a $ref does not count
	return &more
}

// nullable reports whether an absent field is written as null.
func (s *schemas) nullable(f protoreflect.FieldDescriptor) bool {
	return s.marshal.EmitUnpopulated && f.HasPresence() && f.ContainingOneof() == nil &&
		f.Cardinality() != protoreflect.Required
}

// field returns the schema of a field's value.
func (s *schemas) field(f protoreflect.FieldDescriptor) *schema {
	switch {
	case f.IsMap():
		return &schema{Type: "object", AdditionalProperties: s.value(f.MapValue())}
	case f.IsList():
		return &schema{Type: "array", Items: s.value(f)}
	}
	return s.value(f)
}

// value returns the schema of one value of a field.
func (s *schemas) value(f protoreflect.FieldDescriptor) *schema {
	switch f.Kind() {
	case protoreflect.EnumKind:
		return s.enum(f.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message())
	}
	return scalar(f.Kind())
}

// scalar returns the schema of a value that is no message and no enum.
func scalar(kind protoreflect.Kind) *schema {
	switch kind {
	case protoreflect.BoolKind:
		return &schema{Type: "boolean"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return &schema{Type: "integer", Format: "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return &schema{Type: "integer", Format: "int64", Minimum: new(int64(0)), Maximum: new(int64(1<<32 - 1))}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return &schema{Type: "string", Format: "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return &schema{Type: "string", Format: "uint64"}
	case protoreflect.FloatKind:
		return floating("float")
	case protoreflect.DoubleKind:
		return floating("double")
	case protoreflect.BytesKind:
		return &schema{Type: "string", Format: "byte"}
	}
	return &schema{Type: "string"}
}

// floating returns the schema of a number that may be none, for which JSON has no number.
func floating(format string) *schema {
	return &schema{AnyOf: []*schema{
		{Type: "number", Format: format}, {Type: "string", Enum: []any{"NaN", "Infinity", "-Infinity"}},
	}}
}

// enum returns the schema of an enum as a value.
func (s *schemas) enum(d protoreflect.EnumDescriptor) *schema {
	if d.FullName() == nullName {
		return nullSchema()
	}
	name := string(d.FullName())
	if s.all[name] == nil {
		s.all[name] = s.enumValues(d)
	}
	return reference(name)
}

func (s *schemas) enumValues(d protoreflect.EnumDescriptor) *schema {
	e := &schema{Type: "string", Deprecated: deprecated(d)}
	if s.marshal.UseEnumNumbers {
		e.Type, e.Format = "integer", "int32"
	}
	var lines []string
	for i := range d.Values().Len() {
		v := d.Values().Get(i)
		value := any(string(v.Name()))
		if s.marshal.UseEnumNumbers {
			value = int32(v.Number())
		}
		if !slices.Contains(e.Enum, value) { // numbers may have several names
			e.Enum = append(e.Enum, value)
		}
		if line := valueLine(v, value); line != "" {
			lines = append(lines, line)
		}
	}
	e.Description = paragraphs(comment(d), strings.Join(lines, "\n"))
	return e
}

// valueLine returns what there is to say of a value beyond what JSON has for it.
func valueLine(v protoreflect.EnumValueDescriptor, value any) string {
	about := strings.Join(strings.Fields(comment(v)), " ")
	if deprecated(v) {
		about = strings.TrimSpace("(deprecated) " + about)
	}
	if value != string(v.Name()) {
		about = strings.TrimSpace(string(v.Name()) + " " + about)
	}
	if about == "" {
		return ""
	}
	return fmt.Sprintf("- `%v`: %s", value, about)
}

// oneofs says which fields exclude each other, which JSON schemas of OpenAPI 3.0 can
// say only in a way that makes generated code hard to use.
func oneofs(s *schemas, d protoreflect.MessageDescriptor) string {
	var lines []string
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		var names []string
		for j := range o.Fields().Len() {
			names = append(names, "`"+s.nameOf(o.Fields().Get(j))+"`")
		}
		line := fmt.Sprintf("At most one of %s (`%s`).", strings.Join(names, ", "), o.Name())
		lines = append(lines, paragraphs(line, comment(o)))
	}
	return strings.Join(lines, "\n\n")
}
