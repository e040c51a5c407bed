package openapi

import (
	"slices"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// What google.api.field_behavior says of a field.
const (
	inputOnly  = annotations.FieldBehavior_INPUT_ONLY
	outputOnly = annotations.FieldBehavior_OUTPUT_ONLY
)

// required reports whether a field has to be there.
func required(f protoreflect.FieldDescriptor) bool {
	return f.Cardinality() == protoreflect.Required || behaves(f, annotations.FieldBehavior_REQUIRED)
}

// behaves reports whether a field is annotated with b.
func behaves(f protoreflect.FieldDescriptor, b annotations.FieldBehavior) bool {
	options, ok := reread(f.Options(), new(descriptorpb.FieldOptions))
	if !ok {
		return false
	}
	all, _ := proto.GetExtension(options, annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(all, b)
}

// reread returns options as T with the extensions that this program knows: those of
// a schema that was made at run time may be there as unknown fields, or of types
// that were made with it. It is false when there are no options.
func reread[T proto.Message](options proto.Message, into T) (T, bool) {
	if options == nil || !options.ProtoReflect().IsValid() {
		return into, false
	}
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil || len(b) == 0 {
		return into, false
	}
	return into, (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, into) == nil
}

// deprecated reports whether the source says so.
func deprecated(d protoreflect.Descriptor) bool {
	switch o := d.Options().(type) {
	case *descriptorpb.FileOptions:
		return o.GetDeprecated()
	case *descriptorpb.ServiceOptions:
		return o.GetDeprecated()
	case *descriptorpb.MethodOptions:
		return o.GetDeprecated()
	case *descriptorpb.MessageOptions:
		return o.GetDeprecated()
	case *descriptorpb.FieldOptions:
		return o.GetDeprecated()
	case *descriptorpb.EnumOptions:
		return o.GetDeprecated()
	case *descriptorpb.EnumValueOptions:
		return o.GetDeprecated()
	}
	return false
}
