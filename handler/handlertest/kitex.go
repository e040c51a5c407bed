package handlertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/callopt"
	"github.com/cloudwego/kitex/pkg/kerrors"
	kencoding "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	kcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kmetadata "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	kstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	echopb "github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// SuiteKitex is the conformance suite with Kitex at both ends, and with Kitex
// at one end and grpc-go at the other. It covers what Kitex adds to gRPC and
// what its API has; for the rest Suite is more exact.
//
// Gzip is tested only if Kitex's compressor is registered, which importing
// github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip does.
// This package leaves that to its users, because it changes what every Kitex
// server in the process announces.
func SuiteKitex(t *testing.T, through Target, opts Options) {
	s := newSuite(t, through, opts)
	onKitex := func(t *testing.T) string { return s.kitexBackend(t, kitexEcho{}) }
	onGRPC := func(t *testing.T) string { return backend(t, grpcEcho) }
	withKitex := func(t *testing.T, addr string) echoClient { return kitexDial(t, addr) }
	withGRPC := func(t *testing.T, addr string) echoClient { return grpcClient{dial(t, addr)} }
	s.each(t, []testCase{
		{"KitexToKitex", func(t *testing.T) { s.echoKinds(t, withKitex, onKitex, kitexSuffix) }},
		{"GRPCToKitex", func(t *testing.T) { s.echoKinds(t, withGRPC, onKitex, kitexSuffix) }},
		{"KitexToGRPC", func(t *testing.T) { s.echoKinds(t, withKitex, onGRPC, "") }},
		{"Metadata", s.kitexMetadata},
		{"Metainfo", s.kitexMetainfo},
		{"BizStatus", s.kitexBizStatus},
		{"BizStatusOfStream", s.kitexBizStatusOfStream},
		{"HeadersBeforeAnyMessage", s.kitexHeaders},
		{"Cancel", s.kitexCancel},
		{"Deadline", s.kitexDeadline},
		{"DeadlinePasses", s.kitexDeadlinePasses},
		{"Gzip", s.kitexGzip},
		{"LargeMessage", s.kitexLargeMessage},
	})
	s.checkSkips(t)
}

// kitexSuffix is what a Kitex server itself appends to the message of an
// error that a handler returns. It is there without a proxy, and must not be
// there twice with one.
const kitexSuffix = " [biz error]"

// echoKinds: each kind of call gives the replies and the status that the echo
// service defines. suffix is the backend's own addition to messages.
func (s *suite) echoKinds(t *testing.T, connect func(*testing.T, string) echoClient, start func(*testing.T) string, suffix string) {
	requests := make([]*echopb.EchoRequest, 10)
	for i := range requests {
		requests[i] = &echopb.EchoRequest{Message: fmt.Sprint("request ", i), Payload: noise(i*5000, uint64(i))}
	}
	failing := func(count int32) *echopb.EchoRequest {
		return &echopb.EchoRequest{Message: "as asked for: 100% ä", FailWith: 9, Count: count}
	}
	begin := func(t *testing.T) (context.Context, echoClient) {
		return s.context(t), connect(t, s.through(t, start(t)))
	}
	failed := func(t *testing.T, c echoClient, err error) {
		t.Helper()
		require.Error(t, err)
		code, message := c.status(err)
		assert.Equal(t, 9, code)
		assert.Equal(t, "as asked for: 100% ä"+suffix, message)
	}
	s.each(t, []testCase{
		{"Unary", func(t *testing.T) {
			ctx, c := begin(t)
			for _, req := range requests {
				got, err := c.unary(ctx, req)
				require.NoError(t, err)
				sameReply(t, echoReply(req, 1), got)
			}
			_, err := c.unary(ctx, failing(0))
			failed(t, c, err)
		}},
		{"ClientStreaming", func(t *testing.T) {
			ctx, c := begin(t)
			got, err := c.collect(ctx, requests)
			require.NoError(t, err)
			sameReply(t, joined(requests), got)
		}},
		{"ServerStreaming", func(t *testing.T) {
			ctx, c := begin(t)
			req := &echopb.EchoRequest{Message: "again", Payload: noise(20000, 11), Count: 20}
			got, err := c.expand(ctx, req)
			require.NoError(t, err)
			require.Len(t, got, 20)
			for i := range got {
				sameReply(t, echoReply(req, i+1), got[i])
			}
			got, err = c.expand(ctx, failing(3))
			failed(t, c, err)
			assert.Len(t, got, 3, "replies before the error")
		}},
		{"Bidi", func(t *testing.T) {
			ctx, c := begin(t)
			got, err := c.chat(ctx, requests)
			require.NoError(t, err)
			require.Len(t, got, len(requests))
			for i := range got {
				sameReply(t, echoReply(requests[i], i+1), got[i])
			}
			got, err = c.chat(ctx, []*echopb.EchoRequest{requests[1], failing(0)})
			failed(t, c, err)
			assert.Len(t, got, 2, "replies before the error")
		}},
	})
}

// sameReply compares replies without printing their payloads.
func sameReply(t *testing.T, want, got *echopb.EchoReply) {
	t.Helper()
	require.NotNil(t, got)
	assert.Equal(t, want.Message, got.Message)
	assert.Equal(t, want.Sequence, got.Sequence)
	sameBytes(t, want.Payload, got.Payload, "payload")
}

// kitexMetadata: through Kitex's own metadata API, for a unary call and for a
// stream.
func (s *suite) kitexMetadata(t *testing.T) {
	md := kmetadata.MD{"x-list": {"b", "a"}, "x-bytes-bin": {everyByte()}, "x-empty": {""}}
	ctx := kmetadata.NewOutgoingContext(s.context(t), md)
	seen := make(chan kmetadata.MD, 1)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{
		unary: func(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
			got, _ := kmetadata.FromIncomingContext(ctx)
			seen <- got
			return echoReply(req, 1), errors.Join(nphttp2.SetHeader(ctx, md), nphttp2.SetTrailer(ctx, md))
		},
		chat: func(stream echopb.Echo_ChatServer) error {
			got, _ := kmetadata.FromIncomingContext(stream.Context())
			seen <- got
			stream.SetTrailer(md)
			if err := stream.SendHeader(md); err != nil {
				return err
			}
			return new(kitexEcho).Chat(stream)
		},
	})))
	for _, kind := range []string{"unary", "stream"} {
		var header, trailer kmetadata.MD
		if kind == "unary" {
			_, err := c.Unary(nphttp2.GRPCTrailer(nphttp2.GRPCHeader(ctx, &header), &trailer), &echopb.EchoRequest{})
			require.NoError(t, err)
		} else {
			stream, err := c.Chat(ctx)
			require.NoError(t, err)
			_, err = converse([]*echopb.EchoRequest{{Message: "x"}}, stream.Send, stream.Recv, stream.Close)
			require.NoError(t, err)
			header, err = stream.Header()
			require.NoError(t, err)
			trailer = stream.Trailer()
		}
		got := await(ctx, t, seen, "the call")
		for key, want := range md {
			assert.Equal(t, want, got[key], "%s: request's %s", kind, key)
			assert.Equal(t, want, header[key], "%s: header's %s", kind, key)
			assert.Equal(t, want, trailer[key], "%s: trailer's %s", kind, key)
		}
	}
}

// kitexMetainfo: Kitex's own context values travel as headers of their own.
func (s *suite) kitexMetainfo(t *testing.T) {
	ctx := metainfo.WithPersistentValue(metainfo.WithValue(s.context(t), "HOP", "one"), "TRACE_ID", "ä all the way")
	seen := make(chan [2]string, 1)
	addr := s.through(t, s.kitexBackend(t, kitexEcho{
		unary: func(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
			hop, _ := metainfo.GetValue(ctx, "HOP")
			trace, _ := metainfo.GetPersistentValue(ctx, "TRACE_ID")
			seen <- [2]string{hop, trace}
			return echoReply(req, 1), nil
		},
	}, server.WithMetaHandler(transmeta.MetainfoServerHandler)))
	_, err := kitexDial(t, addr, client.WithMetaHandler(transmeta.MetainfoClientHandler)).Unary(ctx, &echopb.EchoRequest{})
	require.NoError(t, err)
	assert.Equal(t, [2]string{"one", "ä all the way"}, await(ctx, t, seen, "the call"))
}

// bizError is a business error with everything that one can have.
func bizError() kerrors.BizStatusErrorIface {
	return kerrors.NewGRPCBizStatusErrorWithExtra(40401, "no such user: 100% ä", map[string]string{"user": "7", "hint": "ä, \"b\""})
}

// assertBizError checks that err is bizError.
func assertBizError(t *testing.T, err error) {
	t.Helper()
	got, ok := kerrors.FromBizStatusError(err)
	require.True(t, ok, "no business error: %v", err)
	want := bizError()
	assert.Equal(t, want.BizStatusCode(), got.BizStatusCode())
	assert.Equal(t, want.BizMessage(), got.BizMessage())
	assert.Equal(t, want.BizExtra(), got.BizExtra())
}

// kitexBizStatus: a business error is an answer of the backend's, with code,
// message and extra.
func (s *suite) kitexBizStatus(t *testing.T) {
	ctx := s.context(t)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{
		unary: func(context.Context, *echopb.EchoRequest) (*echopb.EchoReply, error) { return nil, bizError() },
	})))
	_, err := c.Unary(ctx, &echopb.EchoRequest{})
	assertBizError(t, err)
}

func (s *suite) kitexBizStatusOfStream(t *testing.T) {
	ctx := s.context(t)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{
		chat: func(stream echopb.Echo_ChatServer) error {
			req, err := stream.Recv()
			if err != nil {
				return err
			}
			if err := stream.Send(echoReply(req, 1)); err != nil {
				return err
			}
			return bizError()
		},
	})))
	stream, err := c.Chat(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&echopb.EchoRequest{Message: "first"}))
	_, err = stream.Recv()
	require.NoError(t, err)
	_, err = stream.Recv()
	assertBizError(t, err)
}

// kitexHeaders: a Kitex client can look at the headers before the backend
// sends a message.
func (s *suite) kitexHeaders(t *testing.T) {
	ctx := s.context(t)
	release := make(chan struct{})
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{
		chat: func(stream echopb.Echo_ChatServer) error {
			if err := stream.SendHeader(kmetadata.Pairs("x-early", "yes")); err != nil {
				return err
			}
			select {
			case <-release:
				return stream.Send(&echopb.EchoReply{Message: "after the headers"})
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		},
	})))
	stream, err := c.Chat(ctx)
	require.NoError(t, err)
	header, err := stream.Header()
	require.NoError(t, err)
	assert.Equal(t, []string{"yes"}, header["x-early"])
	close(release)
	got, err := stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, "after the headers", got.Message)
}

// kitexHang is a chat that says when it has begun and when its context ended.
func kitexHang(begun chan<- bool, ended chan<- error) kitexEcho {
	return kitexEcho{chat: func(stream echopb.Echo_ChatServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		_, hasDeadline := stream.Context().Deadline()
		begun <- hasDeadline
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		// The backend's own timer may be the first to go off. A status of
		// its own says what the client's will.
		if hasDeadline {
			return kstatus.Err(kcodes.DeadlineExceeded, "at the backend")
		}
		return stream.Context().Err()
	}}
}

// kitexCancel: Kitex's client tells the server of a cancelled context only
// when a Recv notices it, so there is one that waits.
func (s *suite) kitexCancel(t *testing.T) {
	safe := s.context(t)
	begun, ended := make(chan bool, 1), make(chan error, 1)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexHang(begun, ended))))
	ctx, cancel := context.WithCancel(safe)
	defer cancel()
	stream, err := c.Chat(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&echopb.EchoRequest{}))
	assert.False(t, await(safe, t, begun, "the call"), "the backend has a deadline that nobody set")
	received := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		received <- err
	}()
	cancel()
	await(safe, t, ended, "the end of the backend's context")
	err = await(safe, t, received, "the end of the client's Recv")
	assert.Equal(t, kcodes.Canceled, kstatus.Code(err), "%v", err)
}

// kitexDeadline: a unary call's deadline is the backend's too.
func (s *suite) kitexDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(s.context(t), s.safety)
	defer cancel()
	seen := make(chan bool, 1)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{
		unary: func(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoReply, error) {
			_, ok := ctx.Deadline()
			seen <- ok
			return echoReply(req, 1), nil
		},
	})))
	_, err := c.Unary(ctx, &echopb.EchoRequest{})
	require.NoError(t, err)
	assert.True(t, await(ctx, t, seen, "the call"), "no deadline at the backend")
}

func (s *suite) kitexDeadlinePasses(t *testing.T) {
	safe := s.context(t)
	begun, ended := make(chan bool, len(shortTimeouts)), make(chan error, len(shortTimeouts))
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexHang(begun, ended))))
	for _, timeout := range shortTimeouts {
		ctx, cancel := context.WithTimeout(safe, timeout)
		defer cancel()
		stream, err := c.Chat(ctx)
		if err == nil {
			_ = stream.Send(&echopb.EchoRequest{}) // what failed, Recv says
			_, err = stream.Recv()
		}
		assert.Equal(t, kcodes.DeadlineExceeded, kstatus.Code(err), "%v", err)
		if len(begun) > 0 {
			await(safe, t, ended, "the end of the backend's context")
			return
		}
	}
	t.Fatal("no call has reached the backend")
}

func (s *suite) kitexGzip(t *testing.T) {
	if c, _ := kencoding.FindCompressor("gzip"); c == nil {
		t.Skip("Kitex's gzip compressor is not registered in this process")
	}
	ctx := s.context(t)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{})))
	req := &echopb.EchoRequest{Message: strings.Repeat("compressible ", 1000)}
	got, err := c.Unary(ctx, req, callopt.WithGRPCCompressor("gzip"))
	require.NoError(t, err)
	sameReply(t, echoReply(req, 1), got)

	stream, err := c.Chat(ctx, callopt.WithGRPCCompressor("gzip"))
	require.NoError(t, err)
	replies, err := converse([]*echopb.EchoRequest{req, {}, req}, stream.Send, stream.Recv, stream.Close)
	require.NoError(t, err)
	require.Len(t, replies, 3)
	sameReply(t, echoReply(req, 3), replies[2])
}

func (s *suite) kitexLargeMessage(t *testing.T) {
	ctx := s.contextFor(t, 6*s.safety)
	c := kitexDial(t, s.through(t, s.kitexBackend(t, kitexEcho{})))
	req := &echopb.EchoRequest{Payload: noise(4<<20, 12)}
	got, err := c.Unary(ctx, req)
	require.NoError(t, err)
	sameReply(t, echoReply(req, 1), got)
}
