package h2grpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// outbound is a call to a backend.
type outbound struct {
	s       *h2.Stream
	cluster string
	address string
	release func() // gives the connection back

	in  inbox
	out outbox

	headed chan struct{}  // closed when header, trailer or failure is there
	header *stream.Header // nil if the response is trailers-only; not changed once headed

	mu       sync.Mutex
	isHeaded bool
	trailer  *stream.Trailer
	failure  *stream.Failure // why there is no trailer
	released bool
	ctx      context.Context
	unwatch  func() bool // of the context; nil for a callContext
}

var (
	_ stream.Outbound = (*outbound)(nil)
	_ h2.Events       = (*outbound)(nil)
)

func newOutbound(cluster, address string) *outbound {
	return &outbound{cluster: cluster, address: address, headed: make(chan struct{})}
}

// opened takes over the stream on which the call has been opened. Events may
// have come already. release gives its connection back.
func (o *outbound) opened(ctx context.Context, s *h2.Stream, release func()) {
	o.s, o.release = s, release
	o.in.init(s)
	o.out.init(s)
	o.ctx = ctx
	if call, ok := ctx.(*callContext); !ok || !call.watch(o) {
		o.unwatch = context.AfterFunc(ctx, o.contextEnded)
	}
}

// contextEnded ends the call with its context.
func (o *outbound) contextEnded() { o.fail(errContext(o.ctx)) }

// unwatchContext has the end of the context change nothing any more.
func (o *outbound) unwatchContext() {
	if o.unwatch != nil {
		o.unwatch()
		return
	}
	o.ctx.(*callContext).unwatch(o)
}

func (o *outbound) Header() (*stream.Header, error) {
	select {
	case <-o.headed:
	default:
		o.Flush()
		<-o.headed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.header == nil && o.failure != nil {
		return nil, o.failure
	}
	return o.header, nil
}

func (o *outbound) Read(p []byte) error {
	err := o.in.read(p)
	if err == io.ErrUnexpectedEOF {
		return o.protocol(stream.Internal, "the response ends inside a message")
	}
	return err
}

func (o *outbound) Ready(n int) bool                { return o.in.ready(n) }
func (o *outbound) Write(b []byte, last bool) error { return o.out.write(b, last) }
func (o *outbound) Flush()                          { o.s.Conn().FlushSoon() }

func (o *outbound) Trailer() *stream.Trailer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trailer
}

func (o *outbound) Abort() {
	o.mu.Lock()
	again := o.released
	o.released = true
	o.mu.Unlock()
	if again {
		return
	}
	o.unwatchContext()
	o.s.Reset(http2.ErrCodeCancel)
	o.s.Conn().Flush()
	o.fail(&stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: errFinished.Error()})
	o.release()
}

// fail ends the call at once, unless it has ended.
func (o *outbound) fail(f *stream.Failure) {
	o.failed(f)
	o.in.fail(f)
	o.out.fail(f)
}

// failed notes why there will be no trailer, unless there is one.
func (o *outbound) failed(f *stream.Failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.trailer == nil && o.failure == nil {
		o.failure = f
	}
	o.nowHeaded()
}

// nowHeaded needs mu.
func (o *outbound) nowHeaded() {
	if !o.isHeaded {
		o.isHeaded = true
		close(o.headed)
	}
}

// Headers implements h2.Events.
func (o *outbound) Headers(fields []hpack.HeaderField, last bool) {
	if f := CheckResponse(fields, last, o.cluster, o.address); f != nil {
		o.refuse(f)
		return
	}
	if last {
		o.ended(ParseTrailer(fields))
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.header = ParseHeader(fields)
	o.nowHeaded()
}

// refuse ends a call whose answer is not gRPC. The backend's stream is reset
// when the relay lets go of it.
func (o *outbound) refuse(f *stream.Failure) {
	o.failed(f)
	o.in.end(f)
	o.out.fail(f)
}

// Data implements h2.Events.
func (o *outbound) Data(b []byte, last bool) {
	_ = o.in.put(b) // if nobody reads it, the stream is about to be reset
	if last {
		o.refuse(o.protocol(stream.Internal, "the response ends without trailers"))
	}
}

// Trailers implements h2.Events.
func (o *outbound) Trailers(fields []hpack.HeaderField) {
	if f := CheckTrailers(fields, o.cluster, o.address); f != nil {
		o.refuse(f)
		return
	}
	o.ended(ParseTrailer(fields))
}

// ended takes in how the backend has ended the call.
func (o *outbound) ended(t *stream.Trailer) {
	o.mu.Lock()
	o.trailer = t
	o.nowHeaded()
	o.mu.Unlock()
	o.in.end(io.EOF)
}

// Sent implements h2.Events.
func (o *outbound) Sent(n int) { o.out.sent(n) }

// Closed implements h2.Events.
func (o *outbound) Closed(err error) {
	if err == nil {
		o.out.fail(errFinished)
		return
	}
	o.refuse(FailureOf(err, o.cluster, o.address))
}

func (o *outbound) protocol(code stream.Code, problem string) *stream.Failure {
	return ProtocolFailure(code, problem, o.cluster, o.address)
}

// errContext is the end of a call whose context has ended. The relay knows
// better why, and says so instead.
func errContext(ctx context.Context) *stream.Failure {
	var f *stream.Failure
	if errors.As(context.Cause(ctx), &f) {
		return f
	}
	return &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: ctx.Err().Error()}
}
