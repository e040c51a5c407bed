package gateway

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// codec is the Marshaler for everything that Options.Mux has none for: that of
// grpc-gateway, with the types of the schemas.
type codec struct {
	runtime.JSONPb
}

func newCodec(o *Options, t *types) *codec {
	c := &codec{runtime.JSONPb{MarshalOptions: *o.Marshal, UnmarshalOptions: *o.Unmarshal}}
	if c.MarshalOptions.Resolver == nil {
		c.MarshalOptions.Resolver = t
	}
	if c.UnmarshalOptions.Resolver == nil {
		c.UnmarshalOptions.Resolver = t
	}
	c.UnmarshalOptions.AllowPartial = true // the path and the query may have the rest
	return c
}

// ContentType is JSON, but for an HttpBody what that says.
func (c *codec) ContentType(v any) string {
	if r, ok := v.(*fieldReply); ok {
		v = r.value
	}
	if body, ok := v.(*httpbody.HttpBody); ok {
		return body.GetContentType()
	}
	return "application/json"
}

// StreamContentType is one JSON object to a line.
func (c *codec) StreamContentType(v any) string {
	if _, ok := v.(*httpbody.HttpBody); ok {
		return c.ContentType(v)
	}
	return "application/x-ndjson"
}

// Marshal returns v in JSON, the data of an HttpBody as it is.
func (c *codec) Marshal(v any) ([]byte, error) {
	switch m := v.(type) {
	case *httpbody.HttpBody:
		return m.GetData(), nil
	case *enveloped:
		return m.MarshalJSON()
	case json.RawMessage:
		return m, nil
	case proto.Message:
		b, err := c.MarshalOptions.Marshal(m)
		return b, unwritable(err)
	}
	return c.JSONPb.Marshal(v)
}

// unwritable returns the error for a message that there is no JSON for, nil for nil. It is
// the backend's: text that is not UTF-8, say, or an Any of a type that nobody knows.
func unwritable(err error) error {
	if err == nil {
		return nil
	}
	return status.Errorf(codes.Internal, "what the backend has sent cannot be written in JSON: %v", err)
}

// Unmarshal reads a message of which b must have no more and no less than one.
func (c *codec) Unmarshal(b []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return c.UnmarshalOptions.Unmarshal(b, m)
	}
	return c.JSONPb.Unmarshal(b, v)
}

// unmarshalField reads the value of one field, whatever it is.
func (c *codec) unmarshalField(b []byte, m protoreflect.Message, f protoreflect.FieldDescriptor) error {
	if !json.Valid(b) { // or else it might have other fields, too
		return errors.New("it is no JSON value")
	}
	only := m.New()
	object := fmt.Appendf(nil, `{%q:%s}`, f.JSONName(), b)
	if err := c.UnmarshalOptions.Unmarshal(object, only.Interface()); err != nil {
		return err
	}
	if only.Has(f) {
		m.Set(f, only.Get(f))
	}
	return nil
}

// marshalField returns the value of one field, whatever it is.
func (c *codec) marshalField(m protoreflect.Message, f protoreflect.FieldDescriptor) (json.RawMessage, error) {
	only := m.New()
	if m.Has(f) {
		only.Set(f, m.Get(f))
	}
	value, err := pick(c.MarshalOptions, only, f)
	if value != nil || err != nil {
		return value, err
	}
	empty := c.MarshalOptions // the field has no value, and is not to be left out
	empty.EmitUnpopulated = true
	if value, err = pick(empty, only, f); value == nil && err == nil {
		value = json.RawMessage("null")
	}
	return value, err
}

// pick returns what options make of a field, nil if they leave it out.
func pick(options protojson.MarshalOptions, m protoreflect.Message, f protoreflect.FieldDescriptor) (json.RawMessage, error) {
	options.AllowPartial = true
	b, err := options.Marshal(m.Interface())
	if err != nil {
		return nil, unwritable(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	if options.UseProtoNames {
		return all[f.TextName()], nil
	}
	return all[f.JSONName()], nil
}
