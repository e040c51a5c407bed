package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"

	"google.golang.org/genproto/googleapis/api/httpbody"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/gateway/openapi"
)

// Envelope is what many HTTP APIs have around their responses. That of a reply is
// {"errno": 0, "msg": "", "data": REPLY}, and that of an error has the gRPC code, the
// message, and as its data the details of the status, null if there are none.
type Envelope struct {
	// AlwaysOK has errors answered with the HTTP status 200, too.
	AlwaysOK bool
	// Errno, Msg and Data are other names for the three.
	Errno, Msg, Data string
}

// described returns the envelope as the OpenAPI document has it.
func (e *Envelope) described() *openapi.Envelope {
	if e == nil {
		return nil
	}
	return &openapi.Envelope{Errno: e.Errno, Msg: e.Msg, Data: e.Data, AlwaysOK: e.AlwaysOK}
}

// enveloped is a reply or an error in its envelope.
type enveloped struct {
	names *Envelope
	errno int32
	msg   string
	data  json.RawMessage
}

// MarshalJSON returns the object. It is a value's, for runtime.JSONPb takes the pointers
// away from what is no message.
func (e enveloped) MarshalJSON() ([]byte, error) {
	msg, err := json.Marshal(e.msg)
	if err != nil {
		return nil, err
	}
	b := appendKey([]byte{'{'}, cmp.Or(e.names.Errno, "errno"))
	b = strconv.AppendInt(b, int64(e.errno), 10)
	b = append(appendKey(append(b, ','), cmp.Or(e.names.Msg, "msg")), msg...)
	b = append(appendKey(append(b, ','), cmp.Or(e.names.Data, "data")), e.data...)
	return append(b, '}'), nil
}

func appendKey(b []byte, name string) []byte {
	return append(strconv.AppendQuote(b, name), ':')
}

// rewriter returns a runtime.ForwardResponseRewriter that puts everything into its
// envelope. It is asked for what is written only once, by package runtime.
func (e *Envelope) rewriter(c *codec) func(context.Context, proto.Message) (any, error) {
	return func(_ context.Context, m proto.Message) (any, error) {
		switch m := m.(type) {
		case *httpbody.HttpBody:
			return m, nil
		case *statuspb.Status: // a reply of that kind has another Go type
			return e.failure(c, m)
		case *fieldReply:
			if _, ok := m.value.(*httpbody.HttpBody); ok {
				return m, nil
			}
			return e.success(c, m.value)
		}
		return e.success(c, m)
	}
}

func (e *Envelope) success(c *codec, reply any) (*enveloped, error) {
	data, err := c.Marshal(reply)
	return &enveloped{names: e, data: data}, err
}

func (e *Envelope) failure(c *codec, st *statuspb.Status) (*enveloped, error) {
	data := []byte("null")
	for i, d := range st.GetDetails() {
		b, err := c.Marshal(d)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			data = []byte{'['}
		} else {
			data = append(data, ',')
		}
		data = append(data, b...)
	}
	if len(st.GetDetails()) > 0 {
		data = append(data, ']')
	}
	return &enveloped{names: e, errno: st.GetCode(), msg: st.GetMessage(), data: data}, nil
}
