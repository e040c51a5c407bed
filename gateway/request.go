package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// readRequest returns the message that the body, the path and the query say.
func (x *exchange) readRequest() (proto.Message, error) {
	var body []byte
	if x.Body != "" {
		var err error
		if body, err = x.readBody(); err != nil {
			return nil, err
		}
	}
	return x.message(body)
}

// errTooLarge is gRPC's code for a message that is too large, with HTTP's: 429, which
// usually belongs to that code, would have clients try again.
func (o *Options) errTooLarge() error {
	return &runtime.HTTPStatusError{
		HTTPStatus: http.StatusRequestEntityTooLarge,
		Err:        status.Errorf(codes.ResourceExhausted, "the body is larger than %d bytes", o.MaxBody),
	}
}

// message returns the message of a body, and of the path and the query, which win.
func (x *exchange) message(body []byte) (proto.Message, error) {
	m := x.request.New()
	if len(bytes.TrimSpace(body)) > 0 || len(body) > 0 && x.rawBody() {
		if err := x.setBody(m, body); err != nil {
			return nil, invalid("the body: %v", err)
		}
	}
	if err := x.setMask(m, body); err != nil {
		return nil, invalid("the field mask of the body: %v", err)
	}
	return x.overlay(m)
}

// overlay puts the path and the query into a message.
func (x *exchange) overlay(m protoreflect.Message) (proto.Message, error) {
	if err := x.setVariables(m); err != nil {
		return nil, err
	}
	if x.Body != "*" {
		if err := x.setQuery(m); err != nil {
			return nil, err
		}
	}
	if err := proto.CheckInitialized(m.Interface()); err != nil {
		return nil, invalid("%v", err)
	}
	return m.Interface(), nil
}

// rawBody reports whether the body is that of an HttpBody.
func (e *endpoint) rawBody() bool {
	if e.BodyField == nil {
		return e.Body == "*" && isHTTPBody(e.Method.Input())
	}
	last := e.BodyField[len(e.BodyField)-1]
	return isHTTPBody(last.Message()) && last.Cardinality() != protoreflect.Repeated
}

// setBody puts the body into the message, or into the field of it that it is.
func (x *exchange) setBody(m protoreflect.Message, body []byte) error {
	target, parent, err := x.bodyTarget(m)
	switch {
	case err != nil:
		return err
	case target == nil:
		return x.codec.unmarshalField(body, parent, x.BodyField[len(x.BodyField)-1])
	case x.rawBody():
		setHTTPBody(target, x.req.Header.Get("Content-Type"), body)
		return nil
	case x.inbound == runtime.Marshaler(x.codec):
		return x.codec.Unmarshal(body, target.Interface())
	}
	err = x.inbound.NewDecoder(bytes.NewReader(body)).Decode(target.Interface())
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// bodyTarget returns the message that the body is. If it is none, but another kind of
// field, the target is nil and parent has the field.
func (e *endpoint) bodyTarget(m protoreflect.Message) (target, parent protoreflect.Message, err error) {
	if e.BodyField == nil {
		return m, nil, nil
	}
	if parent, err = parentOf(m, e.BodyField); err != nil {
		return nil, nil, err
	}
	f := e.BodyField[len(e.BodyField)-1]
	if f.Message() == nil || f.IsList() || f.IsMap() {
		return nil, parent, nil
	}
	return parent.Mutable(f).Message(), parent, nil
}

// setMask has a PATCH change those fields that its body has, if it does not say which.
func (x *exchange) setMask(m protoreflect.Message, body []byte) error {
	if x.mask == nil || len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	target, _, err := x.bodyTarget(m)
	if err != nil || target == nil {
		return err
	}
	if maskSize(body) > maskFactor*x.opts.MaxBody {
		return errors.New("its paths are too long: change less at a time, or name the fields")
	}
	mask, err := runtime.FieldMaskFromRequestBody(bytes.NewReader(body), target.Interface())
	if err != nil {
		return err
	}
	paths := x.mask.Message().Fields().ByName("paths")
	set := m.Mutable(x.mask).Message().Mutable(paths).List()
	if set.Len() > 0 {
		return nil
	}
	for _, p := range mask.GetPaths() {
		set.Append(protoreflect.ValueOfString(p))
	}
	return nil
}

// setVariables puts the variables of the path into the message. What the body says of
// them does not count.
func (x *exchange) setVariables(m protoreflect.Message) error {
	for _, v := range x.Template.Variables {
		value, ok := x.params[v.Path]
		if !ok {
			return invalid("the path has no %s", v.Path)
		}
		err := checkText(value)
		if err == nil {
			err = setVariable(m, v.Path, v.Fields, value)
		}
		if err != nil {
			return invalid("%s in the path: %v", v.Path, err)
		}
	}
	return nil
}

func setVariable(m protoreflect.Message, path string, fields []protoreflect.FieldDescriptor, value string) error {
	parent, err := parentOf(m, fields)
	if err != nil {
		return err
	}
	last := fields[len(fields)-1]
	parent.Clear(last)
	values := []string{value}
	if last.IsList() {
		values = strings.Split(value, ",")
	}
	if last.Enum() != nil {
		return setEnums(m, fields, "", values)
	}
	for _, v := range values {
		if err := runtime.PopulateFieldFromPath(m.Interface(), path, v); err != nil {
			return err
		}
	}
	return nil
}

// setQuery puts the query, or the form that stands for it, into the message.
func (x *exchange) setQuery(m protoreflect.Message) error {
	values := x.req.Form
	if values == nil {
		if x.req.URL.RawQuery == "" {
			return nil
		}
		var err error
		if values, err = url.ParseQuery(x.req.URL.RawQuery); err != nil {
			return invalid("the query: %v", err)
		}
	}
	if err := checkQuery(values); err != nil {
		return err
	}
	if err := populateQuery(x.endpoint, m, values); err != nil {
		return invalid("the query: %v", err)
	}
	return nil
}

// setHTTPBody makes m, a google.api.HttpBody of any Go type, of a body.
func setHTTPBody(m protoreflect.Message, contentType string, body []byte) {
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("content_type"), protoreflect.ValueOfString(strings.ToValidUTF8(contentType, "\uFFFD")))
	m.Set(fields.ByName("data"), protoreflect.ValueOfBytes(body))
}

// asHTTPBody returns m, a google.api.HttpBody of any Go type, as that of the program.
func asHTTPBody(m protoreflect.Message) (*httpbody.HttpBody, error) {
	b, err := proto.Marshal(m.Interface())
	if err != nil {
		return nil, fmt.Errorf("encode HttpBody: %w", err)
	}
	body := new(httpbody.HttpBody)
	return body, proto.Unmarshal(b, body)
}
