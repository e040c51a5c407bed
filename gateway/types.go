package gateway

import (
	"google.golang.org/genproto/googleapis/api/httpbody"
	// What the details of a status usually are becomes part of the program.
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// types finds what is in a google.protobuf.Any, and extensions, by the files of all
// services. Where two services have come with different files of one name, the file
// of the first counts.
type types struct{ dynamic *dynamicpb.Types }

func newTypes(services []protoreflect.ServiceDescriptor) *types {
	files := new(protoregistry.Files)
	seen := make(map[protoreflect.FileDescriptor]bool)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f] || f.IsPlaceholder() {
			return
		}
		seen[f] = true
		_ = files.RegisterFile(f) // there may be another one of that name
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
	}
	for _, s := range services {
		add(s.ParentFile())
	}
	return &types{dynamicpb.NewTypes(files)}
}

func (t *types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if m, err := t.dynamic.FindMessageByName(name); err == nil {
		return m, nil
	}
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if m, err := t.dynamic.FindMessageByURL(url); err == nil {
		return m, nil
	}
	return protoregistry.GlobalTypes.FindMessageByURL(url)
}

func (t *types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return t.dynamic.FindExtensionByName(name)
}

func (t *types) FindExtensionByNumber(m protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return t.dynamic.FindExtensionByNumber(m, n)
}

// isHTTPBody reports whether messages are bodies as they are.
func isHTTPBody(m protoreflect.MessageDescriptor) bool {
	return m != nil && m.FullName() == "google.api.HttpBody"
}

// replyType returns the type of a method's replies. Package runtime knows an HttpBody
// by its Go type.
func replyType(m protoreflect.MessageDescriptor) protoreflect.MessageType {
	if isHTTPBody(m) {
		return (*httpbody.HttpBody)(nil).ProtoReflect().Type()
	}
	return dynamicpb.NewMessageType(m)
}
