package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// queryParser is grpc-gateway's, for enums of schemas that are not part of the
// program, too: that one looks for them among the generated ones. And it reads the paths
// of field masks as JSON has them, besides those that .proto files have.
type queryParser struct{ runtime.DefaultQueryParser }

// Parse sets the fields of m that values name, except for those in filter.
func (p *queryParser) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	rest, cloned := values, false
	seen := make(map[string]bool)
	for name, list := range values {
		fields, key := resolve(m.ProtoReflect().Descriptor(), name)
		if fields == nil || !isEnum(fields[len(fields)-1]) && !isMask(fields[len(fields)-1]) {
			continue
		}
		if !cloned {
			rest, cloned = maps.Clone(values), true
		}
		if isMask(fields[len(fields)-1]) {
			rest[name] = inSnakeCase(list)
			continue
		}
		delete(rest, name)
		path := namesOfFields(fields)
		if filter.HasCommonPrefix(path) {
			continue
		}
		full := strings.Join(path, ".") + "[" + key + "]"
		if seen[full] {
			return fmt.Errorf("duplicate field %q", strings.Join(path, "."))
		}
		seen[full] = true
		if err := setEnums(m.ProtoReflect(), fields, key, list); err != nil {
			return err
		}
	}
	return p.DefaultQueryParser.Parse(m, rest, filter)
}

// resolve returns the fields that a parameter's name goes by, nil if there are none
// or they are none of ours, and the key if the name ends in [KEY].
func resolve(m protoreflect.MessageDescriptor, name string) (fields []protoreflect.FieldDescriptor, key string) {
	if before, ok := strings.CutSuffix(name, "]"); ok {
		if i := strings.IndexByte(before, '['); i >= 0 {
			name, key = before[:i], before[i+1:]
		}
	}
	for part := range strings.SplitSeq(name, ".") {
		if m == nil {
			return nil, ""
		}
		f := m.Fields().ByName(protoreflect.Name(part))
		if f == nil {
			f = m.Fields().ByJSONName(part)
		}
		if f == nil {
			return nil, ""
		}
		fields = append(fields, f)
		m = f.Message()
		if f.IsList() || f.IsMap() {
			m = nil
		}
	}
	return fields, key
}

func isEnum(f protoreflect.FieldDescriptor) bool {
	if f.IsMap() {
		f = f.MapValue()
	}
	return f.Enum() != nil
}

func isMask(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() == "google.protobuf.FieldMask"
}

// inSnakeCase returns paths with the names of .proto files, as JSON's are made names of a
// field mask: https://protobuf.dev/reference/protobuf/google.protobuf/#json-encoding-field-masks.
func inSnakeCase(list []string) []string {
	converted := make([]string, len(list))
	for i, paths := range list {
		var b []byte
		for _, c := range []byte(paths) {
			if 'A' <= c && c <= 'Z' {
				b = append(b, '_')
				c += 'a' - 'A'
			}
			b = append(b, c)
		}
		converted[i] = string(b)
	}
	return converted
}

func namesOfFields(fields []protoreflect.FieldDescriptor) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = string(f.Name())
	}
	return names
}

// setEnums sets a field of an enum, a list of them or an entry of a map of them.
func setEnums(m protoreflect.Message, fields []protoreflect.FieldDescriptor, key string, values []string) error {
	last := fields[len(fields)-1]
	parent, err := parentOf(m, fields)
	if err != nil {
		return err
	}
	switch {
	case len(values) == 0:
		return fmt.Errorf("no value for field %q", last.Name())
	case last.IsMap():
		return setEntry(parent, last, key, values)
	case key != "" || len(values) > 1 && !last.IsList():
		return fmt.Errorf("too many values for field %q: %s", last.Name(), strings.Join(values, ", "))
	}
	for _, v := range values {
		n, err := enumNumber(last.Enum(), v)
		if err != nil {
			return fmt.Errorf("parsing field %q: %w", last.Name(), err)
		}
		if last.IsList() {
			parent.Mutable(last).List().Append(n)
		} else {
			parent.Set(last, n)
		}
	}
	return nil
}

// setEntry adds an entry to a map, of which package runtime reads the key.
func setEntry(parent protoreflect.Message, f protoreflect.FieldDescriptor, key string, values []string) error {
	if len(values) != 1 {
		return fmt.Errorf("more than one value provided for key %q in map %q", key, f.Name())
	}
	n, err := enumNumber(f.MapValue().Enum(), values[0])
	if err != nil {
		return fmt.Errorf("parsing map value %q: %w", f.Name(), err)
	}
	k, err := mapKey(f.MapKey(), key)
	if err != nil {
		return fmt.Errorf("parsing map key %q: %w", f.Name(), err)
	}
	parent.Mutable(f).Map().Set(k, n)
	return nil
}

func mapKey(f protoreflect.FieldDescriptor, key string) (k protoreflect.MapKey, err error) {
	var v any
	switch f.Kind() {
	case protoreflect.BoolKind:
		v, err = runtime.Bool(key)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		v, err = runtime.Int32(key)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		v, err = runtime.Int64(key)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		v, err = runtime.Uint32(key)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		v, err = runtime.Uint64(key)
	default:
		v = key
	}
	return protoreflect.ValueOf(v).MapKey(), err
}

// enumNumber returns the value of an enum by its name or its number.
func enumNumber(e protoreflect.EnumDescriptor, value string) (protoreflect.Value, error) {
	d := e.Values().ByName(protoreflect.Name(value))
	if n, err := strconv.ParseInt(value, 10, 32); d == nil && err == nil {
		d = e.Values().ByNumber(protoreflect.EnumNumber(n))
	}
	if d == nil {
		return protoreflect.Value{}, fmt.Errorf("%.100q is not a valid value", value)
	}
	return protoreflect.ValueOfEnum(d.Number()), nil
}

// parentOf returns the message that has the last of the fields, which it makes room
// for: nothing else of its oneof may be set.
func parentOf(m protoreflect.Message, fields []protoreflect.FieldDescriptor) (protoreflect.Message, error) {
	for i, f := range fields {
		if of := f.ContainingOneof(); of != nil && !of.IsSynthetic() {
			if set := m.WhichOneof(of); set != nil && set.Number() != f.Number() {
				return nil, fmt.Errorf("field already set for oneof %q", of.Name())
			}
		}
		if i < len(fields)-1 {
			m = m.Mutable(f).Message()
		}
	}
	return m, nil
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it is not UTF-8")
	}
	return nil
}
