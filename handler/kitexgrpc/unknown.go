package kitexgrpc

import (
	"context"
	"sync"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Server feeds the calls of Kitex servers to the relay. Its Unknown method is
// what server.WithGRPCUnknownServiceHandler takes.
type Server struct {
	// Serve carries one call and has finished it when it returns.
	Serve func(in stream.Inbound)
	// MaxStreams is how many calls one client connection may have open. Kitex
	// advertises its own limit to clients, but does not hold them to it.
	// Zero means no limit.
	MaxStreams int
	// ProbeMethod is the full method name that is answered on the spot, for
	// the proxy to see that its own listener works. "" for none.
	ProbeMethod string

	open openStreams
}

// Unknown carries one call of a method that the Kitex server has no service
// for. It always returns nil: by then it has ended the call itself, with the
// exact status.
func (s *Server) Unknown(ctx context.Context, _ string, st streaming.Stream) error {
	in, err := newInbound(ctx, st)
	if err != nil {
		// Without the stream only Kitex can answer.
		klog.CtxErrorf(ctx, "kitexproxy: cannot take over the call: %v", err)
		return err
	}
	if !s.open.enter(in.tr, s.MaxStreams) {
		in.Finish((&stream.Failure{
			Reason: stream.TooManyStreams, Code: stream.Unavailable,
			Message: "too many open calls on this connection",
		}).Trailer())
		return nil
	}
	in.leave = func() { s.open.leave(in.tr) }
	if s.ProbeMethod != "" && in.req.Method == s.ProbeMethod {
		in.Finish(ProbeAnswer())
		return nil
	}
	s.Serve(in)
	return nil
}

// openStreams counts the open calls of each client connection. A connection
// without calls takes no memory.
type openStreams struct {
	mu     sync.Mutex
	counts map[grpc.ServerTransport]int
}

// enter counts a call in, unless the connection has limit calls already.
func (o *openStreams) enter(tr grpc.ServerTransport, limit int) bool {
	if limit <= 0 {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = make(map[grpc.ServerTransport]int)
	}
	if o.counts[tr] >= limit {
		return false
	}
	o.counts[tr]++
	return true
}

func (o *openStreams) leave(tr grpc.ServerTransport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := o.counts[tr]; n > 1 {
		o.counts[tr] = n - 1
	} else {
		delete(o.counts, tr)
	}
}
