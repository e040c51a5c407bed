package grpcstats

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

type taggedConn struct{}

type taggedCall struct{}

// recorder is a stats.Handler that keeps what it is told, as text.
type recorder struct {
	mu     sync.Mutex
	events []string
	last   map[string]any // by type, as it came
	ended  chan struct{}  // gets one for each End
	closed chan struct{}  // closed by ConnEnd
}

func newRecorder() *recorder {
	return &recorder{last: make(map[string]any), ended: make(chan struct{}, 16), closed: make(chan struct{})}
}

func (r *recorder) note(s any, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, text)
	r.last[strings.TrimPrefix(fmt.Sprintf("%T", s), "*stats.")] = s
}

func (r *recorder) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	r.note(info, fmt.Sprintf("TagConn %t", info.LocalAddr != nil && info.RemoteAddr != nil))
	return context.WithValue(ctx, taggedConn{}, "conn")
}

func (r *recorder) HandleConn(ctx context.Context, s stats.ConnStats) {
	r.note(s, fmt.Sprintf("%T of %v", s, ctx.Value(taggedConn{})))
	if _, ok := s.(*stats.ConnEnd); ok {
		close(r.closed)
	}
}

func (r *recorder) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	p, _ := peer.FromContext(ctx)
	known := p != nil && p.Addr != nil && p.LocalAddr != nil
	text := fmt.Sprintf("TagRPC %s of %v", info.FullMethodName, ctx.Value(taggedConn{}))
	r.note(info, fmt.Sprintf("%s, metadata %v, peer %t", text, md["x-in"], known))
	return context.WithValue(ctx, taggedCall{}, "call")
}

func (r *recorder) HandleRPC(ctx context.Context, s stats.RPCStats) {
	text := fmt.Sprintf("%T of %v %v", s, ctx.Value(taggedConn{}), ctx.Value(taggedCall{}))
	switch s := s.(type) {
	case *stats.InHeader:
		text += fmt.Sprintf(" %s %v %v", s.FullMethod, s.Header["x-in"], s.Header["x-in-bin"])
		text += fmt.Sprintf(" %q %q", s.Header["content-type"], s.Compression)
		text += fmt.Sprintf(" addresses %t", s.LocalAddr != nil && s.RemoteAddr != nil)
		text += fmt.Sprintf(" authority %t", len(s.Header[":authority"]) == 1)
	case *stats.InPayload:
		text += fmt.Sprintf(" %d %d %d %t", s.Length, s.CompressedLength, s.WireLength, s.RecvTime.IsZero())
	case *stats.OutHeader:
		text += fmt.Sprint(" ", s.Header)
	case *stats.OutPayload:
		text += fmt.Sprintf(" %d %d %d %t", s.Length, s.CompressedLength, s.WireLength, s.SentTime.IsZero())
	case *stats.OutTrailer:
		text += fmt.Sprint(" ", s.Trailer)
	case *stats.End:
		text += fmt.Sprintf(" %v %v times %t", s.Error, status.Convert(s.Error).Details(), s.EndTime.Before(s.BeginTime))
	}
	r.note(s, text)
	if _, ok := s.(*stats.End); ok {
		r.ended <- struct{}{}
	}
}

// bodyLen is the length of the messages that tests send, encoded.
const bodyLen = 7

// call is what happens to a call, in order: each step is "in" or "out" for a message,
// or "header".
type call struct {
	method string
	steps  []string
	end    *stream.Trailer
}

func detailed(t *testing.T) *status.Status {
	st, err := status.New(codes.NotFound, "no such thing").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"})
	require.NoError(t, err)
	return st
}

func calls(t *testing.T) []call {
	st := detailed(t)
	details, err := proto.Marshal(st.Proto())
	require.NoError(t, err)
	ok := &stream.Trailer{Metadata: stream.Metadata{{Key: "x-end", Value: "last"}}}
	notFound := &stream.Trailer{Status: stream.Status{Code: 5, Message: st.Message(), Details: details}}
	return []call{
		{method: "/test.Kinds/Unary", steps: []string{"in", "header", "out"}, end: ok},
		{method: "/test.Kinds/Collect", steps: []string{"in", "in", "in", "header", "out"}, end: ok},
		{method: "/test.Kinds/Expand", steps: []string{"in", "header", "out", "out", "out"}, end: ok},
		{method: "/test.Kinds/Chat", steps: []string{"in", "header", "out", "in", "out"}, end: ok},
		{method: "/test.Kinds/Fail", steps: []string{"in"}, end: notFound}, // trailers-only
	}
}

// drive tells observers of a connection with calls, as those do that carry them.
func drive(o *intercept.Observers, calls ...call) {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	conn := o.BeginConn(&intercept.Conn{Local: local, Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}})
	for _, c := range calls {
		carry(intercept.Begin(o, info(conn, c.method)), c)
	}
	o.EndConn(conn)
}

func info(conn *intercept.Conn, method string) intercept.Info {
	return intercept.Info{
		Request: &stream.Request{
			Method: method, Authority: "localhost", ContentType: "application/grpc",
			Metadata: stream.Metadata{{Key: "x-in", Value: "a"}, {Key: "x-in", Value: "b"}, {Key: "x-in-bin", Value: "AAE"}},
		},
		Peer: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}, Conn: conn, Logger: slog.New(slog.DiscardHandler),
	}
}

func carry(c *intercept.Call, as call) {
	for _, step := range as.steps {
		switch step {
		case "header":
			c.WroteHeader(stream.Metadata{{Key: "x-out", Value: "first"}})
		case "in":
			_ = c.Message(intercept.Message{Direction: filter.Request, Length: bodyLen})
		case "out":
			_ = c.Message(intercept.Message{Direction: filter.Response, Length: bodyLen})
		}
	}
	c.End(as.end)
}

func TestEventsAreThoseOfGRPCGo(t *testing.T) {
	for _, as := range calls(t) {
		t.Run(as.method, func(t *testing.T) {
			want := newRecorder()
			callGRPCGo(t, want, as.method)
			got := newRecorder()
			drive(intercept.NewObservers(New(got, slog.New(slog.DiscardHandler))), as)
			require.NotEmpty(t, want.events)
			assert.Equal(t, strings.Join(want.events, "\n"), strings.Join(got.events, "\n"))
		})
	}
}

func TestSeveralHandlersAreTold(t *testing.T) {
	first, second := newRecorder(), newRecorder()
	log := slog.New(slog.DiscardHandler)
	drive(intercept.NewObservers(New(first, log), New(second, log)), calls(t)...)
	assert.NotEmpty(t, first.events)
	assert.Equal(t, first.events, second.events)
}

func TestContextsAreWhatLinksSee(t *testing.T) {
	o := intercept.NewObservers(New(newRecorder(), slog.New(slog.DiscardHandler)))
	conn := o.BeginConn(&intercept.Conn{})
	require.NotNil(t, conn)
	c := intercept.Begin(o, info(conn, "/a.B/C"))
	assert.Equal(t, "conn", c.Context().Value(taggedConn{}))
	assert.Equal(t, "call", c.Context().Value(taggedCall{}))
	md, _ := metadata.FromIncomingContext(c.Context())
	assert.Equal(t, []string{"\x00\x01"}, md["x-in-bin"])
	c.End(&stream.Trailer{})
}

func TestTLSOfTheClient(t *testing.T) {
	in := info(nil, "/a.B/C")
	in.TLS = &tls.ConnectionState{ServerName: "here"}
	c := intercept.Begin(intercept.NewObservers(New(newRecorder(), slog.New(slog.DiscardHandler))), in)
	p, _ := peer.FromContext(c.Context())
	require.IsType(t, credentials.TLSInfo{}, p.AuthInfo)
	assert.Equal(t, "here", p.AuthInfo.(credentials.TLSInfo).State.ServerName)
	assert.Nil(t, p.LocalAddr, "without a connection")
	c.End(&stream.Trailer{})
}

func TestClientThatIsGoneGetsNoTrailer(t *testing.T) {
	r := newRecorder()
	f := &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: "gone"}
	drive(intercept.NewObservers(New(r, slog.New(slog.DiscardHandler))), call{method: "/a.B/C", end: f.Trailer()})
	assert.NotContains(t, r.last, "OutTrailer")
	require.Contains(t, r.last, "End")
	assert.Equal(t, codes.Canceled, status.Code(r.last["End"].(*stats.End).Error))
}

func TestCompressedMessageHasTheLengthThatIsKnown(t *testing.T) {
	r := newRecorder()
	c := intercept.Begin(intercept.NewObservers(New(r, slog.New(slog.DiscardHandler))), info(nil, "/a.B/C"))
	require.NoError(t, c.Message(intercept.Message{Direction: filter.Request, Compressed: true, Length: 100}))
	c.End(&stream.Trailer{})
	in := r.last["InPayload"].(*stats.InPayload)
	assert.Equal(t, []int{100, 100, 105}, []int{in.Length, in.CompressedLength, in.WireLength})
}

// panicking is a stats.Handler that panics whatever it is asked.
type panicking struct{}

func (panicking) TagConn(context.Context, *stats.ConnTagInfo) context.Context { panic("tag conn") }
func (panicking) HandleConn(context.Context, stats.ConnStats)                 { panic("conn") }
func (panicking) TagRPC(context.Context, *stats.RPCTagInfo) context.Context   { panic("tag call") }
func (panicking) HandleRPC(context.Context, stats.RPCStats)                   { panic("call") }

func TestPanicEndsNothingAndIsLoggedOnce(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	other := newRecorder()
	drive(intercept.NewObservers(New(panicking{}, log), New(other, log)), calls(t)...)
	assert.Equal(t, 1, strings.Count(text.String(), "a stats handler panicked"), text.String())
	assert.Contains(t, text.String(), "tag conn")
	assert.Contains(t, other.last, "End")
}

// nilContexts returns no contexts.
type nilContexts struct{ *recorder }

func (nilContexts) TagConn(context.Context, *stats.ConnTagInfo) context.Context { return nil }
func (nilContexts) TagRPC(context.Context, *stats.RPCTagInfo) context.Context   { return nil }

func TestHandlerWithoutContexts(t *testing.T) {
	r := newRecorder()
	drive(intercept.NewObservers(New(nilContexts{r}, slog.New(slog.DiscardHandler))), calls(t)[0])
	assert.Contains(t, r.last, "End")
}

func TestTimes(t *testing.T) {
	r := newRecorder()
	before := time.Now()
	drive(intercept.NewObservers(New(r, slog.New(slog.DiscardHandler))), calls(t)[0])
	end := r.last["End"].(*stats.End)
	assert.False(t, end.BeginTime.Before(before))
	assert.False(t, end.EndTime.After(time.Now()))
	assert.Equal(t, end.BeginTime, r.last["Begin"].(*stats.Begin).BeginTime)
}
