package schema

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// codec makes *dynamicpb.Message. It changes nothing that it need not: fields
// that the schema does not know are kept, and required ones may be absent.
type codec struct {
	d     protoreflect.MessageDescriptor
	types *Types
}

// Codec returns the codec of a message, for which it makes *dynamicpb.Message.
func (s *Schema) Codec(d protoreflect.MessageDescriptor) filter.Codec { return &codec{d, s.types} }

func (c *codec) Name() string { return string(c.d.FullName()) }

func (c *codec) Unmarshal(b []byte) (m any, err error) {
	defer recovered(&err)
	message := dynamicpb.NewMessage(c.d)
	return message, proto.UnmarshalOptions{AllowPartial: true, Resolver: c.types}.Unmarshal(b, message)
}

func (c *codec) Marshal(b []byte, m any) (out []byte, err error) {
	defer recovered(&err)
	message, ok := m.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T is no proto.Message", m)
	}
	if name := message.ProtoReflect().Descriptor().FullName(); name != c.d.FullName() {
		return nil, fmt.Errorf("it is a message of type %s", name)
	}
	return proto.MarshalOptions{AllowPartial: true}.MarshalAppend(b, message)
}

// recovered makes an error of a panic: types come from the network, and so do
// the messages.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}
