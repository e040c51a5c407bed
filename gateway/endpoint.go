package gateway

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/gateway/binding"
)

// endpoint answers the requests of one binding. It is what grpc-gateway generates for
// it elsewhere.
type endpoint struct {
	binding.Binding
	opts    *Options
	mux     *runtime.ServeMux
	codec   *codec
	full    string // name of the method
	request protoreflect.MessageType
	reply   protoreflect.MessageType
	filter  *utilities.DoubleArray       // what the query must not set: the path or the body does
	mask    protoreflect.FieldDescriptor // of a PATCH
}

func newEndpoint(g *Gateway, mux *runtime.ServeMux, c *codec, b binding.Binding) *endpoint {
	e := &endpoint{
		Binding: b, opts: &g.opts, mux: mux, codec: c,
		full:    "/" + string(b.Method.Parent().FullName()) + "/" + string(b.Method.Name()),
		request: dynamicpb.NewMessageType(b.Method.Input()),
		reply:   replyType(b.Method.Output()),
	}
	var taken [][]string
	for _, v := range b.Template.Variables {
		taken = append(taken, namesOfFields(v.Fields))
	}
	if b.BodyField != nil {
		taken = append(taken, namesOfFields(b.BodyField))
	}
	e.filter = utilities.NewDoubleArray(taken)
	if b.Verb == http.MethodPatch && b.BodyField != nil && b.BodyField[len(b.BodyField)-1].Message() != nil {
		e.mask = maskOf(b.Method.Input())
	}
	return e
}

// maskOf returns the field that says which fields are to be changed, nil for none.
func maskOf(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Message() != nil && f.Message().FullName() == "google.protobuf.FieldMask" && !f.IsList() {
			return f
		}
	}
	return nil
}

// exchange is one HTTP request, and the call that is made of it.
type exchange struct {
	*endpoint
	w                 http.ResponseWriter
	req               *http.Request
	params            map[string]string // variables of the path
	inbound, outbound runtime.Marshaler
	ctx               context.Context // of the call
	metadata          runtime.ServerMetadata
}

// serve answers a request. It is a runtime.HandlerFunc.
func (e *endpoint) serve(w http.ResponseWriter, req *http.Request, params map[string]string) {
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	x, ok := e.begin(ctx, w, req, params)
	switch {
	case !ok:
	case e.Method.IsStreamingClient() || e.Method.IsStreamingServer():
		x.stream(cancel)
	default:
		x.unary()
	}
}

// begin makes a request's headers metadata. It answers the request if it cannot.
func (e *endpoint) begin(
	ctx context.Context, w http.ResponseWriter, req *http.Request, params map[string]string,
) (x *exchange, ok bool) {
	x = &exchange{endpoint: e, w: w, req: req, params: params, ctx: ctx}
	x.inbound, x.outbound = runtime.MarshalerForRequest(e.mux, req)
	annotated, err := runtime.AnnotateContext(ctx, e.mux, req, e.full, runtime.WithHTTPPathPattern(e.Template.Text))
	if err != nil {
		x.fail(err)
		return nil, false
	}
	x.ctx = annotated
	return x, true
}

func (x *exchange) unary() {
	m, err := x.readRequest()
	if err != nil {
		x.fail(err)
		return
	}
	reply := x.reply.New().Interface()
	err = x.opts.Conn.Invoke(x.ctx, x.full, m, reply, grpc.Header(&x.metadata.HeaderMD), grpc.Trailer(&x.metadata.TrailerMD))
	if err != nil {
		x.fail(err)
		return
	}
	x.forward(reply)
}

// forward answers with a single reply.
func (x *exchange) forward(reply proto.Message) {
	m, err := x.shown(reply)
	if err != nil {
		x.fail(err)
		return
	}
	runtime.ForwardResponseMessage(x.context(), x.mux, x.outbound, x.w, x.req, m, x.mux.GetForwardResponseOptions()...)
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	runtime.HTTPError(x.context(), x.mux, x.outbound, x.w, x.req, err)
}

// context is the call's, with the metadata that the backend has sent.
func (x *exchange) context() context.Context {
	return runtime.NewServerMetadataContext(x.ctx, runtime.ServerMetadata{
		HeaderMD: asText(x.metadata.HeaderMD), TrailerMD: asText(x.metadata.TrailerMD),
	})
}

// fieldReply is a reply of which one field is shown. Package runtime asks for that by
// the method that is generated elsewhere.
type fieldReply struct {
	proto.Message
	value any
}

// XXX_ResponseBody returns what is shown: a message, or JSON.
func (r *fieldReply) XXX_ResponseBody() any { return r.value }

// shown returns what of a reply is shown.
func (e *endpoint) shown(reply proto.Message) (proto.Message, error) {
	f := e.ResponseField
	if f == nil {
		return reply, nil
	}
	m := reply.ProtoReflect()
	switch {
	case isHTTPBody(f.Message()) && !f.IsList() && !f.IsMap():
		body, err := asHTTPBody(m.Get(f).Message())
		return &fieldReply{reply, body}, err
	case f.Message() != nil && !f.IsList() && !f.IsMap() && m.Has(f):
		return &fieldReply{reply, m.Get(f).Message().Interface()}, nil
	}
	value, err := e.codec.marshalField(m, f)
	return &fieldReply{reply, value}, err
}
