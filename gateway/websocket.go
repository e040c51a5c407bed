package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/gateway/websocket"
)

// webSocketVerb is the HTTP method by which the routes for WebSockets are found. It
// is none that a client could send.
const webSocketVerb = "(WebSocket)"

// asWebSocket returns a request that wants to become a WebSocket as one with the
// method by which its route is found.
func asWebSocket(req *http.Request) *http.Request {
	if !websocket.IsAskedFor(req) {
		return req
	}
	changed := *req
	changed.Method = webSocketVerb
	return &changed
}

// serveWebSocket makes one call by a WebSocket. It is a runtime.HandlerFunc.
//
// Messages are what the body is elsewhere, on the path and the query of the URL. A
// binding without a body says all there is to say in its URL.
func (e *endpoint) serveWebSocket(w http.ResponseWriter, req *http.Request, params map[string]string) {
	get := *req
	get.Method = http.MethodGet
	x := &exchange{endpoint: e, w: w, req: &get, params: params, ctx: req.Context()}
	x.inbound, x.outbound = runtime.MarshalerForRequest(e.mux, &get)
	f := &framing{Marshaler: x.outbound, envelope: e.opts.Envelope, codec: e.codec}
	o := e.opts.WebSocket
	o.Logger = e.opts.Logger
	if o.ReadLimit == 0 {
		o.ReadLimit = e.opts.MaxBody
	}
	websocket.Serve(w, &get, o, websocket.Call{
		Open:          x.openForSocket,
		ClientStreams: e.Method.IsStreamingClient() && e.Body != "",
		ServerStreams: e.Method.IsStreamingServer(),
		NewRequest:    func() proto.Message { return e.request.New().Interface() },
		NewResponse:   func() proto.Message { return dynamicpb.NewMessage(e.Method.Output()) }, // an HttpBody as JSON, too
		Codec:         socketCodec{x},
		Result:        func(m proto.Message) ([]byte, error) { return x.socketResult(f, m) },
		Error:         func(err error) []byte { return x.socketError(f, err) },
	})
}

// openForSocket opens the call. Where the URL says everything, it sends that, too.
func (x *exchange) openForSocket(ctx context.Context, req *http.Request) (grpc.ClientStream, error) {
	annotated, err := runtime.AnnotateContext(ctx, x.mux, req, x.full, runtime.WithHTTPPathPattern(x.Template.Text))
	if err != nil {
		return nil, err
	}
	x.ctx, x.req = annotated, req
	if x.Body != "" {
		return x.open()
	}
	m, err := x.message(nil)
	if err != nil {
		return nil, err
	}
	call, err := x.open()
	if err != nil {
		return nil, err
	}
	_ = call.SendMsg(m) // that it does not work is for RecvMsg to say
	_ = call.CloseSend()
	return call, nil
}

// socketCodec reads messages as bodies are read.
type socketCodec struct{ x *exchange }

// Marshal returns v in JSON.
func (c socketCodec) Marshal(v any) ([]byte, error) { return c.x.outbound.Marshal(v) }

// Unmarshal reads into a message what a body, with the path and the query, makes.
func (c socketCodec) Unmarshal(b []byte, v any) error {
	if c.x.Body == "" {
		return errors.New("the URL is the request, and there is nothing more to send")
	}
	m, err := c.x.message(b)
	if err != nil {
		return errors.New(status.Convert(err).Message())
	}
	proto.Merge(v.(proto.Message), m)
	return nil
}

// socketResult returns a reply as a line of a stream, without its end.
func (x *exchange) socketResult(f *framing, m proto.Message) ([]byte, error) {
	var shown any = m
	if x.ResponseField != nil {
		value, err := x.codec.marshalField(m.ProtoReflect(), x.ResponseField)
		if err != nil {
			return nil, err
		}
		shown = value
	}
	if x.opts.Envelope != nil {
		e, err := x.opts.Envelope.success(x.codec, shown)
		if err != nil {
			return nil, err
		}
		shown = e
	}
	return f.result(map[string]any{"result": shown}, shown)
}

// socketError returns the text for an error.
func (x *exchange) socketError(f *framing, err error) []byte {
	st := presentable(x.outbound, err).Proto()
	b, err := f.failure(map[string]proto.Message{"error": st}, st)
	if err != nil {
		return nil
	}
	return b
}
