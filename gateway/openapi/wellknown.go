package openapi

import "google.golang.org/protobuf/reflect/protoreflect"

const (
	anyName    = protoreflect.FullName("google.protobuf.Any")
	nullName   = protoreflect.FullName("google.protobuf.NullValue")
	bodyName   = protoreflect.FullName("google.api.HttpBody")
	statusName = protoreflect.FullName("google.rpc.Status")
)

// wellKnown returns the schema of a message for which protojson has another form
// than an object of its fields, nil for all others. Any is an object, too.
func wellKnown(name protoreflect.FullName) *schema {
	switch name {
	case "google.protobuf.Timestamp":
		return &schema{Type: "string", Format: "date-time"}
	case "google.protobuf.Duration":
		return &schema{Type: "string", Pattern: `^-?[0-9]+(\.[0-9]{1,9})?s$`, Description: "Seconds, as in `1.5s`."}
	case "google.protobuf.FieldMask":
		return &schema{Type: "string", Description: "Paths of fields in lowerCamelCase, separated by commas."}
	case "google.protobuf.Struct":
		return &schema{Type: "object", AdditionalProperties: &schema{Nullable: true}}
	case "google.protobuf.ListValue":
		return &schema{Type: "array", Items: &schema{Nullable: true}}
	case "google.protobuf.Value":
		return &schema{Nullable: true, Description: "Any JSON value."}
	}
	if kind, ok := wrapped[name]; ok {
		return scalar(kind)
	}
	return nil
}

// wrapped has the kinds of values in wrappers, which JSON has without them.
var wrapped = map[protoreflect.FullName]protoreflect.Kind{
	"google.protobuf.DoubleValue": protoreflect.DoubleKind,
	"google.protobuf.FloatValue":  protoreflect.FloatKind,
	"google.protobuf.Int64Value":  protoreflect.Int64Kind,
	"google.protobuf.UInt64Value": protoreflect.Uint64Kind,
	"google.protobuf.Int32Value":  protoreflect.Int32Kind,
	"google.protobuf.UInt32Value": protoreflect.Uint32Kind,
	"google.protobuf.BoolValue":   protoreflect.BoolKind,
	"google.protobuf.StringValue": protoreflect.StringKind,
	"google.protobuf.BytesValue":  protoreflect.BytesKind,
}

// anySchema is what an Any is in JSON: the fields of what it holds beside its type,
// or a value if that has a form of its own.
func anySchema() *schema {
	name := &schema{Type: "string", Description: "As in `type.googleapis.com/google.protobuf.Duration`."}
	return &schema{
		Type:                 "object",
		Description:          "A message of any type, with its name.",
		Properties:           properties{{"@type", name}},
		AdditionalProperties: &schema{Nullable: true},
	}
}

// nullSchema is google.protobuf.NullValue, an enum that JSON has a word for.
func nullSchema() *schema {
	return &schema{Type: "string", Nullable: true, Enum: []any{nil}, Description: "Always null."}
}

// rawBody is a body that is no JSON: the data of a google.api.HttpBody.
func rawBody() content { return content{"*/*": {&schema{Type: "string", Format: "binary"}}} }
