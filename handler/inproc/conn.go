package inproc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Conn makes calls. Its methods may be called concurrently. There is nothing to
// close: what runs of a call ends with it.
type Conn struct {
	serve func(stream.Inbound)
	opts  options
	calls callOptions // what a call has that asks for nothing else
	err   error       // why calls cannot have that
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// New returns a Conn whose calls serve carries. It is called once for each, and
// has ended the call when it returns. It has to return when the call's context
// has ended: a unary call waits for that. One that panics ends nothing but its
// call.
func New(serve func(stream.Inbound), opts ...Option) *Conn {
	c := &Conn{serve: serve, opts: options{userAgent: defaultUserAgent, logger: slog.Default()}}
	for _, set := range opts {
		set(&c.opts)
	}
	c.calls = defaultCallOptions
	c.err = c.calls.apply(c.opts.calls)
	return c
}

// Invoke makes a unary call, in the goroutine of who asks for it. args and reply
// are of type proto.Message. The error has a gRPC status.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	o, err := c.callOptions(opts)
	if err != nil {
		return err
	}
	in, err := c.newCall(ctx, method, &o)
	if err == nil {
		err = c.invoke(in, args, reply, &o)
	}
	o.done(in, err)
	return err
}

func (c *Conn) invoke(in *call, args, reply any, o *callOptions) error {
	defer in.giveUp(errFinished)
	request, err := encode(args, o.maxSend)
	if err != nil {
		return err
	}
	in.request.fill(request)
	in.response.collect(o.maxReceive)
	c.run(in)
	return in.response.only(reply, o.maxReceive)
}

// NewStream begins a call of any kind. As with a grpc.ClientConn, who begins one
// ends ctx, or receives until there is an error: the call lasts until then.
// Messages are of type proto.Message.
func (c *Conn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	o, err := c.callOptions(opts)
	if err != nil {
		return nil, err
	}
	in, err := c.newCall(ctx, method, &o)
	if err != nil {
		o.done(in, err)
		return nil, err
	}
	s := &clientStream{conn: c, call: in, desc: desc, opts: o}
	s.watch(ctx)
	if desc.ClientStreams {
		s.start()
	}
	return s, nil
}

func (c *Conn) callOptions(opts []grpc.CallOption) (callOptions, error) {
	o := c.calls
	if c.err != nil {
		return o, c.err
	}
	return o, o.apply(opts)
}

// run has the call carried, and returns when it has ended.
func (c *Conn) run(in *call) {
	defer in.Finish(unfinished.Trailer())
	defer c.recoverPanic(in)
	c.serve(in)
}

// unfinished ends the call that nobody has ended.
var unfinished = &stream.Failure{
	Reason: stream.ProxyInternal, Code: stream.Internal, Message: "internal error: the call was left without a status",
}

// recoverPanic ends the call that panicked, and nothing else.
func (c *Conn) recoverPanic(in *call) {
	p := recover()
	if p == nil {
		return
	}
	method := in.req.Method
	c.opts.logger.Error("a call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	f := &stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: fmt.Sprintf("%s: internal error", method)}
	in.Finish(f.Trailer())
}
