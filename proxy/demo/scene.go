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

	// For calls that something in the proxy changes:
	by       string // what does; "" for the calls that nothing changes
	arriving []*echo.EchoRequest
	leaving  []*echo.EchoReply
	reason   string   // why the proxy ends the call itself; "" if it does not
	logged   []string // what the line in the access log has; none where there is no log
}

// The methods of the Echo service, one of each kind.
const (
	unary   = "Unary"
	collect = "Collect"
	expand  = "Expand"
	chat    = "Chat"
)

// echoServiceName is the full name of the Echo service.
const echoServiceName = "kitexproxy.echo.v1.Echo"

// methodName returns the full name of a method of the Echo service.
func methodName(method string) string { return "/" + echoServiceName + "/" + method }

// outcome is what a call brings its client and, where that is known, the
// backend.
type outcome struct {
	header  metadata.MD
	replies []*echo.EchoReply
	trailer metadata.MD
	code    codes.Code
	message string // of the status

	arrived []*echo.EchoRequest // at the backend
	left    []*echo.EchoReply   // from there

	logged string // the line in the access log, "" for none
}

// scenes returns the calls that nothing changes, in order.
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

// filteredScenes returns the calls that filters or rules change, in order: the
// same for both. by is what each is changed by.
func filteredScenes(by [3]string) []scene {
	return []scene{
		{
			title:    "One message changed, on its way to the backend",
			by:       by[0],
			method:   unary,
			metadata: metadata.Pairs("demo-color", "teal"),
			requests: []*echo.EchoRequest{{Message: "my password is rosebud", Payload: []byte{0x00, 0xff}}},
			arriving: []*echo.EchoRequest{{Message: "***", Payload: []byte{0x00, 0xff}}},
			leaving:  []*echo.EchoReply{{Message: "***", Payload: []byte{0x00, 0xff}, Sequence: 1}},
			replies:  []*echo.EchoReply{{Message: "***", Payload: []byte{0x00, 0xff}, Sequence: 1}},
		},
		{
			title:    "One message dropped, on its way to the client",
			by:       by[1],
			method:   expand,
			metadata: metadata.Pairs("demo-color", "amber"),
			requests: []*echo.EchoRequest{{Message: "again", Count: 3}},
			arriving: []*echo.EchoRequest{{Message: "again", Count: 3}},
			leaving: []*echo.EchoReply{
				{Message: "again", Sequence: 1}, {Message: "again", Sequence: 2}, {Message: "again", Sequence: 3},
			},
			replies: []*echo.EchoReply{{Message: "again", Sequence: 1}, {Message: "again", Sequence: 3}},
		},
		{
			title:    "One call rejected, at its second message",
			by:       by[2],
			method:   chat,
			metadata: metadata.Pairs("demo-color", "red"),
			requests: []*echo.EchoRequest{{Message: "hello"}, {Message: "a secret"}},
			arriving: []*echo.EchoRequest{{Message: "hello"}},
			leaving:  []*echo.EchoReply{{Message: "hello", Sequence: 1}},
			replies:  []*echo.EchoReply{{Message: "hello", Sequence: 1}},
			code:     codes.PermissionDenied,
			message:  "no secrets",
			reason:   "rejected",
		},
	}
}

// interceptedScenes returns the calls that an interceptor decides about, in order.
func interceptedScenes() []scene {
	hello := []*echo.EchoRequest{{Message: "hello"}}
	replies := []*echo.EchoReply{{Message: "hello", Sequence: 1}}
	return []scene{
		{
			title:    "One call stopped by an interceptor, before there is a backend: it has no key",
			by:       keysInterceptor,
			method:   unary,
			metadata: metadata.Pairs("demo-color", "red"),
			requests: hello,
			code:     codes.Unauthenticated,
			message:  `the call has no API key; send one as metadata "x-api-key"`,
			reason:   "unauthenticated",
			logged:   []string{`"code":"UNAUTHENTICATED"`, `"reason":"unauthenticated"`, `"metadata":{"demo-color":"red"}`},
		},
		{
			title:    "One call that may go on, and what the access log has of it",
			by:       accessLogSettings,
			method:   unary,
			metadata: metadata.Pairs("demo-color", "teal", "x-api-key", apiKey),
			requests: hello,
			arriving: hello,
			leaving:  replies,
			replies:  replies,
			logged:   []string{`"code":"OK"`, `"identity":"api-key:alice"`, `"metadata":{"demo-color":"teal"}`},
		},
	}
}

// want returns what the call should bring its client and, if something changes
// it, the backend.
func (s scene) want() outcome {
	o := outcome{header: renamed(s.metadata), replies: s.replies, code: s.code, message: s.message}
	arriving := s.requests
	if s.by != "" {
		arriving = s.arriving
		o.arrived, o.left = s.arriving, s.leaving
	}
	if s.by != "" && len(s.arriving) == 0 {
		o.header = nil // which only the backend sends
	}
	if s.reason != "" {
		o.trailer = metadata.Pairs(reasonTrailer, s.reason)
		return o
	}
	digest := sha256.New()
	for _, req := range arriving {
		addToDigest(digest, req)
	}
	o.trailer = metadata.Pairs(
		countTrailer, strconv.Itoa(len(arriving)),
		digestTrailer, string(digest.Sum(nil)),
	)
	return o
}

// reasonTrailer says why the proxy, and not the backend, has ended a call.
const reasonTrailer = "x-kitexproxy-error"
