package gateway

import (
	"bytes"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// framing is how the replies of a stream are written: a Marshaler for what
// runtime.ForwardResponseStream has marshaled, {"result": REPLY} or {"error": STATUS}.
type framing struct {
	runtime.Marshaler
	codec    *codec
	envelope *Envelope
	events   bool // Server-Sent Events
	raw      bool // bodies as they are
}

// Marshal returns one reply, or the error that ends the stream.
func (f *framing) Marshal(v any) ([]byte, error) {
	switch chunk := v.(type) {
	case map[string]any:
		return f.result(chunk, chunk["result"])
	case map[string]proto.Message:
		if st, ok := chunk["error"].(*statuspb.Status); ok {
			return f.failure(chunk, st)
		}
	}
	return f.Marshaler.Marshal(v)
}

func (f *framing) result(chunk map[string]any, reply any) ([]byte, error) {
	_, inEnvelope := reply.(*enveloped)
	if !f.events && !inEnvelope && f.Marshaler != runtime.Marshaler(f.codec) {
		return f.Marshaler.Marshal(chunk)
	}
	b, err := f.Marshaler.Marshal(reply)
	switch {
	case err != nil || inEnvelope && !f.events:
		return b, err
	case f.events:
		return event("", b), nil
	}
	return wrapped(`{"result":`, b), nil
}

func (f *framing) failure(chunk map[string]proto.Message, st *statuspb.Status) ([]byte, error) {
	var what any = chunk
	if f.events {
		what = st
	}
	if f.envelope != nil {
		e, err := f.envelope.failure(f.codec, st)
		if err != nil {
			return nil, err
		}
		what = e
	}
	b, err := f.Marshaler.Marshal(what)
	if err == nil && f.events {
		b = event("error", b)
	}
	return b, err
}

func wrapped(before string, b []byte) []byte {
	all := make([]byte, 0, len(before)+len(b)+1)
	return append(append(append(all, before...), b...), '}')
}

// Delimiter is what stands behind each.
func (f *framing) Delimiter() []byte {
	switch d, ok := f.Marshaler.(runtime.Delimited); {
	case f.raw:
		return nil
	case f.events:
		return []byte("\n\n")
	case ok:
		return d.Delimiter()
	}
	return []byte("\n")
}

// StreamContentType is the type of the whole.
func (f *framing) StreamContentType(v any) string {
	if f.events {
		return eventStream
	}
	if s, ok := f.Marshaler.(runtime.StreamContentType); ok {
		return s.StreamContentType(v)
	}
	return f.ContentType(v)
}

// shownType is the type of what of a reply is shown, nil if that is no message.
func (e *endpoint) shownType() protoreflect.MessageDescriptor {
	if e.ResponseField != nil {
		return e.ResponseField.Message()
	}
	return e.Method.Output()
}

const (
	eventStream = "text/event-stream"
	endEvent    = "event: end\ndata: {}\n\n"
	// ping is a comment, which clients ignore.
	ping = ": ping\n\n"
)

func acceptsEvents(req *http.Request) bool {
	for _, accept := range req.Header["Accept"] {
		for one := range strings.SplitSeq(accept, ",") {
			name, _, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(name), eventStream) {
				return true
			}
		}
	}
	return false
}

// event returns an event without the empty line behind it. See
// https://html.spec.whatwg.org/multipage/server-sent-events.html.
func event(name string, data []byte) []byte {
	var b []byte
	if name != "" {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	b = append(b, "data: "...)
	return append(b, bytes.ReplaceAll(data, []byte("\n"), []byte("\ndata: "))...)
}

// prepare sets the headers of a response of events.
func prepare(w http.ResponseWriter) {
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect them
}

// events receives replies, and sends comments while there are none.
type events struct {
	x       *exchange
	replies chan received
	timer   *time.Timer // nil for no comments
	begun   bool        // the response has, with a comment
}

type received struct {
	m   proto.Message
	err error
}

// newEvents begins to receive.
func newEvents(x *exchange, recv func() (proto.Message, error)) *events {
	e := &events{x: x, replies: make(chan received)}
	if x.opts.KeepAlive > 0 {
		e.timer = time.NewTimer(x.opts.KeepAlive)
	}
	go x.receiveAll(recv, e.replies) // ends with the call
	return e
}

func (x *exchange) receiveAll(recv func() (proto.Message, error), to chan<- received) {
	for {
		m, err := x.guarded(recv)
		select {
		case to <- received{m, err}:
		case <-x.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// guarded makes a panic an error, for goroutines in which it would end the process.
func (x *exchange) guarded(next func() (proto.Message, error)) (m proto.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			x.opts.Logger.Error("a request of the gateway has panicked", "method", x.full,
				"panic", p, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return next()
}

func (e *events) recv() (proto.Message, error) {
	for {
		select {
		case r := <-e.replies:
			return r.m, r.err
		case <-e.x.ctx.Done(): // and the other goroutine may have gone with it
			return nil, status.FromContextError(e.x.ctx.Err()).Err()
		case <-e.silence():
			if err := e.ping(); err != nil {
				return nil, err
			}
		}
	}
}

// silence begins anew to wait for as long as there may be no event.
func (e *events) silence() <-chan time.Time {
	if e.timer == nil {
		return nil
	}
	e.timer.Reset(e.x.opts.KeepAlive)
	return e.timer.C
}

func (e *events) ping() error {
	if !e.begun {
		prepare(e.x.w)
		e.begun = true
	}
	if _, err := e.x.w.Write([]byte(ping)); err != nil {
		return err
	}
	return http.NewResponseController(e.x.w).Flush()
}
