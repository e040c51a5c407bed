package binding

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// AnyMethod is the Verb of a binding that HTTP requests of every method have.
const AnyMethod = "*"

// Binding is one way to call a method by HTTP. It is read-only.
type Binding struct {
	// Method is what is called.
	Method protoreflect.MethodDescriptor
	// Verb is the method of the HTTP request, "GET" and the like, or AnyMethod.
	Verb string
	// Template says which paths are bound.
	Template *Template
	// Body is "" if the HTTP request has none that counts, "*" if it is the whole
	// request message, and otherwise the path of a field, which it then is.
	Body string
	// BodyField is the field that Body names, nil for "" and "*". Its last element
	// is the field itself, those before are the messages on the way there.
	BodyField []protoreflect.FieldDescriptor
	// ResponseField is the field of the reply that is all of the HTTP response, nil
	// if that is the whole reply.
	ResponseField protoreflect.FieldDescriptor
}

// Of returns the bindings of a method in the order in which they are written, nil
// if it has no annotation. The errors, one to a line, name the method and the field
// or path that is wrong.
func Of(method protoreflect.MethodDescriptor) ([]Binding, error) {
	rule, err := ruleOf(method)
	if rule == nil || err != nil {
		return nil, err
	}
	var all []Binding
	var errs []error
	add := func(r *annotations.HttpRule) {
		b, err := newBinding(method, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("method %s: google.api.http: %w", method.FullName(), err))
			return
		}
		all = append(all, b)
	}
	add(rule)
	for _, more := range rule.GetAdditionalBindings() {
		if len(more.GetAdditionalBindings()) > 0 {
			errs = append(errs, fmt.Errorf("method %s: google.api.http: additional_bindings must not have further ones", method.FullName()))
			continue
		}
		add(more)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

// Default returns the binding that every method has without being annotated:
// POST /package.Service/Method, with the request message as the body.
func Default(method protoreflect.MethodDescriptor) Binding {
	path := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
	segments := strings.Split(path[1:], "/")
	return Binding{
		Method: method, Verb: "POST", Body: "*",
		Template: &Template{Text: path, Segments: segments},
	}
}

// ruleOf returns the annotation of a method, nil if it has none. In options that
// were decoded without knowing the annotation it is an unknown field, and in those
// of a schema with an annotations.proto of its own it is a dynamic message. In bytes
// they are all the same.
func ruleOf(method protoreflect.MethodDescriptor) (*annotations.HttpRule, error) {
	options := method.Options()
	if options == nil {
		return nil, nil
	}
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil {
		return nil, fmt.Errorf("method %s: its options cannot be encoded: %w", method.FullName(), err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	decoded := new(descriptorpb.MethodOptions)
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: httpOnly{}}).Unmarshal(b, decoded); err != nil {
		return nil, fmt.Errorf("method %s: the options are no google.api.http: %w", method.FullName(), err)
	}
	if !proto.HasExtension(decoded, annotations.E_Http) {
		return nil, nil
	}
	rule, _ := proto.GetExtension(decoded, annotations.E_Http).(*annotations.HttpRule)
	return rule, nil
}

// newBinding returns the binding that a rule, without its additional ones, makes.
func newBinding(method protoreflect.MethodDescriptor, r *annotations.HttpRule) (b Binding, err error) {
	b = Binding{Method: method, Body: r.GetBody()}
	verb, path := verbAndPath(r)
	if verb == "" || path == "" {
		return b, errors.New("it has no HTTP method with a path; write get, put, post, delete, patch or custom")
	}
	b.Verb = verb
	if b.Template, err = parseTemplate(path); err != nil {
		return b, fmt.Errorf("%s %q: %w", verb, path, err)
	}
	for i := range b.Template.Variables {
		v := &b.Template.Variables[i]
		if v.Fields, err = variableFields(method.Input(), v.Path); err != nil {
			return b, fmt.Errorf("%s %q: variable {%s}: %w", verb, path, v.Path, err)
		}
	}
	if err := b.resolveBodies(r); err != nil {
		return b, fmt.Errorf("%s %q: %w", verb, path, err)
	}
	return b, nil
}

// resolveBodies finds the fields that are the bodies of request and response.
func (b *Binding) resolveBodies(r *annotations.HttpRule) (err error) {
	if b.Body != "" && (b.Verb == "GET" || b.Verb == "HEAD") {
		return fmt.Errorf("body %q: %s requests have no body", b.Body, b.Verb)
	}
	if b.Body != "" && b.Body != "*" {
		if b.BodyField, err = fieldsOf(b.Method.Input(), b.Body); err != nil {
			return fmt.Errorf("body %q: %w", b.Body, err)
		}
	}
	name := r.GetResponseBody()
	if name == "" || name == "*" {
		return nil
	}
	b.ResponseField = b.Method.Output().Fields().ByName(protoreflect.Name(name))
	if b.ResponseField == nil {
		return fmt.Errorf("response_body %q: message %s has no such field", name, b.Method.Output().FullName())
	}
	return nil
}

func verbAndPath(r *annotations.HttpRule) (verb, path string) {
	switch p := r.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "GET", p.Get
	case *annotations.HttpRule_Put:
		return "PUT", p.Put
	case *annotations.HttpRule_Post:
		return "POST", p.Post
	case *annotations.HttpRule_Delete:
		return "DELETE", p.Delete
	case *annotations.HttpRule_Patch:
		return "PATCH", p.Patch
	case *annotations.HttpRule_Custom:
		return p.Custom.GetKind(), p.Custom.GetPath()
	}
	return "", ""
}
