package h2grpc

import (
	"context"
	"io"
	"strconv"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// MalformedTimeout is the end of a call whose grpc-timeout is v, which is none.
func MalformedTimeout(v string) *stream.Failure {
	return &stream.Failure{
		Reason: stream.RequestMalformed, Code: stream.Internal, Message: "malformed grpc-timeout " + strconv.Quote(v),
	}
}

// Server feeds the calls of client connections to the relay.
type Server struct {
	// Serve carries one call and has finished it when it returns.
	Serve func(in stream.Inbound)
	// ProbeMethod is the full method name that is answered with ProbeAnswer on
	// the spot. "" for none.
	ProbeMethod string
	ProbeAnswer *stream.Trailer

	running sync.WaitGroup // a goroutine for each call
}

// Begin is an h2.Config's. It starts a goroutine that ends with the call.
func (s *Server) Begin(st *h2.Stream, fields []hpack.HeaderField, last bool) {
	h := parseRequest(fields)
	if s.ProbeMethod != "" && h.req.Method == s.ProbeMethod {
		_ = st.WriteHeaders(TrailersOnlyFields(s.ProbeAnswer, grpcContentType), true)
		st.Stop()
		return
	}
	if refuse := notGRPC(&h); refuse != nil {
		_ = st.WriteHeaders(refuse, true)
		st.Stop()
		return
	}
	in := newInbound(context.Background(), st, &h)
	if last {
		in.in.end(io.EOF)
	}
	st.SetEvents(in)
	if h.timeout != "" {
		if _, ok := ParseTimeout(h.timeout); !ok {
			in.Finish(MalformedTimeout(h.timeout).Trailer())
			return
		}
	}
	s.running.Go(func() { s.Serve(in) })
}

// Wait returns when no call is left. No connection may be served any more.
func (s *Server) Wait() { s.running.Wait() }

// MethodOf returns the full method name of a request for a gRPC call. It reports
// false if the request is none, and Begin is to say so.
func MethodOf(fields []hpack.HeaderField) (string, bool) {
	path, grpc, post := "", false, false
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case ":path":
			path = f.Value
		case ":method":
			post = f.Value == "POST"
		case contentType:
			grpc = isGRPC(f.Value)
		}
	}
	return path, grpc && post && path != "" && path[0] == '/'
}

// notGRPC returns the answer to a request that is not gRPC, nil for one that is
// (the specification's section on requests asks for 415).
func notGRPC(h *head) []hpack.HeaderField {
	status, allow := "", ""
	switch {
	case !isGRPC(h.req.ContentType):
		status = "415"
	case h.method != "POST":
		status, allow = "405", "POST"
	case h.req.Method == "" || h.req.Method[0] != '/':
		status = "400"
	default:
		return nil
	}
	fields := []hpack.HeaderField{{Name: ":status", Value: status}, {Name: "content-length", Value: "0"}}
	return appendUnlessEmpty(fields, "allow", allow)
}
