package demo

import (
	"bytes"
	"crypto/sha256"
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// scene is one call of the demo, and the replies and the status that it should
// bring. The headers and trailers follow from what is sent.
type scene struct {
	title    string
	method   string // of the Echo service; one of the constants below
	metadata metadata.MD
	requests []*echo.EchoRequest
	replies  []*echo.EchoReply
	code     codes.Code
	message  string // of the status
}

// The methods of the Echo service, one of each kind.
const (
	unary   = "Unary"
	collect = "Collect"
	expand  = "Expand"
	chat    = "Chat"
)

// outcome is what a call brings its client.
type outcome struct {
	header  metadata.MD
	replies []*echo.EchoReply
	trailer metadata.MD
	code    codes.Code
	message string // of the status
}

// scenes returns what Play plays, in order.
func scenes() []scene {
	return []scene{
		{
			title:    "Unary: one request, one reply",
			method:   unary,
			metadata: metadata.Pairs("demo-color", "teal", "demo-list", "one", "demo-list", "two", "demo-raw-bin", "\x00\x01\xfe\xff"),
			requests: []*echo.EchoRequest{{Message: "hello"}},
			replies:  []*echo.EchoReply{{Message: "hello", Sequence: 1}},
		},
		{
			title:    "Client streaming: many requests, one reply",
			method:   collect,
			metadata: metadata.Pairs("demo-color", "amber"),
			requests: []*echo.EchoRequest{{Message: "one"}, {Message: "two"}, {Message: "three", Payload: largePayload}},
			replies:  []*echo.EchoReply{{Message: "one two three", Payload: largePayload, Sequence: 1}},
		},
		{
			title:    "Server streaming: one request, many replies",
			method:   expand,
			metadata: metadata.Pairs("demo-empty", ""),
			requests: []*echo.EchoRequest{{Message: "again", Count: 3}},
			replies: []*echo.EchoReply{
				{Message: "again", Sequence: 1}, {Message: "again", Sequence: 2}, {Message: "again", Sequence: 3},
			},
		},
		{
			title:    "Bidirectional streaming: a reply to each request, as it comes",
			method:   chat,
			metadata: metadata.Pairs("demo-raw-bin", "\xff", "demo-raw-bin", "\x00"),
			requests: []*echo.EchoRequest{{Message: "ping"}, {}, {Message: "你好", Payload: []byte{0x00, 0xff}}},
			replies: []*echo.EchoReply{
				{Message: "ping", Sequence: 1}, {Sequence: 2}, {Message: "你好", Payload: []byte{0x00, 0xff}, Sequence: 3},
			},
		},
		{
			title:    "A call that fails after two replies",
			method:   expand,
			metadata: metadata.Pairs("demo-color", "red"),
			requests: []*echo.EchoRequest{{Message: "café: sold out, 100%", Count: 2, FailWith: int32(codes.ResourceExhausted)}},
			replies: []*echo.EchoReply{
				{Message: "café: sold out, 100%", Sequence: 1}, {Message: "café: sold out, 100%", Sequence: 2},
			},
			code:    codes.ResourceExhausted,
			message: "café: sold out, 100%",
		},
	}
}

// largePayload is longer than what HTTP/2 lets a sender have under way on a
// fresh connection, 65535 bytes.
var largePayload = bytes.Repeat([]byte{0x00, 0x7f, 0x80, 0xff}, 25_000)

// want returns what the call should bring its client.
func (s scene) want() outcome {
	digest := sha256.New()
	for _, req := range s.requests {
		addToDigest(digest, req)
	}
	return outcome{
		header:  renamed(s.metadata),
		replies: s.replies,
		trailer: metadata.Pairs(
			countTrailer, strconv.Itoa(len(s.requests)),
			digestTrailer, string(digest.Sum(nil)),
		),
		code:    s.code,
		message: s.message,
	}
}
