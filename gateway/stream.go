package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// stream answers a request to a method that is no unary one. cancel ends the call with
// a status of our own.
func (x *exchange) stream(cancel context.CancelCauseFunc) {
	call, err := x.open()
	if err != nil {
		x.fail(err)
		return
	}
	if x.Method.IsStreamingClient() {
		defer x.sendAll(call, cancel)()
	} else if err := x.sendOne(call); err != nil {
		x.fail(err)
		return
	}
	recv := func() (proto.Message, error) { return x.recv(call) }
	if !x.Method.IsStreamingServer() {
		x.single(call, recv)
		return
	}
	x.forwardAll(call, recv)
}

func (x *exchange) open() (grpc.ClientStream, error) {
	return x.opts.Conn.NewStream(x.ctx, &grpc.StreamDesc{
		StreamName:    string(x.Method.Name()),
		ServerStreams: x.Method.IsStreamingServer(),
		ClientStreams: x.Method.IsStreamingClient(),
	}, x.full)
}

// sendOne sends the only request.
func (x *exchange) sendOne(call grpc.ClientStream) error {
	m, err := x.readRequest()
	if err != nil {
		return err
	}
	if err := call.SendMsg(m); err != nil && !errors.Is(err, io.EOF) { // EOF: why is for RecvMsg to say
		return err
	}
	return call.CloseSend()
}

// sendAll sends requests as they come in the body, while replies go out. What it
// returns has to be called before the handler returns: it waits for the end of that.
func (x *exchange) sendAll(call grpc.ClientStream, cancel context.CancelCauseFunc) (wait func()) {
	control := http.NewResponseController(x.w)
	_ = control.EnableFullDuplex() // HTTP/2 has it without being asked
	if x.req.ProtoMajor == 1 {
		// net/http would take what is left of a body that was not read for the next
		// request when the response is full duplex.
		x.w.Header().Set("Connection", "close")
	}
	done := make(chan bool, 1)
	go func() { // ends with the body, with the call, or with the deadline that wait sets
		complete, err := x.pump(call)
		if err != nil {
			cancel(err)
		}
		done <- complete
	}()
	return func() {
		select {
		case complete := <-done:
			if !complete {
				_ = control.SetReadDeadline(time.Unix(1, 0)) // nobody waits for the rest
			}
			return
		default:
		}
		cancel(context.Canceled) // or else it might wait for the backend to read
		if control.SetReadDeadline(time.Unix(1, 0)) == nil {
			<-done
		}
	}
}

// pump sends requests, and reports whether it has come to the end of the body. An
// error is a status for the client.
func (x *exchange) pump(call grpc.ClientStream) (complete bool, err error) {
	next := x.requests()
	for {
		m, err := x.guarded(next)
		if errors.Is(err, io.EOF) {
			_ = call.CloseSend() // that it does not work is for RecvMsg to say
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if call.SendMsg(m) != nil {
			return false, nil // the same
		}
	}
}

// requests returns what reads one request after the other. The last one is io.EOF.
func (x *exchange) requests() func() (proto.Message, error) {
	limit := &limited{r: x.req.Body, max: x.opts.MaxBody, err: x.opts.errTooLarge()}
	switch {
	case x.Body == "": // the path and the query are all there is
		return x.once()
	case x.rawBody():
		return x.chunks(limit)
	case x.inbound == runtime.Marshaler(x.codec) || x.BodyField != nil:
		decoder := json.NewDecoder(limit)
		return func() (proto.Message, error) {
			limit.reset()
			var body json.RawMessage
			if err := decoder.Decode(&body); err != nil {
				return nil, readError(err)
			}
			return x.message(body)
		}
	}
	decoder := x.inbound.NewDecoder(limit)
	return func() (proto.Message, error) {
		limit.reset()
		m := x.request.New()
		if err := decoder.Decode(m.Interface()); err != nil {
			return nil, readError(err)
		}
		return x.overlay(m)
	}
}

func (x *exchange) once() func() (proto.Message, error) {
	done := false
	return func() (proto.Message, error) {
		if done {
			return nil, io.EOF
		}
		done = true
		return x.message(nil)
	}
}

// chunks returns a body as it is in messages of up to 32 KiB.
func (x *exchange) chunks(limit *limited) func() (proto.Message, error) {
	return func() (proto.Message, error) {
		limit.reset()
		buf := make([]byte, 32<<10)
		n, err := limit.Read(buf)
		if n == 0 && err != nil {
			return nil, readError(err)
		}
		return x.message(buf[:n])
	}
}

// readError returns the status for a body of which no message can be read, and io.EOF
// for one that has ended.
func readError(err error) error {
	var chosen *runtime.HTTPStatusError
	if errors.Is(err, io.EOF) || errors.As(err, &chosen) {
		return err
	}
	return invalid("the body: %v", err)
}

// limited fails when a single message is larger than max.
type limited struct {
	r         io.Reader
	left, max int64
	err       error
}

func (l *limited) reset() { l.left = l.max }

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, l.err
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// recv returns the next reply. If we have ended the call ourselves, the error is why.
func (x *exchange) recv(call grpc.ClientStream) (proto.Message, error) {
	m := x.reply.New().Interface()
	err := call.RecvMsg(m)
	if err == nil {
		return x.shown(m)
	}
	if cause := context.Cause(x.ctx); cause != nil && !errors.Is(err, io.EOF) {
		var chosen *runtime.HTTPStatusError
		if _, ours := status.FromError(cause); ours || errors.As(cause, &chosen) {
			return nil, cause
		}
	}
	return nil, err
}

// single answers with the only reply of a client stream.
func (x *exchange) single(call grpc.ClientStream, recv func() (proto.Message, error)) {
	m, err := recv()
	x.metadata.HeaderMD, _ = call.Header() // there are none if it fails
	x.metadata.TrailerMD = call.Trailer()
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Internal, "the backend has ended the call without a reply")
	}
	if err != nil {
		x.fail(err)
		return
	}
	runtime.ForwardResponseMessage(x.context(), x.mux, x.outbound, x.w, x.req, m, x.mux.GetForwardResponseOptions()...)
}

// forwardAll answers with the replies of a stream.
func (x *exchange) forwardAll(call grpc.ClientStream, recv func() (proto.Message, error)) {
	f := &framing{Marshaler: x.outbound, envelope: x.opts.Envelope, codec: x.codec, raw: isHTTPBody(x.shownType())}
	f.events = !f.raw && acceptsEvents(x.req)
	var events *events
	if f.events {
		events = newEvents(x, recv)
		recv = events.recv
	}
	first, err := recv()
	x.metadata.HeaderMD, _ = call.Header()
	begun := events != nil && events.begun
	if err != nil && !errors.Is(err, io.EOF) && !begun {
		x.metadata.TrailerMD = call.Trailer()
		x.fail(err)
		return
	}
	s := &sequence{first: first, err: err, has: true, recv: recv, raw: f.raw}
	if f.events {
		prepare(x.w)
	}
	runtime.ForwardResponseStream(x.context(), x.mux, f, x.w, x.req, s.next, x.mux.GetForwardResponseOptions()...)
	switch {
	case s.broken:
		panic(http.ErrAbortHandler) // a body as it is has no other way to say so
	case s.ended && f.events:
		_, _ = io.WriteString(x.w, endEvent)
	}
}

// sequence hands out replies, the first of which is already there.
type sequence struct {
	first  proto.Message
	err    error
	has    bool
	recv   func() (proto.Message, error)
	raw    bool
	ended  bool // as the backend wanted
	broken bool // with an error that cannot be written
}

func (s *sequence) next() (proto.Message, error) {
	m, err := s.first, s.err
	if !s.has {
		m, err = s.recv()
	}
	s.has, s.first = false, nil
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil && s.raw:
		s.broken = true
		return nil, io.EOF
	}
	return m, err
}
