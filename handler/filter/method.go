package filter

import (
	"context"
	"reflect"
	"runtime"

	"google.golang.org/grpc/codes"
)

// Method is one method of a service: its full name, "/package.Service/Method",
// and the types of its messages. Make it with For.
type Method[Req, Resp any] struct{ name string }

// For returns the method with that full name. Req and Resp are the structs of
// its messages, not pointers to them. Whether the method exists and has these
// messages is checked when a Set is made.
func For[Req, Resp any](method string) Method[Req, Resp] {
	return Method[Req, Resp]{name: method}
}

// Filter is a function at one point of the calls of a method. Make it with one
// of Method's On methods; it does something once it is part of a Set.
type Filter struct {
	method    string
	point     Point
	name      string // of the function, for people
	req, resp reflect.Type

	hook    func(ctx context.Context, c *Call) Verdict
	message func(ctx context.Context, c *Call, m any) Verdict
	end     func(ctx context.Context, c *Call, end *End)
}

// Point is where in a call a filter is asked.
type Point uint8

// The points, in the order in which a call comes by them.
const (
	AtStart Point = iota
	AtRequest
	AtHeader
	AtResponse
	AtEnd
)

var pointNames = [...]string{"start", "request", "header", "response", "end"}

// String returns the name of the point: start, request, header, response, end.
func (p Point) String() string { return pointNames[p] }

// Method returns the full name of the method that the filter is for.
func (f *Filter) Method() string { return f.method }

// Point says where in a call the filter is asked.
func (f *Filter) Point() Point { return f.point }

// String returns the name of the filter's function.
func (f *Filter) String() string { return f.name }

// New returns a filter of a method whose types are known at run time only. At
// AtStart and AtHeader there is no message, and m is nil; otherwise it is what
// the Codec of the chain makes. For AtEnd see NewEnd.
func New(method string, at Point, name string, f func(ctx context.Context, c *Call, m any) Verdict) *Filter {
	return &Filter{
		method: method, point: at, name: name, message: f,
		hook: func(ctx context.Context, c *Call) Verdict { return f(ctx, c, nil) },
	}
}

// NewEnd is New for AtEnd.
func NewEnd(method, name string, f func(ctx context.Context, c *Call, end *End)) *Filter {
	return &Filter{method: method, point: AtEnd, name: name, end: f}
}

// OnStart returns a filter that is asked when a call begins, before its backend
// is. It may change the RequestHeader and return Forward, or reject or answer
// the call.
func (m Method[Req, Resp]) OnStart(f func(ctx context.Context, c *Call) Verdict) *Filter {
	filter := m.filter(AtStart, f)
	filter.hook = f
	return filter
}

// OnRequest returns a filter of the messages from the client. The message is
// the filter's to change and keep until it returns.
func (m Method[Req, Resp]) OnRequest(f func(ctx context.Context, c *Call, message *Req) Verdict) *Filter {
	filter := m.filter(AtRequest, f)
	filter.message = func(ctx context.Context, c *Call, message any) Verdict { return f(ctx, c, message.(*Req)) }
	return filter
}

// OnHeader returns a filter that is asked when the headers of the backend's
// response have come, before the client gets them. It may change the
// ResponseHeader and return Forward, or reject or answer the call. It is not
// asked when the response has none (trailers-only).
func (m Method[Req, Resp]) OnHeader(f func(ctx context.Context, c *Call) Verdict) *Filter {
	filter := m.filter(AtHeader, f)
	filter.hook = f
	return filter
}

// OnResponse returns a filter of the messages from the backend; see OnRequest.
func (m Method[Req, Resp]) OnResponse(f func(ctx context.Context, c *Call, message *Resp) Verdict) *Filter {
	filter := m.filter(AtResponse, f)
	filter.message = func(ctx context.Context, c *Call, message any) Verdict { return f(ctx, c, message.(*Resp)) }
	return filter
}

// OnEnd returns a filter that is asked once for each call, however that ends,
// with the status that the client gets. It may change that and the
// ResponseTrailer; of a call that has been aborted (by its client, a deadline,
// the proxy's end) it only learns.
func (m Method[Req, Resp]) OnEnd(f func(ctx context.Context, c *Call, end *End)) *Filter {
	filter := m.filter(AtEnd, f)
	filter.end = f
	return filter
}

func (m Method[Req, Resp]) filter(at Point, f any) *Filter {
	return &Filter{
		method: m.name, point: at, name: FunctionName(f),
		req: reflect.TypeFor[Req](), resp: reflect.TypeFor[Resp](),
	}
}

// FunctionName returns the name of f as the source has it, as far as that is
// known.
func FunctionName(f any) string {
	v := reflect.ValueOf(f)
	if v.IsNil() {
		return "nil"
	}
	if fn := runtime.FuncForPC(v.Pointer()); fn != nil {
		return fn.Name()
	}
	return "func"
}

// Answer ends the call with OK and these messages as the whole rest of the
// response. The backend is not asked, or no longer.
func (m Method[Req, Resp]) Answer(messages ...*Resp) Verdict {
	return Verdict{action: answer, answer: boxed(messages)}
}

// WithRequests puts messages before and after the one that v is about, for
// OnRequest. The filters that follow see them, too, and may change them: each
// call needs messages of its own.
func (m Method[Req, Resp]) WithRequests(before []*Req, v Verdict, after []*Req) Verdict {
	return v.with(Request, boxed(before), boxed(after))
}

// WithResponses is WithRequests for OnResponse.
func (m Method[Req, Resp]) WithResponses(before []*Resp, v Verdict, after []*Resp) Verdict {
	return v.with(Response, boxed(before), boxed(after))
}

func (v Verdict) with(d Direction, before, after []any) Verdict {
	v.inserts, v.before, v.after = d, before, after
	return v
}

func boxed[M any](messages []*M) []any {
	all := make([]any, len(messages))
	for i, m := range messages {
		all[i] = m
	}
	return all
}

// End is how a call ends.
type End struct {
	// Code, Message and Details (a serialised google.rpc.Status, nil for none)
	// are the status.
	Code    codes.Code
	Message string
	Details []byte
	// Reason says why the proxy, and not the backend, has ended the call: one
	// of the reasons of package stream, "" for a backend's status. It is not to
	// be changed.
	Reason string
}
