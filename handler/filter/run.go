package filter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Run is the filters of one call at work. Start comes first and End last; the
// messages of each direction are one goroutine's.
type Run struct {
	chain               *Chain
	shared              shared
	requests, responses Call
	log                 *slog.Logger
	exits               func(error)
	asking              asking
}

// asking has the filters of the end asked last: the client of a stream may still
// be sending when its backend ends the call.
type asking struct {
	mu          sync.Mutex
	over        bool            // the filters of the end are asked
	interrupted bool            // and are to come back
	ctx         context.Context // for the filters of the request, nil before the first
	cancel      context.CancelFunc
	running     sync.WaitGroup // those filters; see begin
}

// ErrOver is the error of a message that comes when the filters of the end are
// asked already. It is dropped.
var ErrOver = errors.New("the call has ended")

// begin returns the context for a message of the request, whose filters have been
// asked with running.Done.
func (a *asking) begin(ctx context.Context) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil, ErrOver
	}
	if a.ctx == nil {
		a.ctx, a.cancel = context.WithCancel(ctx)
	}
	a.running.Add(1)
	return a.ctx, nil
}

// end returns when no filter of the request runs any more, with the context for
// those of the end. One that waits for its context is told to come back.
func (a *asking) end(ctx context.Context) (context.Context, context.CancelFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.cancel != nil {
		a.cancel()
		a.mu.Unlock()
		a.running.Wait()
		a.mu.Lock()
	}
	ctx, a.cancel = context.WithCancel(ctx)
	if a.interrupted {
		a.cancel()
	}
	return ctx, a.cancel
}

// Interrupt ends the context of the filters of the end, from any goroutine.
func (r *Run) Interrupt() {
	a := &r.asking
	a.mu.Lock()
	defer a.mu.Unlock()
	a.interrupted = true
	if a.cancel != nil {
		a.cancel()
	}
}

// Ended is the error of a call that a filter has ended, by an answer or by a
// rejection.
type Ended struct {
	Header   stream.Metadata // of a response that has none yet; nil for none
	Messages [][]byte        // encoded, for the client
	Trailer  *stream.Trailer
	filter   string
}

// Error names the filter and the status.
func (e *Ended) Error() string {
	return fmt.Sprintf("%s ended the call with %v: %s", e.filter, e.Trailer.Status.Code, e.Trailer.Status.Message)
}

// Message is one message that the filters of a direction let through.
type Message struct {
	// Payload is the message's encoding; nil if it is the original one.
	Payload []byte
	// Original is true for the message that came, unchanged.
	Original bool
}

// Start asks the filters of the start. The error is an *Ended or a
// *stream.Failure.
func (r *Run) Start(ctx context.Context) error { return r.hooks(ctx, AtStart, &r.requests) }

// Settle has the request's header, and its cluster, not be changed any more.
func (r *Run) Settle() { r.shared.requestHeader.Seal() }

// Request returns what goes to the backend, and in which cluster. It settles both.
func (r *Run) Request() (req *stream.Request, cluster string) {
	r.Settle()
	copied := *r.shared.request
	copied.Metadata = r.shared.requestHeader.Fields()
	return &copied, r.shared.cluster
}

// Affinity returns the key that filters have set with SetAffinity, "" for none.
func (r *Run) Affinity() string { return r.shared.affinity }

// Header asks the filters of the response's headers, and returns the headers
// for the client. The error is as Start's.
func (r *Run) Header(ctx context.Context, h *stream.Header) (*stream.Header, error) {
	m := &r.shared.responseHeader
	if len(r.chain.points[AtHeader]) == 0 {
		m.Begin(h.Metadata)
		m.Seal()
		return h, nil
	}
	m.Begin(slices.Clone(h.Metadata))
	err := r.hooks(ctx, AtHeader, &r.responses)
	m.Seal()
	copied := *h
	copied.Metadata = m.Fields()
	return &copied, err
}

// hooks asks the filters of a point that has no message.
func (r *Run) hooks(ctx context.Context, at Point, c *Call) error {
	for _, f := range r.chain.points[at] {
		v, err := r.ask(f, func() Verdict { return f.hook(ctx, c) })
		switch {
		case err != nil:
			return err
		case v.inserts != 0:
			return mistake(f, "there is no message to put others around")
		case v.action == changed, v.action == drop:
			return mistake(f, "there is no message to change or drop")
		case v.action != forward:
			return r.end(f, &v)
		}
	}
	return nil
}

// Messages takes a message of a direction through its filters, and appends to
// out what is to be sent. The error is an *Ended, for behind out, or a
// *stream.Failure, or an *Undecodable if payload is not a message of the method's,
// or ErrOver.
func (r *Run) Messages(ctx context.Context, d Direction, payload []byte, out []Message) ([]Message, error) {
	c := r.count(d)
	if d == Request && r.chain.clientStreams && len(r.chain.points[AtEnd]) > 0 {
		var err error
		if ctx, err = r.asking.begin(ctx); err != nil {
			return out, err
		}
		defer r.asking.running.Done()
	}
	codec := r.chain.codec(d)
	m, err := codec.Unmarshal(payload)
	if err != nil {
		return out, &Undecodable{fmt.Sprintf("it is no %s: %v", codec.Name(), err)}
	}
	p := pass{run: r, ctx: ctx, call: c, codec: codec, filters: r.chain.points[messagePoint(d)], out: out}
	err = p.through(0, m, true)
	return p.out, err
}

// Skip counts a message of a direction that no filter is asked about.
func (r *Run) Skip(d Direction) { r.count(d) }

func (r *Run) count(d Direction) *Call {
	c := &r.requests
	if d == Response {
		c = &r.responses
	}
	c.number++
	return c
}

// Undecodable is the error of a message that is none of its method's.
type Undecodable struct{ message string }

// Error names the type.
func (u *Undecodable) Error() string { return u.message }

// pass is one message on its way through the filters of its direction.
type pass struct {
	run     *Run
	ctx     context.Context
	call    *Call
	codec   Codec
	filters []*Filter
	out     []Message
}

// through takes m through the filters from the ith on. original tells that it is
// as it came.
func (p *pass) through(i int, m any, original bool) error {
	for ; i < len(p.filters); i++ {
		f := p.filters[i]
		v, err := p.run.ask(f, func() Verdict { return f.message(p.ctx, p.call, m) })
		if err != nil {
			return err
		}
		if v.inserts != 0 && v.inserts != p.call.direction {
			return mistake(f, "it adds messages of the other direction")
		}
		if err := p.all(i+1, f, m, v.before); err != nil {
			return err
		}
		switch v.action {
		case changed:
			original = false
		case drop:
			return p.all(i+1, f, m, v.after)
		case answer, reject:
			return p.run.end(f, &v)
		}
		if len(v.after) > 0 {
			if err := p.through(i+1, m, original); err != nil {
				return err
			}
			return p.all(i+1, f, m, v.after)
		}
	}
	if original {
		p.out = append(p.out, Message{Original: true})
		return nil
	}
	b, err := p.codec.Marshal(nil, m)
	if err != nil {
		return failed("a message of type %s cannot be encoded: %v", p.codec.Name(), err)
	}
	p.out = append(p.out, Message{Payload: b})
	return nil
}

// all takes the messages that f adds through the filters from the ith on. They
// are of the same type as like.
func (p *pass) all(i int, f *Filter, like any, added []any) error {
	for _, m := range added {
		if reflect.TypeOf(m) != reflect.TypeOf(like) {
			return mistake(f, fmt.Sprintf("it adds a message of type %T, where they are %T", m, like))
		}
		if isNil(m) {
			return mistake(f, "it adds a message that is nil")
		}
		if err := p.through(i, m, false); err != nil {
			return err
		}
	}
	return nil
}

func isNil(m any) bool { return m == nil || reflect.ValueOf(m).IsNil() }

// end returns the end of the call that v asks for.
func (r *Run) end(f *Filter, v *Verdict) error {
	e := &Ended{
		Header: v.header, filter: f.name,
		Trailer: &stream.Trailer{Status: v.status, Metadata: slices.Clip(v.trailer)}, // v may be every call's
	}
	if v.action == reject {
		if v.status.Code == stream.OK {
			return mistake(f, "it rejects a call with OK")
		}
		e.Trailer.Metadata = append(e.Trailer.Metadata, stream.Field{Key: stream.ReasonKey, Value: string(stream.Rejected)})
		return e
	}
	if len(v.answer) != 1 && !r.chain.serverStreams {
		return mistake(f, fmt.Sprintf("it answers %s with %d messages instead of one", r.chain.method, len(v.answer)))
	}
	for _, m := range v.answer {
		if f.resp != nil && reflect.TypeOf(m) != reflect.PointerTo(f.resp) {
			return mistake(f, fmt.Sprintf("it answers with a message of type %T, where they are *%v", m, f.resp))
		}
		if isNil(m) {
			return mistake(f, "it answers with a message that is nil")
		}
		b, err := r.chain.response.Marshal(nil, m)
		if err != nil {
			return failed("a message of type %s cannot be encoded: %v", r.chain.response.Name(), err)
		}
		e.Messages = append(e.Messages, b)
	}
	return e
}

// ask returns what f decides. One that panics, or makes something of no sense,
// ends its call. One that ends its goroutine does so, too, and ask does not return.
func (r *Run) ask(f *Filter, decide func() Verdict) (v Verdict, err error) {
	returned := false
	defer func() {
		if p := recover(); p != nil {
			err = r.panicked(f, p)
		} else if !returned {
			r.exited(f)
		}
	}()
	v = decide()
	returned = true
	if v.mistaken != nil {
		return v, mistake(f, v.mistaken.Error())
	}
	if v.misfit() {
		return v, mistake(f, "it adds headers, trailers or details to a verdict that takes none")
	}
	return v, nil
}

// End asks the filters of the end, and returns the trailer for the client. It is
// for the goroutine of the responses. No other filter is asked after it.
func (r *Run) End(ctx context.Context, t *stream.Trailer) *stream.Trailer {
	if len(r.chain.points[AtEnd]) == 0 {
		return t
	}
	ctx, done := r.asking.end(ctx)
	defer done()
	for _, f := range r.chain.points[AtEnd] {
		t = r.askEnd(ctx, f, t)
	}
	return t
}

// askEnd returns what f makes of t.
func (r *Run) askEnd(ctx context.Context, f *Filter, t *stream.Trailer) *stream.Trailer {
	was := End{
		Code: codes.Code(t.Status.Code), Message: t.Status.Message, Details: t.Status.Details,
		Reason: t.Metadata.Get(stream.ReasonKey),
	}
	end := was
	m := &r.shared.responseTrailer
	m.Begin(slices.Clone(t.Metadata))
	_, err := r.ask(f, func() Verdict {
		f.end(ctx, &r.responses, &end)
		return Forward
	})
	m.Seal()
	if err != nil {
		return stream.AsFailure(err).Trailer()
	}
	copied := *t
	copied.Metadata = m.Fields()
	copied.Status = stream.Status{Code: stream.Code(end.Code), Message: end.Message, Details: end.Details}
	if end.Code != was.Code || end.Message != was.Message {
		copied.Reset = nil // the status says more
		if bytes.Equal(end.Details, was.Details) {
			copied.Status.Details = restated(&copied.Status)
		}
	}
	return &copied
}

// restated returns the details of a status, and has them say the same as the rest
// of it: clients refuse what contradicts itself. What is no google.rpc.Status is
// left as it is.
func restated(s *stream.Status) []byte {
	var all status.Status
	if s.Details == nil || proto.Unmarshal(s.Details, &all) != nil {
		return s.Details
	}
	all.Code, all.Message = int32(s.Code), s.Message
	b, err := proto.Marshal(&all)
	if err != nil {
		return s.Details
	}
	return b
}

func mistake(f *Filter, what string) error {
	if f.req == nil { // New's name says what it is
		return failed("%s: %s", f.name, what)
	}
	return failed("filter %s: %s", f.name, what)
}

func failed(format string, args ...any) error {
	return &stream.Failure{Reason: stream.FilterFailed, Code: stream.Internal, Message: fmt.Sprintf(format, args...)}
}

// panicked tells the client that f panicked, and the log where.
func (r *Run) panicked(f *Filter, p any) error {
	r.log.Error("a filter panicked", "filter", f.name, "method", f.method, "panic", p, "stack", string(debug.Stack()))
	return mistake(f, "it panicked")
}

// exited tells of f that it has ended its goroutine.
func (r *Run) exited(f *Filter) {
	r.log.Error("a filter ended its goroutine", "filter", f.name, "method", f.method, "stack", string(debug.Stack()))
	if r.exits != nil {
		r.exits(mistake(f, "it ended its goroutine"))
	}
}
