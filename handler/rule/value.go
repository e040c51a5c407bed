package rule

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// NativeToValue returns the CEL value of what messages and CEL itself have.
func (s *schema) NativeToValue(v any) ref.Val { return s.unpaid.NativeToValue(v) }

// values makes the values of an evaluation, which pays for what has to be decoded: a
// value is made again each time that an expression asks for it.
type values struct {
	*schema
	pays *activation // nil for nobody
}

// NativeToValue is the schema's.
func (s *values) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case ref.Val:
		return v
	case proto.Message:
		return s.fromMessage(v.ProtoReflect())
	case protoreflect.List:
		return types.NewProtoList(s, v)
	case protoreflect.EnumNumber:
		return types.Int(v)
	}
	return s.adapter.NativeToValue(v)
}

// field returns the value of a field, the default if it is not set.
func (s *values) field(m protoreflect.Message, fd protoreflect.FieldDescriptor) ref.Val {
	v := m.Get(fd)
	switch {
	case fd.IsMap():
		return &mapping[fieldEntries]{fieldEntries{v.Map(), fd, s}}
	case fd.IsList():
		return types.NewProtoList(s, v.List())
	}
	return s.singular(fd, v)
}

// singular returns the value of a field, or of an element of it.
func (s *values) singular(fd protoreflect.FieldDescriptor, v protoreflect.Value) ref.Val {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return types.String(v.String())
	case protoreflect.BytesKind:
		return types.Bytes(v.Bytes())
	case protoreflect.BoolKind:
		return types.Bool(v.Bool())
	case protoreflect.EnumKind:
		return types.Int(v.Enum())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return types.Double(v.Float())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return types.Uint(v.Uint())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.fromMessage(v.Message())
	}
	return types.Int(v.Int())
}

// fromMessage returns the value of a message, which for some of package
// google.protobuf is not a message.
func (s *values) fromMessage(m protoreflect.Message) ref.Val {
	if wellKnown(m.Descriptor()) {
		if v := s.fromWellKnown(m); v != nil {
			return v
		}
	}
	return &message{m, s}
}

// wellKnown reports whether a message may be one that CEL has another form for.
func wellKnown(m protoreflect.MessageDescriptor) bool {
	return m.FullName().Parent() == "google.protobuf"
}

// wrapped returns the field of the value in a google.protobuf.StringValue and its
// like, nil for any other message.
func wrapped(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if !wellKnown(m) {
		return nil
	}
	switch m.Name() {
	case "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value", "StringValue",
		"UInt32Value", "UInt64Value":
		return m.Fields().ByNumber(1)
	}
	return nil
}

// fromWellKnown returns nil for a message that is nothing special.
func (s *values) fromWellKnown(m protoreflect.Message) ref.Val {
	if value := wrapped(m.Descriptor()); value != nil {
		if !m.IsValid() {
			return types.NullValue
		}
		return s.singular(value, m.Get(value))
	}
	switch m.Descriptor().Name() {
	case "Timestamp":
		seconds, nanos := secondsAndNanos(m)
		if seconds > maxUnix || seconds < minUnix {
			return types.WrapErr(errTime)
		}
		return types.Timestamp{Time: time.Unix(seconds, nanos).UTC()}
	case "Duration":
		seconds, nanos := secondsAndNanos(m)
		if seconds > maxSeconds || seconds < -maxSeconds {
			return types.WrapErr(errTime)
		}
		return types.Duration{Duration: time.Duration(seconds)*time.Second + time.Duration(nanos)}
	case "Any":
		return s.fromAny(m)
	case "Struct":
		return s.transcoded(m, new(structpb.Struct))
	case "ListValue":
		return s.transcoded(m, new(structpb.ListValue))
	case "Value":
		return s.transcoded(m, new(structpb.Value))
	}
	return nil
}

// The seconds that a Timestamp can have: from year 1 to year 9999.
const minUnix, maxUnix = -62135596800, 253402300799

// maxSeconds is what a time.Duration can have, less what nanos may add.
const maxSeconds = int64(math.MaxInt64/time.Second) - 3

// number returns the field of that number.
func number(m protoreflect.Message, n protoreflect.FieldNumber) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByNumber(n)
}

func secondsAndNanos(m protoreflect.Message) (seconds, nanos int64) {
	return m.Get(number(m, 1)).Int(), m.Get(number(m, 2)).Int()
}

// fromAny returns the message in an Any, null if there is none.
func (s *values) fromAny(m protoreflect.Message) ref.Val {
	url := m.Get(number(m, 1)).String()
	if url == "" {
		return types.NullValue
	}
	in := s.byURL(url)
	if in == nil {
		return types.WrapErr(errAny)
	}
	packed := m.Get(number(m, 2)).Bytes()
	if !s.pays.pay(len(packed) / bytesPerDecoding) {
		return types.WrapErr(errCost)
	}
	if err := s.unmarshal(packed, in); err != nil {
		return types.WrapErr(errAny)
	}
	return s.fromMessage(in.ProtoReflect())
}

// byURL returns an empty message of the type with a URL, nil if there is none.
func (s *schema) byURL(url string) proto.Message {
	name := protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
	if md, ok := s.find(name).(protoreflect.MessageDescriptor); ok {
		return dynamicpb.NewMessage(md)
	}
	t, err := s.types.FindMessageByURL(url)
	if err != nil && name.Parent() == "google.protobuf" {
		t, err = protoregistry.GlobalTypes.FindMessageByName(name)
	}
	if err != nil {
		return nil
	}
	return t.New().Interface()
}

// transcoded returns the value that CEL makes of a message of the same type that
// is linked into the program.
func (s *values) transcoded(from protoreflect.Message, to proto.Message) ref.Val {
	if !s.pays.pay(proto.Size(from.Interface()) / bytesPerDecoding) {
		return types.WrapErr(errCost)
	}
	if err := s.transcode(from.Interface(), to); err != nil {
		return types.WrapErr(err)
	}
	return s.adapter.NativeToValue(to)
}

// transcode copies a message to one whose type has the same name.
func (s *schema) transcode(from, to proto.Message) error {
	b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(from)
	if err != nil {
		return errBroken
	}
	return s.unmarshal(b, to)
}

// unmarshal decodes a message. It returns an error where package proto panics: of
// a dynamic message with a map whose entry has its key twice, and the second time
// none of the key's type (v1.36.12, unmarshalMap).
func (s *schema) unmarshal(b []byte, m proto.Message) (err error) {
	defer func() {
		if recover() != nil {
			err = errBroken
		}
	}()
	if (proto.UnmarshalOptions{Resolver: s.types, AllowPartial: true}).Unmarshal(b, m) != nil {
		return errBroken
	}
	return nil
}

// message is the value of a message in CEL.
type message struct {
	m      protoreflect.Message
	schema *values
}

var (
	anyType   = reflect.TypeFor[*anypb.Any]()
	valueType = reflect.TypeFor[*structpb.Value]()
)

// ConvertToNative returns the message, or what holds it in an Any or a Value.
func (m *message) ConvertToNative(t reflect.Type) (any, error) {
	switch p := m.m.Interface(); {
	case reflect.TypeOf(p).AssignableTo(t):
		return p, nil
	case t == anyType:
		packed := new(anypb.Any)
		return packed, anypb.MarshalFrom(packed, p, proto.MarshalOptions{AllowPartial: true, Deterministic: true})
	case t == valueType:
		b, err := protojson.MarshalOptions{Resolver: m.schema.types}.Marshal(p)
		if err != nil {
			return nil, err
		}
		v := new(structpb.Value)
		return v, protojson.Unmarshal(b, v)
	}
	return nil, fmt.Errorf("type conversion error from %s to %v", m.m.Descriptor().FullName(), t)
}

// ConvertToType returns the message's type, or itself.
func (m *message) ConvertToType(t ref.Type) ref.Val {
	switch {
	case t == types.TypeType:
		return types.NewObjectType(m.Type().TypeName())
	case t.TypeName() == m.Type().TypeName():
		return m
	}
	return types.WrapErr(errType(m, t.TypeName()))
}

// Equal reports whether other is the same message. One that is not set is as good
// as one with nothing in it.
func (m *message) Equal(other ref.Val) ref.Val {
	o, ok := holder(other)
	return types.Bool(ok && proto.Equal(valid(m.m), valid(o)))
}

func valid(m protoreflect.Message) proto.Message {
	if !m.IsValid() {
		m = m.Type().New()
	}
	return m.Interface()
}

// Type returns the message's type.
func (m *message) Type() ref.Type { return types.NewObjectType(string(m.m.Descriptor().FullName())) }

// Value returns the message itself: who asks it for a field is to know who pays.
func (m *message) Value() any { return m }

// IsZeroValue reports whether nothing is set.
func (m *message) IsZeroValue() bool { return proto.Size(m.m.Interface()) == 0 }

// IsSet reports whether a field is set, for expressions that do not know the type.
func (m *message) IsSet(field ref.Val) ref.Val {
	fd := m.named(field)
	if fd == nil {
		return types.WrapErr(errNoField)
	}
	return types.Bool(m.m.Has(fd))
}

// Get returns the value of a field, for expressions that do not know the type.
func (m *message) Get(field ref.Val) ref.Val {
	fd := m.named(field)
	if fd == nil {
		return types.WrapErr(errNoField)
	}
	return m.schema.field(m.m, fd)
}

func (m *message) named(field ref.Val) protoreflect.FieldDescriptor {
	name, ok := field.(types.String)
	if !ok {
		return nil
	}
	return fieldOf(m.m.Descriptor(), string(name))
}
