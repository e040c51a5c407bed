package h2grpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// inbound is a call of a client.
type inbound struct {
	s   *h2.Stream
	req stream.Request
	ctx callContext

	in  inbox
	out outbox

	mu       sync.Mutex // keeps the trailers behind the headers
	headers  bool       // the head of the response has been queued
	finished bool
}

var (
	_ stream.Inbound = (*inbound)(nil)
	_ h2.Events      = (*inbound)(nil)
)

func newInbound(s *h2.Stream, h *head) *inbound {
	in := &inbound{s: s, req: h.req}
	in.in.init(s)
	in.out.init(s)
	if d, ok := ParseTimeout(h.timeout); ok {
		in.ctx.endAt(time.Now().Add(d), func() { in.stop(errDeadline) })
	}
	return in
}

func (in *inbound) Context() context.Context { return &in.ctx }
func (in *inbound) Request() *stream.Request { return &in.req }
func (in *inbound) Peer() net.Addr           { return in.s.Conn().NetConn().RemoteAddr() }
func (in *inbound) Read(p []byte) error      { return in.in.read(p) }
func (in *inbound) Ready(n int) bool         { return in.in.ready(n) }
func (in *inbound) Complete() bool           { return in.in.complete() }
func (in *inbound) Flush()                   { in.s.Conn().FlushSoon() }
func (in *inbound) Write(b []byte) error     { return in.out.write(b, false) }

func (in *inbound) WriteHeader(h *stream.Header) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.finished {
		return errFinished
	}
	err := in.s.WriteHeaders(headerFields(h, in.req.ContentType), false)
	in.headers = err == nil
	return err
}

func (in *inbound) Finish(t *stream.Trailer) {
	in.mu.Lock()
	first, headers := !in.finished, in.headers
	in.finished = true
	in.mu.Unlock()
	if !first {
		return
	}
	in.end(t, headers)
	in.over(errFinished)
	in.s.Conn().FlushSoon()
}

// end queues what ends the call for the client.
func (in *inbound) end(t *stream.Trailer, headers bool) {
	if t.Reset != nil {
		in.s.Reset(http2.ErrCode(*t.Reset))
		return
	}
	var err error
	if headers {
		err = in.s.WriteTrailers(TrailerFields(t))
	} else {
		err = in.s.WriteHeaders(TrailersOnlyFields(t, in.req.ContentType), true)
	}
	if errors.Is(err, h2.ErrHeaderList) {
		in.s.Reset(http2.ErrCodeInternal) // the client is told, if not what
		return
	}
	in.s.Stop()
}

// over ends the call for the relay.
func (in *inbound) over(err error) {
	in.stop(err)
	in.ctx.end(context.Canceled)
}

// stop ends what waits for the client, who need not be there any more.
func (in *inbound) stop(err error) {
	in.in.fail(err)
	in.out.fail(err)
}

var (
	errFinished = errors.New("the call has ended")
	errDeadline = &stream.Failure{
		Reason: stream.DeadlinePassed, Code: stream.DeadlineExceeded, Message: "deadline exceeded before the call had ended",
	}
)

// Headers implements h2.Events; a client sends no response.
func (in *inbound) Headers([]hpack.HeaderField, bool) {}

// Data implements h2.Events.
func (in *inbound) Data(b []byte, last bool) {
	if !in.in.put(b) {
		in.s.Credit(len(b)) // it may have to go before the client reads its answer
	}
	if last {
		in.in.end(io.EOF)
	}
}

// Trailers implements h2.Events. gRPC knows no trailers of a request.
func (in *inbound) Trailers([]hpack.HeaderField) { in.in.end(io.EOF) }

// Sent implements h2.Events.
func (in *inbound) Sent(n int) { in.out.sent(n) }

// Closed implements h2.Events.
func (in *inbound) Closed(err error) {
	if err != nil {
		in.over(stream.CanceledByClient)
	}
}
