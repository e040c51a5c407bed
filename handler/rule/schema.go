package rule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Types finds messages that a method's own files do not import: those that
// expressions name, and those in a google.protobuf.Any. *dynamicpb.Types is such.
// It is asked concurrently.
type Types interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// schema is the messages and enums of a method's files and of Types, for CEL: a
// types.Provider and types.Adapter. It does the work of CEL's own registry, which
// takes the types that happen to be linked into the program for those of the
// same file name in the schema, and knows no others in an Any.
//
// The types that CEL has a form of its own for, such as google.protobuf.Timestamp,
// are left to CEL. Once rules are compiled it may be used concurrently.
type schema struct {
	files []protoreflect.FileDescriptor // with everything they import
	types Types

	// What CEL comes with.
	base    types.Provider
	adapter types.Adapter

	unpaid *values // of what is outside of evaluations

	mu     sync.Mutex // guards absent
	absent []absent
}

// absent is a field that an expression has asked for, and that is not there.
type absent struct {
	message protoreflect.MessageDescriptor
	field   string
}

func newSchema(base *cel.Env, method protoreflect.MethodDescriptor, t Types) (*schema, *Error) {
	s := &schema{types: t, base: base.CELTypeProvider(), adapter: base.CELTypeAdapter()}
	s.unpaid = &values{schema: s}
	if t == nil {
		s.types = new(protoregistry.Types)
	}
	seen := make(map[string]bool)
	s.addFile(method.ParentFile(), seen)
	s.addFile(method.Input().ParentFile(), seen)
	s.addFile(method.Output().ParentFile(), seen)
	for _, f := range s.files {
		for i := range f.Messages().Len() {
			if m := f.Messages().Get(i); !genuine(m) {
				return nil, &Error{Problem: fmt.Sprintf("the schema has another %s (%s) than there is", m.FullName(), f.Path())}
			}
		}
	}
	return s, nil
}

// genuine reports whether a message has the fields that are looked for in one of
// its name, if CEL has a form of its own for that. A schema may come from a
// backend, and have anything.
func genuine(m protoreflect.MessageDescriptor) bool {
	if types.NewObjectType(string(m.FullName())).Kind() == types.StructKind {
		return true
	}
	linked, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
	if err != nil {
		return false
	}
	for i := range linked.Descriptor().Fields().Len() {
		want := linked.Descriptor().Fields().Get(i)
		has := m.Fields().ByNumber(want.Number())
		if has == nil || has.Kind() != want.Kind() ||
			has.Cardinality() != want.Cardinality() || has.HasPresence() != want.HasPresence() {
			return false
		}
	}
	return true
}

func (s *schema) addFile(f protoreflect.FileDescriptor, seen map[string]bool) {
	if seen[f.Path()] || f.IsPlaceholder() {
		return
	}
	seen[f.Path()] = true
	s.files = append(s.files, f)
	for i := range f.Imports().Len() {
		s.addFile(f.Imports().Get(i).FileDescriptor, seen)
	}
}

// find returns the message or enum of that full name, nil if there is none.
func (s *schema) find(name protoreflect.FullName) protoreflect.Descriptor {
	for _, f := range s.files {
		rest := string(name)
		if p := string(f.Package()); p != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(rest, p+"."); !ok {
				continue
			}
		}
		if d := within(f, rest); d != nil {
			return d
		}
	}
	return nil
}

// scope is a file, or a message with types in it.
type scope interface {
	Messages() protoreflect.MessageDescriptors
	Enums() protoreflect.EnumDescriptors
}

func within(in scope, name string) protoreflect.Descriptor {
	first, rest, more := strings.Cut(name, ".")
	if m := in.Messages().ByName(protoreflect.Name(first)); m != nil {
		if more {
			return within(m, rest)
		}
		return m
	}
	if e := in.Enums().ByName(protoreflect.Name(first)); e != nil && !more {
		return e
	}
	return nil
}

// message returns the message of that full name, nil if there is none, or CEL has
// a form of its own for it.
func (s *schema) message(name string) protoreflect.MessageDescriptor {
	if types.NewObjectType(name).Kind() != types.StructKind {
		return nil
	}
	if m, ok := s.find(protoreflect.FullName(name)).(protoreflect.MessageDescriptor); ok {
		return m
	}
	if t, err := s.types.FindMessageByName(protoreflect.FullName(name)); err == nil {
		return t.Descriptor()
	}
	return nil
}

// EnumValue returns the number of an enum value.
func (s *schema) EnumValue(name string) ref.Val {
	if v, ok := s.enumValue(name); ok {
		return v
	}
	return s.base.EnumValue(name)
}

func (s *schema) enumValue(name string) (ref.Val, bool) {
	full := protoreflect.FullName(name)
	if enum, ok := s.find(full.Parent()).(protoreflect.EnumDescriptor); ok {
		if v := enum.Values().ByName(full.Name()); v != nil {
			return types.Int(v.Number()), true
		}
	}
	return nil, false
}

// FindIdent returns the message type or the enum value of that name.
func (s *schema) FindIdent(name string) (ref.Val, bool) {
	if v, ok := s.enumValue(name); ok {
		return v, true
	}
	if s.message(name) != nil {
		return types.NewObjectType(name), true
	}
	return s.base.FindIdent(name)
}

// FindStructType returns the message type of that name.
func (s *schema) FindStructType(name string) (*types.Type, bool) {
	if s.message(name) != nil {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return s.base.FindStructType(name)
}

// FindStructFieldNames returns the fields of a message.
func (s *schema) FindStructFieldNames(name string) ([]string, bool) {
	if m := s.message(name); m != nil {
		return fieldNames(m), true
	}
	return s.base.FindStructFieldNames(name)
}

// FindStructFieldType returns the type of a field, and how to get at its value.
func (s *schema) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	m := s.message(name)
	if m == nil {
		return s.base.FindStructFieldType(name, field)
	}
	fd := fieldOf(m, field)
	if fd == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.absent = append(s.absent, absent{m, field})
		return nil, false
	}
	return &types.FieldType{
		Type: celType(fd),
		IsSet: func(target any) bool {
			m, ok := holder(target)
			return ok && m.Has(fd)
		},
		GetFrom: func(target any) (any, error) {
			m, ok := holder(target)
			if !ok {
				return nil, errNoField
			}
			v := s.of(target).field(m, fd)
			if err, failed := v.(*types.Err); failed {
				return nil, err
			}
			return v, nil
		},
	}, true
}

// holder returns the message that an expression selects a field of. There is none
// in null.
func holder(target any) (protoreflect.Message, bool) {
	switch p := target.(type) {
	case *message:
		return p.m, true
	case proto.Message:
		return p.ProtoReflect(), true
	}
	return nil, false
}

// of returns what makes the values of the fields of a target.
func (s *schema) of(target any) *values {
	if m, ok := target.(*message); ok {
		return m.schema
	}
	return s.unpaid
}

// forget forgets what expressions have asked for in vain.
func (s *schema) forget() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent = nil
}

// missing returns the first message that has been asked for a field that it does
// not have, nil if there is none. The next time it is the next one.
func (s *schema) missing(field string) protoreflect.MessageDescriptor {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range s.absent {
		if a.field == field {
			s.absent = slices.Delete(s.absent, i, i+1)
			return a.message
		}
	}
	return nil
}

// NewValue makes the value of a message in an expression.
func (s *schema) NewValue(name string, fields map[string]ref.Val) ref.Val {
	md := s.message(name)
	if md == nil {
		return s.base.NewValue(name, fields)
	}
	m := dynamicpb.NewMessage(md)
	for _, field := range slices.Sorted(maps.Keys(fields)) { // two may be of one oneof
		fd := fieldOf(md, field)
		if fd == nil {
			return types.WrapErr(errNoField)
		}
		converted, err := s.convert(fd, fields[field])
		if err != nil {
			return types.WrapErr(err)
		}
		if converted.IsValid() {
			m.Set(fd, converted)
		}
	}
	return &message{m, s.unpaid}
}

// fieldOf returns the field of that name, or of that JSON name, nil if there is
// none.
func fieldOf(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := m.Fields().ByName(protoreflect.Name(name)); fd != nil {
		return fd
	}
	return m.Fields().ByJSONName(name)
}

func fieldNames(m protoreflect.MessageDescriptor) []string {
	names := make([]string, m.Fields().Len())
	for i := range names {
		names[i] = string(m.Fields().Get(i).Name())
	}
	return names
}

// celType returns the type that a field's values have in CEL.
func celType(fd protoreflect.FieldDescriptor) *cel.Type {
	switch {
	case fd.IsMap():
		return cel.MapType(singularType(fd.MapKey()), singularType(fd.MapValue()))
	case fd.IsList():
		return cel.ListType(singularType(fd))
	}
	return singularType(fd)
}

func singularType(fd protoreflect.FieldDescriptor) *cel.Type {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return cel.ObjectType(string(fd.Message().FullName()))
	case protoreflect.EnumKind:
		return cel.IntType
	}
	return types.ProtoCELPrimitives[fd.Kind()]
}
