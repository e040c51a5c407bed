package binding

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// variableFields returns the fields that a variable's path goes by. The last one
// must be something that a part of a path can be.
func variableFields(m protoreflect.MessageDescriptor, path string) ([]protoreflect.FieldDescriptor, error) {
	fields, err := fieldsOf(m, path)
	if err != nil {
		return nil, err
	}
	last := fields[len(fields)-1]
	switch {
	case last.IsMap():
		return nil, fmt.Errorf("field %s is a map, which no part of a path can be", last.FullName())
	case last.Message() != nil && !plain[last.Message().FullName()]:
		return nil, fmt.Errorf("field %s is a %s, which no part of a path can be", last.FullName(), last.Message().FullName())
	}
	return fields, nil
}

// plain are the messages that are written as a single value.
var plain = map[protoreflect.FullName]bool{
	"google.protobuf.Timestamp":   true,
	"google.protobuf.Duration":    true,
	"google.protobuf.FieldMask":   true,
	"google.protobuf.DoubleValue": true,
	"google.protobuf.FloatValue":  true,
	"google.protobuf.Int64Value":  true,
	"google.protobuf.UInt64Value": true,
	"google.protobuf.Int32Value":  true,
	"google.protobuf.UInt32Value": true,
	"google.protobuf.BoolValue":   true,
	"google.protobuf.StringValue": true,
	"google.protobuf.BytesValue":  true,
}

// fieldsOf returns the fields that a dotted path goes by. Those before the last one
// are single messages.
func fieldsOf(m protoreflect.MessageDescriptor, path string) (fields []protoreflect.FieldDescriptor, err error) {
	names := strings.Split(path, ".")
	for i, name := range names {
		f := m.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return nil, fmt.Errorf("message %s has no field %q", m.FullName(), name)
		}
		fields = append(fields, f)
		if i == len(names)-1 {
			break
		}
		if f.Message() == nil || f.IsList() || f.IsMap() {
			return nil, fmt.Errorf("field %s is no single message, and %q cannot be a field of it", f.FullName(), names[i+1])
		}
		m = f.Message()
	}
	return fields, nil
}

// httpOnly knows one extension: google.api.http. It keeps whatever else is in the
// options, known to the program or not, from mattering.
type httpOnly struct{}

func (httpOnly) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	if name == annotations.E_Http.TypeDescriptor().FullName() {
		return annotations.E_Http, nil
	}
	return nil, protoregistry.NotFound
}

func (httpOnly) FindExtensionByNumber(m protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	d := annotations.E_Http.TypeDescriptor()
	if m == d.ContainingMessage().FullName() && n == d.Number() {
		return annotations.E_Http, nil
	}
	return nil, protoregistry.NotFound
}
