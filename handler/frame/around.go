package frame

import (
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// watch has around be told of the call. It is for the beginning.
func (c *call) watch(around *intercept.Call) {
	c.around = around
	if around.WantsMessages() {
		c.requests.Each = c.message(filter.Request)
		c.answers.Each = c.message(filter.Response)
	}
}

// message returns what is called for each message of a direction. It is called with
// mu held.
func (c *call) message(d filter.Direction) func(byte, uint32) {
	return func(flag byte, length uint32) {
		if c.refusal == nil {
			c.refuse(c.around.Message(intercept.Message{Direction: d, Compressed: flag != 0, Length: int(length)}))
		}
	}
}

// refuse notes that a link has refused a message, unless err is nil.
func (c *call) refuse(err error) {
	if err != nil {
		c.refusal = intercept.FailureOf(err)
	}
}

// withAdded returns the head of a response with what links have added to it.
func (c *call) withAdded(fields []hpack.HeaderField) []hpack.HeaderField {
	more := c.around.ResponseHeader()
	if len(more) == 0 {
		return fields
	}
	all := make([]hpack.HeaderField, 0, len(fields)+len(more))
	all = append(all, fields...)
	for _, f := range more {
		all = append(all, hpack.HeaderField{Name: f.Key, Value: f.Value})
	}
	return all
}

// tellHeader tells of the head of a response that is not the end as well.
func (c *call) tellHeader(fields []hpack.HeaderField) {
	if c.around.WantsHeader() {
		c.around.WroteHeader(h2grpc.ParseHeader(fields).Metadata)
	}
}

// tellEnd tells how the call ends, once. It needs mu.
func (c *call) tellEnd(t *stream.Trailer) {
	if c.around == nil {
		return
	}
	c.backend.tellEnd()
	c.around.Crossed(filter.Request, int64(c.requests.Messages()), int64(c.received))
	c.around.Crossed(filter.Response, int64(c.answers.Messages()), int64(c.returned))
	c.around.End(t)
	c.around = nil
}

// tellAnswered is tellEnd for the fields of a backend's trailers.
func (c *call) tellAnswered(fields []hpack.HeaderField) {
	if c.around != nil {
		c.tellEnd(trailerOf(fields))
	}
}

// plainOK is the end of most calls.
var plainOK = new(stream.Trailer)

func trailerOf(fields []hpack.HeaderField) *stream.Trailer {
	for i := range fields {
		f := &fields[i]
		if !(f.Name == "grpc-status" && f.Value == "0" || f.Name == "grpc-message" && f.Value == "") {
			return h2grpc.ParseTrailer(fields)
		}
	}
	return plainOK
}

// givenUp is the end of a call that nothing else has ended.
var givenUp = stream.CanceledByClient.Trailer()

// try is an instance that a call is to be sent to, or has been.
type try struct {
	instance *cluster.Endpoint
	told     *intercept.Attempt // nil if nobody wants to know of it, or has been told of its end
}

// newTry counts the call in at an instance. It needs mu.
func (c *call) newTry(instance *cluster.Endpoint) try {
	instance.Begin()
	return try{instance, c.around.BeginAttempt(c.target.Cluster.Name(), instance.Address())}
}

// end counts the call out at the instance.
func (t *try) end(r cluster.Result) {
	t.instance.End(r)
	t.tell(r)
}

func (t *try) tell(r cluster.Result) {
	t.told.End(r)
	t.told = nil
}

// fieldsFor returns the head of the request as an instance is sent it. They are valid
// until the next call.
func (r *request) fieldsFor(t *try) []hpack.HeaderField {
	head := r.fields()
	if t.told == nil || len(t.told.Header) == 0 {
		return head
	}
	r.sending = h2grpc.AppendHead(r.sending[:0], head, t.told.Header)
	return r.sending
}

// tellEnd tells of the end of the attempt that the call ends with, which may be nil.
func (a *attempt) tellEnd() {
	if a != nil {
		a.try.tell(a.result)
	}
}
