package kitexgrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// inbound is a call as Kitex's server transport delivers it.
type inbound struct {
	ctx context.Context
	tr  grpc.ServerTransport
	s   *grpc.Stream
	req stream.Request
	// empty is true when the client ended its side without any message.
	empty bool

	// mu keeps the trailers behind headers that are being written.
	mu       sync.Mutex
	finished bool
	// leave counts the call out; Finish calls it once.
	leave func()
}

var _ stream.Inbound = (*inbound)(nil)

// newInbound takes over st. It must be called before anything reads from st.
func newInbound(ctx context.Context, st streaming.Stream) (*inbound, error) {
	tr, s, err := serverEnds(st)
	if err != nil {
		return nil, err
	}
	in := &inbound{ctx: ctx, tr: tr, s: s, empty: requestComplete(s) && nothingQueued(s), leave: func() {}}
	in.req = stream.Request{
		Method:      s.Method(),
		ContentType: contentTypeFor(s.ContentSubtype()),
		Encoding:    s.RecvCompress(),
		// Kitex keeps what the client accepts as what the server is to
		// send with, see SetSendCompress below.
		AcceptEncoding: s.SendCompress(),
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if a := md[authorityKey]; len(a) > 0 {
			in.req.Authority = a[0]
		}
		in.req.Metadata = fromMD(md)
	}
	s.SetSendCompress("")
	return in, nil
}

func (in *inbound) Context() context.Context { return in.ctx }
func (in *inbound) Request() *stream.Request { return &in.req }
func (in *inbound) Peer() net.Addr           { return in.tr.RemoteAddr() }

func (in *inbound) Complete() bool { return requestComplete(in.s) }

// Ready cannot tell; at worst something is flushed that could have waited.
func (in *inbound) Ready(int) bool { return false }

// Flush does nothing: Kitex's transport flushes by itself.
func (in *inbound) Flush() {}

func (in *inbound) Read(p []byte) error {
	if in.empty {
		return io.EOF
	}
	_, err := in.s.Read(p)
	return err
}

func (in *inbound) WriteHeader(h *stream.Header) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.finished {
		return errFinished
	}
	in.answerIn(h.ContentType)
	md := toMD(h.Metadata)
	if h.Encoding == "" {
		return in.tr.WriteHeader(in.s, md)
	}
	in.s.SetSendCompress(passThroughName)
	return announce(h.Encoding, func() error { return in.tr.WriteHeader(in.s, md) })
}

// answerIn sets the content type of the response, unless it is "" or has gone
// out before.
func (in *inbound) answerIn(contentType string) {
	if contentType != "" {
		setContentSubtype(in.s, subtypeOf(contentType))
	}
}

// Kitex knows content types by what follows "application/grpc+".
const grpcContentType = "application/grpc"

func contentTypeFor(subtype string) string {
	if subtype == "" {
		return grpcContentType
	}
	return grpcContentType + "+" + subtype
}

func subtypeOf(contentType string) string {
	return strings.TrimLeft(strings.TrimPrefix(contentType, grpcContentType), "+;")
}

func (in *inbound) Write(b []byte) error {
	return in.tr.Write(in.s, nil, b, nil)
}

// Finish counts the call out before it tells the client, which may make its
// next one at once.
func (in *inbound) Finish(t *stream.Trailer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.finished {
		return
	}
	in.finished = true
	in.leave()
	in.answerIn(t.ContentType)
	// Both errors mean that the stream has ended before, which leaves nobody
	// to tell.
	_ = in.s.SetTrailer(toMD(t.Metadata))
	_ = in.tr.WriteStatus(in.s, toStatus(&t.Status))
}

var errFinished = errors.New("the call has ended")

func toStatus(s *stream.Status) *status.Status {
	if len(s.Details) == 0 {
		return status.New(codes.Code(s.Code), s.Message)
	}
	p := &spb.Status{}
	if err := proto.Unmarshal(s.Details, p); err != nil {
		return status.New(codes.Code(s.Code), s.Message)
	}
	// Kitex writes code and message from the same value as the details.
	return status.FromProto(p)
}
