package openapi

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/gateway/binding"
)

const (
	jsonType   = "application/json"
	linesType  = "application/x-ndjson"
	eventsType = "text/event-stream"
)

// verbs are those that OpenAPI has.
var verbs = []string{"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"}

// anyVerbs are those of binding.AnyMethod: TRACE is for servers themselves.
var anyVerbs = verbs[:7]

// bind adds the operations of one binding of a method.
func (b *builder) bind(one binding.Binding) {
	where := fmt.Sprintf("`%s %s` (%s)", one.Verb, one.Template.Text, one.Method.FullName())
	switch {
	case one.Verb == binding.AnyMethod:
		for _, one.Verb = range anyVerbs {
			b.bindVerb(one, where)
		}
	case slices.Contains(verbs, one.Verb):
		b.bindVerb(one, where)
	default:
		b.left = append(b.left, where+": OpenAPI has no such verb")
	}
}

// bindVerb adds the operation that a binding is for its verb.
func (b *builder) bindVerb(one binding.Binding, where string) {
	t := newTemplate(one.Template)
	item, verb := b.paths.at(t), strings.ToLower(one.Verb)
	if first := item[verb]; first != nil {
		if first.method != one.Method.FullName() {
			b.left = append(b.left, fmt.Sprintf("%s: %s has the same verb and path", where, first.method))
		}
		return
	}
	m := one.Method
	summary, description := headline(comment(m))
	item[verb] = &operation{
		method:  m.FullName(),
		Tags:    []string{string(m.Parent().FullName())},
		Summary: summary, Description: paragraphs(description, streams(one)),
		OperationID: b.id(m), Parameters: b.parameters(t, one),
		RequestBody: b.request(one), Responses: b.responses(one),
		Deprecated: deprecated(m) || deprecated(m.Parent()) || deprecated(m.ParentFile()),
	}
}

// id returns the name of an operation: that of the method, with a number if it is
// not the first. Dots would not do for names in the code that is generated.
func (b *builder) id(m protoreflect.MethodDescriptor) string {
	base := strings.ReplaceAll(string(m.FullName()), ".", "_")
	id := base
	for n := 2; b.ids[id]; n++ {
		id = fmt.Sprintf("%s_%d", base, n)
	}
	b.ids[id] = true
	return id
}

// streams says in which form a method has its streams.
func streams(one binding.Binding) string {
	m := one.Method
	var texts []string
	if m.IsStreamingClient() {
		texts = append(texts, "The request is a stream of messages, one JSON to a line.")
	}
	if m.IsStreamingServer() {
		texts = append(texts, "The response is a stream of messages, one JSON to a line, "+
			"or server-sent events if `text/event-stream` is accepted.")
	}
	if len(texts) > 0 && (one.Verb == "GET" || one.Template.Text == binding.Default(m).Template.Text) {
		texts = append(texts, "A WebSocket at this path has both directions, one JSON to a message.")
	}
	return strings.Join(texts, " ")
}

// parameters returns those in the path and those in the query.
func (b *builder) parameters(t *template, one binding.Binding) []*parameter {
	var all []*parameter
	for _, w := range t.params {
		all = append(all, b.schemas.pathParameter(w, one.Template))
	}
	if one.Body != "*" {
		given := bound(one.Template)
		if one.Body != "" {
			given = append(given, one.Body)
		}
		all = append(all, b.schemas.query(one.Method.Input(), given)...)
	}
	return all
}

// request returns the body of requests, nil if they have none.
func (b *builder) request(one binding.Binding) *body {
	if one.Body == "" || one.Verb == "GET" || one.Verb == "HEAD" {
		return nil
	}
	d, given := one.Method.Input(), bound(one.Template)
	for _, f := range one.BodyField {
		if d = f.Message(); d == nil || f.IsList() || f.IsMap() {
			return b.requestOf(one, b.schemas.field(f))
		}
		given = below(given, f)
	}
	switch {
	case d.FullName() == bodyName:
		return &body{Content: rawBody()}
	case (len(given) > 0 || one.Verb == "PATCH") && wellKnown(d.FullName()) == nil:
		value := b.schemas.object(d, given)
		if one.Verb == "PATCH" {
			value.Required = nil // what is not there is not changed
		}
		return b.requestOf(one, value)
	}
	return b.requestOf(one, b.schemas.message(d))
}

func (b *builder) requestOf(one binding.Binding, value *schema) *body {
	if one.Method.IsStreamingClient() {
		return &body{Content: content{linesType: {value}}}
	}
	return &body{Content: content{jsonType: {value}}}
}

// responses returns what is answered.
func (b *builder) responses(one binding.Binding) map[string]responseRef {
	ok := responseRef{Description: new("The reply."), Content: b.reply(one)}
	return map[string]responseRef{"200": ok, "default": {Ref: "#/components/responses/" + failureName}}
}

// reply returns what a reply is, or a stream of them.
func (b *builder) reply(one binding.Binding) content {
	d, value := one.Method.Output(), (*schema)(nil)
	if f := one.ResponseField; f != nil {
		d, value = nil, b.schemas.field(f)
		if !f.IsList() && !f.IsMap() {
			d = f.Message()
		}
	}
	switch {
	case d != nil && d.FullName() == bodyName:
		return rawBody()
	case d != nil:
		value = b.schemas.message(d)
	}
	switch {
	case one.Method.IsStreamingServer():
		return content{linesType: {b.line(value)}, eventsType: {b.events()}}
	case b.info.Envelope != nil && b.info.Envelope.AlwaysOK:
		value = b.info.Envelope.aroundEither(value)
	case b.info.Envelope != nil:
		value = b.info.Envelope.around(value)
	}
	return content{jsonType: {value}}
}

// line is one line of a stream of replies.
func (b *builder) line(reply *schema) *schema {
	if b.info.Envelope != nil {
		return b.info.Envelope.aroundEither(reply)
	}
	return &schema{Type: "object", Description: "One line.", Properties: properties{
		{"result", reply},
		{"error", reference(string(statusName))},
	}}
}

// events is a stream of replies for browsers.
func (b *builder) events() *schema {
	each, failure := "a reply", "the status"
	if b.info.Envelope != nil {
		each, failure = "a reply in its envelope", "the envelope of the error"
	}
	return &schema{Type: "string", Description: fmt.Sprintf("Server-sent events. The `data` of each is %s in JSON. "+
		"An `event: end` comes last, or an `event: error` with %s as its `data`.", each, failure)}
}
