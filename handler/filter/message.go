package filter

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Codec makes messages of one type from bytes, and bytes from messages. Its
// methods may be called concurrently.
type Codec interface {
	// Name is the type's, for people.
	Name() string
	// Unmarshal returns a new message, which does not refer to b.
	Unmarshal(b []byte) (any, error)
	// Marshal returns a message's bytes behind those of b.
	Marshal(b []byte, m any) ([]byte, error)
}

// codecOf returns the codec of the struct t, which a pointer to is a message.
func codecOf(t reflect.Type) (Codec, error) {
	switch reflect.New(t).Interface().(type) {
	case proto.Message: // first: it keeps the fields that it does not know
		return protoCodec{t}, nil
	case generated:
		return generatedCodec{t}, nil
	}
	return nil, fmt.Errorf("%v is no message: a pointer to it is neither a proto.Message nor has it the Marshal and Unmarshal that kitex generates", t)
}

// generated is what `go tool kitex` generates for a message (prutal).
type generated interface {
	Marshal(b []byte) ([]byte, error) // appends
	Unmarshal(b []byte) error
}

type generatedCodec struct{ t reflect.Type }

func (c generatedCodec) Name() string { return c.t.String() }

func (c generatedCodec) Unmarshal(b []byte) (m any, err error) {
	defer recovered(&err)
	m = reflect.New(c.t).Interface()
	return m, m.(generated).Unmarshal(b)
}

func (c generatedCodec) Marshal(b []byte, m any) (out []byte, err error) {
	defer recovered(&err)
	return m.(generated).Marshal(b)
}

type protoCodec struct{ t reflect.Type }

func (c protoCodec) Name() string { return c.t.String() }

func (c protoCodec) Unmarshal(b []byte) (m any, err error) {
	defer recovered(&err)
	m = reflect.New(c.t).Interface()
	return m, proto.Unmarshal(b, m.(proto.Message))
}

func (c protoCodec) Marshal(b []byte, m any) (out []byte, err error) {
	defer recovered(&err)
	return proto.MarshalOptions{}.MarshalAppend(b, m.(proto.Message))
}

// recovered makes an error of a panic: generated code may have been written by
// hand, what it is given comes from the network, and a filter may have kept a
// message that it still changes.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}
