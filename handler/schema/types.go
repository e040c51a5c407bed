package schema

import (
	"errors"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Types are the types of a schema by their names, as the Resolver in the options
// of packages proto, protojson and anypb. Its methods may be called concurrently.
type Types struct{ dynamic *dynamicpb.Types }

var (
	_ protoregistry.MessageTypeResolver   = (*Types)(nil)
	_ protoregistry.ExtensionTypeResolver = (*Types)(nil)
)

func newTypes(files *protoregistry.Files) *Types { return &Types{dynamicpb.NewTypes(files)} }

// FindMessageByName returns the schema's message of that name, and otherwise the
// one that is part of this program: an Any may hold what no service mentions, as
// the details of a google.rpc.Status do. The error is protoregistry.NotFound.
func (t *Types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	m, err := t.dynamic.FindMessageByName(name)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalTypes.FindMessageByName(name)
	}
	return m, err
}

// FindMessageByURL is FindMessageByName for the type_url of an Any.
func (t *Types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	m, err := t.dynamic.FindMessageByURL(url)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalTypes.FindMessageByURL(url)
	}
	return m, err
}

// FindExtensionByName returns the schema's extension of that name. The error is
// protoregistry.NotFound.
func (t *Types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return t.dynamic.FindExtensionByName(name)
}

// FindExtensionByNumber returns the schema's extension of a message. The error is
// protoregistry.NotFound: what is not known stays an unknown field.
func (t *Types) FindExtensionByNumber(message protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return t.dynamic.FindExtensionByNumber(message, n)
}
