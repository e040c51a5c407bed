package rule

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// accepts reports whether a field takes what an expression of type t has as its
// value, as far as that can be told by the type.
func accepts(fd protoreflect.FieldDescriptor, t *cel.Type) bool {
	switch {
	case untyped(t):
		return true
	case fd.IsMap():
		return t.Kind() == types.MapKind &&
			acceptsSingular(fd.MapKey(), t.Parameters()[0]) && acceptsSingular(fd.MapValue(), t.Parameters()[1])
	case fd.IsList():
		return t.Kind() == types.ListKind && acceptsSingular(fd, t.Parameters()[0])
	}
	return acceptsSingular(fd, t)
}

// untyped reports whether an expression of type t may have any value.
func untyped(t *cel.Type) bool { return t.Kind() == types.DynKind || t.Kind() == types.AnyKind }

func acceptsSingular(fd protoreflect.FieldDescriptor, t *cel.Type) bool {
	kind := t.Kind()
	if untyped(t) {
		return true
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return kind == types.BoolKind
	case protoreflect.StringKind:
		return kind == types.StringKind
	case protoreflect.BytesKind:
		return kind == types.BytesKind
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return kind == types.DoubleKind
	case protoreflect.EnumKind:
		return kind == types.IntKind || kind == types.UintKind || kind == types.StringKind
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return kind == types.NullTypeKind || acceptsMessage(fd.Message(), t)
	}
	return kind == types.IntKind || kind == types.UintKind
}

func acceptsMessage(m protoreflect.MessageDescriptor, t *cel.Type) bool {
	if !wellKnown(m) {
		return t.TypeName() == string(m.FullName())
	}
	kind := t.Kind()
	switch m.Name() {
	case "Any", "Value":
		return kind != types.OpaqueKind && kind != types.TypeKind
	case "Struct":
		return kind == types.MapKind || kind == types.StructKind
	case "ListValue":
		return kind == types.ListKind
	case "Timestamp":
		return kind == types.TimestampKind
	case "Duration":
		return kind == types.DurationKind
	}
	if value := wrapped(m); value != nil {
		return acceptsSingular(value, t)
	}
	return t.TypeName() == string(m.FullName())
}

// convert returns a value of an expression as one of a field, in memory of its
// own. It is not valid if the field is to be cleared.
func (s *schema) convert(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	switch {
	case fd.IsMap():
		return s.convertMap(fd, v)
	case fd.IsList():
		return s.convertList(fd, v)
	case v == types.NullValue && fd.Message() != nil && fd.Message().FullName() != "google.protobuf.Value":
		return protoreflect.Value{}, nil
	}
	return s.convertSingular(fd, v)
}

func (s *schema) convertList(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	from, ok := v.(traits.Lister)
	if !ok {
		return protoreflect.Value{}, errType(v, "a list")
	}
	to := dynamicpb.NewMessage(fd.ContainingMessage()).NewField(fd)
	for it := from.Iterator(); it.HasNext() == types.True; {
		element, err := s.convertElement(fd, it.Next())
		if err != nil {
			return protoreflect.Value{}, err
		}
		to.List().Append(element)
	}
	return to, nil
}

func (s *schema) convertMap(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	from, ok := v.(traits.Mapper)
	if !ok {
		return protoreflect.Value{}, errType(v, "a map")
	}
	to := dynamicpb.NewMessage(fd.ContainingMessage()).NewField(fd)
	for it := from.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		key, err := scalar(fd.MapKey(), k)
		if err != nil {
			return protoreflect.Value{}, err
		}
		element, err := s.convertElement(fd.MapValue(), from.Get(k))
		if err != nil {
			return protoreflect.Value{}, err
		}
		to.Map().Set(key.MapKey(), element)
	}
	return to, nil
}

func (s *schema) convertElement(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	if v == types.NullValue && (fd.Message() == nil || fd.Message().FullName() != "google.protobuf.Value") {
		return protoreflect.Value{}, errNull
	}
	return s.convertSingular(fd, v)
}

func (s *schema) convertSingular(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	if err, failed := v.(*types.Err); failed {
		return protoreflect.Value{}, err
	}
	if fd.Message() == nil {
		return scalar(fd, v)
	}
	m := dynamicpb.NewMessage(fd.Message())
	if err := s.fill(m, v); err != nil {
		return protoreflect.Value{}, err
	}
	return protoreflect.ValueOfMessage(m), nil
}

// fill gives an empty message the value of an expression.
func (s *schema) fill(m *dynamicpb.Message, v ref.Val) error {
	md := m.Descriptor()
	if wellKnown(md) {
		if filled, err := s.fillWellKnown(m, v); filled || err != nil {
			return err
		}
	}
	from, ok := holder(v)
	if !ok || from.Descriptor() != md {
		return errType(v, string(md.FullName()))
	}
	proto.Merge(m, from.Interface())
	return nil
}

// fillWellKnown returns false if nothing special is known of the message.
func (s *schema) fillWellKnown(m *dynamicpb.Message, v ref.Val) (bool, error) {
	if value := wrapped(m.Descriptor()); value != nil {
		inner, err := scalar(value, v)
		if err == nil {
			m.Set(value, inner)
		}
		return true, err
	}
	switch m.Descriptor().Name() {
	case "Timestamp":
		t, ok := v.(types.Timestamp)
		if !ok {
			return true, errType(v, "a timestamp")
		}
		setSecondsAndNanos(m, t.Unix(), int64(t.Nanosecond()))
		return true, nil
	case "Duration":
		d, ok := v.(types.Duration)
		if !ok {
			return true, errType(v, "a duration")
		}
		setSecondsAndNanos(m, int64(d.Duration/1e9), int64(d.Duration%1e9))
		return true, nil
	case "Any":
		return true, s.fillAny(m, v)
	case "Struct", "ListValue", "Value":
		return true, s.fillJSON(m, v)
	}
	return false, nil
}

func setSecondsAndNanos(m *dynamicpb.Message, seconds, nanos int64) {
	m.Set(number(m, 1), protoreflect.ValueOfInt64(seconds))
	m.Set(number(m, 2), protoreflect.ValueOfInt32(int32(nanos)))
}

func (s *schema) fillAny(m *dynamicpb.Message, v ref.Val) error {
	native, err := v.ConvertToNative(anyType)
	if err != nil {
		return errType(v, "a message")
	}
	packed := native.(*anypb.Any)
	m.Set(number(m, 1), protoreflect.ValueOfString(packed.TypeUrl))
	m.Set(number(m, 2), protoreflect.ValueOfBytes(packed.Value))
	return nil
}

// fillJSON gives a Struct, ListValue or Value the form of a value in JSON.
func (s *schema) fillJSON(m *dynamicpb.Message, v ref.Val) error {
	native, err := v.ConvertToNative(valueType)
	if err != nil {
		return errJSON
	}
	value := native.(*structpb.Value)
	switch m.Descriptor().Name() {
	case "Struct":
		if value.GetStructValue() == nil {
			return errType(v, "a map")
		}
		return s.transcode(value.GetStructValue(), m)
	case "ListValue":
		if value.GetListValue() == nil {
			return errType(v, "a list")
		}
		return s.transcode(value.GetListValue(), m)
	}
	return s.transcode(value, m)
}

// scalar returns the value of a field, or of an element of it, that is no message.
func scalar(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if b, ok := v.(types.Bool); ok {
			return protoreflect.ValueOfBool(bool(b)), nil
		}
	case protoreflect.StringKind:
		if text, ok := v.(types.String); ok {
			if !utf8.ValidString(string(text)) {
				return protoreflect.Value{}, errUTF8
			}
			return protoreflect.ValueOfString(string(text)), nil
		}
	case protoreflect.BytesKind:
		if b, ok := v.(types.Bytes); ok {
			return protoreflect.ValueOfBytes(bytes.Clone([]byte(b))), nil
		}
	case protoreflect.DoubleKind:
		if d, ok := v.(types.Double); ok {
			return protoreflect.ValueOfFloat64(float64(d)), nil
		}
	case protoreflect.FloatKind:
		if d, ok := v.(types.Double); ok {
			f := float32(d)
			if math.IsInf(float64(f), 0) && !math.IsInf(float64(d), 0) {
				return protoreflect.Value{}, errOutOfRange(fd)
			}
			return protoreflect.ValueOfFloat32(f), nil
		}
	case protoreflect.EnumKind:
		return enumValue(fd.Enum(), v)
	default:
		return integer(fd, v)
	}
	return protoreflect.Value{}, errType(v, fd.Kind().String())
}

// integer returns the value of a field that is an integer of any kind.
func integer(fd protoreflect.FieldDescriptor, v ref.Val) (protoreflect.Value, error) {
	var signed int64
	var unsigned uint64
	var isSigned, isUnsigned bool // whether these have the value
	switch n := v.(type) {
	case types.Int:
		signed, unsigned, isSigned, isUnsigned = int64(n), uint64(n), true, n >= 0
	case types.Uint:
		signed, unsigned, isSigned, isUnsigned = int64(n), uint64(n), n <= math.MaxInt64, true
	default:
		return protoreflect.Value{}, errType(v, fd.Kind().String())
	}
	switch fd.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if isSigned && signed == int64(int32(signed)) {
			return protoreflect.ValueOfInt32(int32(signed)), nil
		}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if isUnsigned && unsigned <= math.MaxUint32 {
			return protoreflect.ValueOfUint32(uint32(unsigned)), nil
		}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if isUnsigned {
			return protoreflect.ValueOfUint64(unsigned), nil
		}
	default:
		if isSigned {
			return protoreflect.ValueOfInt64(signed), nil
		}
	}
	return protoreflect.Value{}, errOutOfRange(fd)
}

// enumValue returns the value of an enum field by number or by name.
func enumValue(enum protoreflect.EnumDescriptor, v ref.Val) (protoreflect.Value, error) {
	var n int64
	switch v := v.(type) {
	case types.String:
		value := enum.Values().ByName(protoreflect.Name(v))
		if value == nil {
			return protoreflect.Value{}, failure(fmt.Sprintf("enum %s has no value of that name", enum.FullName()))
		}
		return protoreflect.ValueOfEnum(value.Number()), nil
	case types.Int:
		n = int64(v)
	case types.Uint:
		n = int64(min(v, math.MaxInt64))
	default:
		return protoreflect.Value{}, errType(v, "a value of enum "+string(enum.FullName()))
	}
	if n < math.MinInt32 || n > math.MaxInt32 || enum.IsClosed() && enum.Values().ByNumber(protoreflect.EnumNumber(n)) == nil {
		return protoreflect.Value{}, failure(fmt.Sprintf("enum %s has no value of that number", enum.FullName()))
	}
	return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), nil
}
