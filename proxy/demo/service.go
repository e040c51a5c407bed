package demo

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

const (
	// Metadata that begins with sentPrefix comes back as a response header
	// that begins with echoPrefix.
	sentPrefix = "demo-"
	echoPrefix = "echo-"

	// countTrailer says how many messages the backend received, and
	// digestTrailer is a SHA-256 of them, in bytes that are not text.
	countTrailer  = "echo-count"
	digestTrailer = "echo-digest-bin"

	defaultReplies = 3
	maxReplies     = 10_000
)

// service implements the Echo service as idl/echo.proto describes it.
type service struct {
	// record is where calls note what they get and send; nil for nowhere.
	record atomic.Pointer[record]
}

// Unary implements echo.Echo.
func (s *service) Unary(ctx context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	c := s.newCall(ctx)
	defer c.end()
	c.took(req)
	if err := nphttp2.SetHeader(ctx, echoedHeaders(ctx)); err != nil {
		return nil, err
	}
	if err := wantedFailure(req); err != nil {
		return nil, err
	}
	return c.reply(req.Message, req.Payload), nil
}

// Collect implements echo.Echo. A request that asks for a failure ends the
// call at once.
func (s *service) Collect(stream echo.Echo_CollectServer) error {
	c := s.newCall(stream.Context())
	defer c.end()
	if err := c.sendHeaders(); err != nil {
		return err
	}
	var texts []string
	var payload []byte
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(c.reply(strings.Join(texts, " "), payload))
		}
		if err != nil {
			return err
		}
		c.took(req)
		if err := wantedFailure(req); err != nil {
			return err
		}
		texts = append(texts, req.Message)
		payload = append(payload, req.Payload...)
	}
}

// Expand implements echo.Echo.
func (s *service) Expand(req *echo.EchoRequest, stream echo.Echo_ExpandServer) error {
	c := s.newCall(stream.Context())
	defer c.end()
	c.took(req)
	count := req.Count
	if count == 0 {
		count = defaultReplies
	}
	if count < 0 || count > maxReplies {
		return status.Errorf(codes.InvalidArgument, "count is %d, not from 0 to %d", count, maxReplies)
	}
	if err := c.sendHeaders(); err != nil {
		return err
	}
	for range count {
		if err := stream.Send(c.reply(req.Message, req.Payload)); err != nil {
			return err
		}
	}
	return wantedFailure(req)
}

// Chat implements echo.Echo. A request that asks for a failure is answered
// before the call ends with it.
func (s *service) Chat(stream echo.Echo_ChatServer) error {
	c := s.newCall(stream.Context())
	defer c.end()
	if err := c.sendHeaders(); err != nil {
		return err
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.took(req)
		if err := stream.Send(c.reply(req.Message, req.Payload)); err != nil {
			return err
		}
		if err := wantedFailure(req); err != nil {
			return err
		}
	}
}

// call is what the backend keeps about one call.
type call struct {
	ctx      context.Context // holds Kitex's stream
	received int
	replied  int32
	digest   hash.Hash
	record   *record // nil for none
}

func (s *service) newCall(ctx context.Context) *call {
	c := &call{ctx: ctx, digest: sha256.New(), record: s.record.Load()}
	c.record.backendBegins()
	return c
}

func (c *call) took(req *echo.EchoRequest) {
	c.received++
	c.record.arrived(req)
	addToDigest(c.digest, req)
}

func (c *call) reply(text string, payload []byte) *echo.EchoReply {
	c.replied++
	reply := &echo.EchoReply{Message: text, Payload: payload, Sequence: c.replied}
	c.record.left(reply)
	return reply
}

// sendHeaders sends the response headers before any message, as the client may
// be waiting for them before it sends one.
func (c *call) sendHeaders() error { return nphttp2.SendHeader(c.ctx, echoedHeaders(c.ctx)) }

// end prepares the trailers, which Kitex sends with the status.
func (c *call) end() {
	defer c.record.backendEnds()
	// It fails only without Kitex's stream, which the headers need too.
	_ = nphttp2.SetTrailer(c.ctx, metadata.Pairs(
		countTrailer, strconv.Itoa(c.received),
		digestTrailer, string(c.digest.Sum(nil)),
	))
}

func echoedHeaders(ctx context.Context) metadata.MD {
	sent, _ := metadata.FromIncomingContext(ctx)
	return renamed(sent)
}

// renamed returns the headers that come back for sent metadata.
func renamed(sent metadata.MD) metadata.MD {
	headers := metadata.MD{}
	for key, values := range sent {
		if name, ok := strings.CutPrefix(key, sentPrefix); ok {
			headers.Set(echoPrefix+name, values...)
		}
	}
	return headers
}

// addToDigest adds the text and the payload of a request, each after its
// length, so that no two lists of requests give the same digest.
func addToDigest(digest hash.Hash, req *echo.EchoRequest) {
	for _, part := range [][]byte{[]byte(req.Message), req.Payload} {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		digest.Write(part)
	}
}

// wantedFailure returns the status that a request asks for, nil if none.
func wantedFailure(req *echo.EchoRequest) error {
	if req.FailWith < 0 {
		return status.Errorf(codes.InvalidArgument, "fail_with is %d, not a status code", req.FailWith)
	}
	return status.Err(codes.Code(req.FailWith), req.Message) // nil for OK
}
