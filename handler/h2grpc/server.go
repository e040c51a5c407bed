package h2grpc

import (
	"io"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
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
	// ProbeMethod is the full method name that is answered with ProbeAnswer on
	// the spot. "" for none.
	ProbeMethod string
	ProbeAnswer *stream.Trailer

	// Go runs a call, in a goroutine that it may have used before: the stacks of
	// new ones have to grow first. nil for a new one each.
	Go func(call func())

	running sync.WaitGroup // the calls
}

// Begin takes a new request as an h2.Begin does. It starts a goroutine that ends with
// the call, for serve, which carries the call and has finished it when it returns. If
// the request is not for serve it answers that itself, and returns how: nil otherwise,
// and for what is no gRPC.
func (s *Server) Begin(st *h2.Stream, fields []hpack.HeaderField, last bool, serve func(in stream.Inbound)) *stream.Trailer {
	h := parseRequest(fields)
	if s.ProbeMethod != "" && h.req.Method == s.ProbeMethod {
		Refuse(st, s.ProbeAnswer, grpcContentType)
		return s.ProbeAnswer
	}
	if fields, text := notGRPC(&h); fields != nil {
		refuse(st, fields, text)
		return nil
	}
	in := newInbound(st, &h)
	if last {
		in.in.end(io.EOF)
	}
	st.SetEvents(in)
	if h.timeout != "" {
		if _, ok := ParseTimeout(h.timeout); !ok {
			t := MalformedTimeout(h.timeout).Trailer()
			in.Finish(t)
			return t
		}
	}
	if s.Go == nil {
		s.running.Go(func() { serve(in) })
		return nil
	}
	s.running.Add(1)
	s.Go(func() {
		defer s.running.Done()
		serve(in)
	})
	return nil
}

// Refuse answers a new request, asked in the content type given, with t alone. What
// is still to come of it is dropped.
func Refuse(s *h2.Stream, t *stream.Trailer, asked string) {
	if s.WriteHeaders(TrailersOnlyFields(t, asked), true) != nil {
		s.Reset(http2.ErrCodeInternal) // the client takes no header list at all
		return
	}
	s.Stop()
}

// Wait returns when no call is left. No connection may be served any more.
func (s *Server) Wait() { s.running.Wait() }

// MethodOf returns the full method name of a request for a gRPC call, and its
// :authority. It reports false if the request is none, and Begin is to say so.
func MethodOf(fields []hpack.HeaderField) (path, authority string, ok bool) {
	grpc, post := false, false
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case ":path":
			path = f.Value
		case ":authority":
			authority = f.Value
		case ":method":
			post = f.Value == "POST"
		case contentType:
			grpc = isGRPC(f.Value)
		}
	}
	return path, authority, grpc && post && path != "" && path[0] == '/'
}

// notGRPC returns the answer to a request that is not gRPC, nil for one that is
// (the specification's section on requests asks for 415), and its text, "" for
// none.
func notGRPC(h *head) (fields []hpack.HeaderField, text string) {
	status, allow := "", ""
	switch {
	case !isGRPC(h.req.ContentType):
		status, text = "415", "this is a gRPC server: the content-type of requests is application/grpc\n"
	case h.method != "POST":
		status, allow, text = "405", "POST", "this is a gRPC server: the method of requests is POST\n"
	case h.req.Method == "" || h.req.Method[0] != '/':
		status, text = "400", "this is a gRPC server: the path of requests is /Service/Method\n"
	default:
		return nil, ""
	}
	fields = []hpack.HeaderField{
		{Name: ":status", Value: status},
		{Name: "content-type", Value: "text/plain; charset=utf-8"},
		{Name: "content-length", Value: strconv.Itoa(len(text))},
	}
	if h.method == "HEAD" {
		text = "" // what its answer never has, whatever the length says
	}
	return appendUnlessEmpty(fields, "allow", allow), text
}

// refuse answers a request that is not gRPC. What is still to come of it is
// dropped, and not asked for.
func refuse(s *h2.Stream, fields []hpack.HeaderField, text string) {
	if s.WriteHeaders(fields, text == "") != nil {
		s.Reset(http2.ErrCodeCancel) // the client takes no header list at all
		return
	}
	if text != "" {
		s.WriteData([]byte(text), true)
	}
}
