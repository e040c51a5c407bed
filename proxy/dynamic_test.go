package proxy_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// ruleCase is one call, and what has become of it.
type ruleCase struct {
	name, rules, method string
	metadata            []string // of the call, keys and values
	requests            []*echo.EchoRequest

	code    codes.Code
	message string   // of the status; "" for any
	replies []string // what the client gets
	got     []string // what the backend gets
	on      string   // the backend's name; "" for main, "none" for none of them
	// The values of some keys: of what the backend gets, and of the client's
	// headers and trailers.
	sent, header, trailer map[string][]string
}

// none is the backend of calls that get to no backend.
const none = "none"

func says(texts ...string) []*echo.EchoRequest {
	var all []*echo.EchoRequest
	for _, text := range texts {
		all = append(all, say(text))
	}
	return all
}

func (c *ruleCase) run(t *testing.T) {
	d := startRules(t, c.rules)
	o := d.invoke(t, c.method, c.metadata, c.requests...)
	assert.Equal(t, c.code, o.code, "message %q", o.message)
	if c.message != "" {
		assert.Equal(t, c.message, o.message)
	}
	if c.code == codes.OK {
		assert.Equal(t, c.replies, o.texts(t), "replies")
	}
	requireValues(t, c.header, o.header)
	requireValues(t, c.trailer, o.trailer)
	if c.on == none {
		d.main.unasked(t)
		d.other.unasked(t)
	} else {
		backend := d.main
		if c.on == d.other.name {
			backend = d.other
		}
		call := backend.next(t)
		if c.code == codes.OK {
			assert.Equal(t, c.got, call.texts(t), "requests")
		}
		requireValues(t, c.sent, call.metadata)
	}
	d.lives()
	assert.NotContains(t, d.log.String(), "panic")
}

func requireValues(t testing.TB, want map[string][]string, got metadata.MD) {
	t.Helper()
	for key, values := range want {
		assert.Equal(t, values, got.Get(key), "%s", key)
	}
}

func TestDynamicMessages(t *testing.T) {
	const shout = "- {name: shout, on: request, set: {message: 'message.message + \"!\"'}}"
	three := []*echo.EchoRequest{{Message: "a", Count: 3}}
	for _, c := range []ruleCase{
		{
			name: "a rule whose condition is not met", rules: `- {name: x, on: request, if: message.message == "b", clear: [message]}`,
			method: "Unary", requests: says("a"), got: []string{"a"}, replies: []string{"a"},
		},
		{name: "set, unary", rules: shout, method: "Unary", requests: says("a"), got: []string{"a!"}, replies: []string{"a!"}},
		{name: "set, client stream", rules: shout, method: "Collect", requests: says("a", "b"), got: []string{"a!", "b!"}, replies: []string{"b!"}},
		{name: "set, server stream", rules: shout, method: "Expand", requests: three, got: []string{"a!"}, replies: []string{"a!", "a!", "a!"}},
		{name: "set, bidi", rules: shout, method: "Chat", requests: says("a", "b"), got: []string{"a!", "b!"}, replies: []string{"a!", "b!"}},
		{
			name: "set in responses", rules: `- {name: x, on: response, set: {message: 'string(number) + message.message'}}`,
			method: "Expand", requests: three, got: []string{"a"}, replies: []string{"1a", "2a", "3a"},
		},
		{name: "clear", rules: `- {name: x, on: request, clear: [message]}`, method: "Unary", requests: says("a"), got: []string{""}, replies: []string{""}},
		{name: "clear in responses", rules: `- {name: x, on: response, clear: [message]}`, method: "Chat", requests: says("a", "b"), got: []string{"a", "b"}, replies: []string{"", ""}},
		{name: "redact", rules: `- {name: x, on: request, redact: [message]}`, method: "Chat", requests: says("a", ""), got: []string{"***", ""}, replies: []string{"***", ""}},
		{name: "redact in responses", rules: `- {name: x, on: response, redact: [message]}`, method: "Unary", requests: says("a"), got: []string{"a"}, replies: []string{"***"}},
		{
			name: "drop from a client stream", rules: `- {name: x, on: request, method: Collect, if: message.message == "b", drop: true}`,
			method: "Collect", requests: says("a", "b", "c"), got: []string{"a", "c"}, replies: []string{"c"},
		},
		{
			name: "drop from a bidi stream", rules: `- {name: x, on: request, method: Chat, if: message.message == "a", drop: true}`,
			method: "Chat", requests: says("a", "b", "a"), got: []string{"b"}, replies: []string{"b"},
		},
		{name: "drop all of a stream", rules: `- {name: x, on: request, method: Chat, drop: true}`, method: "Chat", requests: says("a", "b")},
		{
			name: "drop from a server stream", rules: `- {name: x, on: response, method: Expand, if: number == 2, drop: true}
- {name: count, on: response, method: Expand, set: {message: string(number)}}`,
			method: "Expand", requests: three, got: []string{"a"}, replies: []string{"1", "3"},
		},
		{
			name: "drop the first of both directions", rules: `- {name: x, on: request, method: Chat, if: number == 1, drop: true}
- {name: y, on: response, method: Chat, if: number == 1, drop: true}`,
			method: "Chat", requests: says("a", "b", "c"), got: []string{"b", "c"}, replies: []string{"c"},
		},
	} {
		t.Run(c.name, c.run)
	}
}

func TestDynamicReject(t *testing.T) {
	const onMessage = `- {name: no, on: request, if: 'message.message.startsWith("bad")', reject: {code: FAILED_PRECONDITION, message: '"not " + message.message + " by " + peer_ip'}}`
	const onResponse = `- {name: no, on: response, if: message.sequence == 2, reject: {code: DATA_LOSS, message: '"reply " + string(number) + " of " + method'}}`
	for _, c := range []ruleCase{
		{name: "a request, unary", rules: onMessage, method: "Unary", requests: says("bad"), code: codes.FailedPrecondition, message: "not bad by 127.0.0.1", on: none},
		{name: "a request, server stream", rules: onMessage, method: "Expand", requests: says("bad"), code: codes.FailedPrecondition, message: "not bad by 127.0.0.1", on: none},
		{name: "not the request", rules: onMessage, method: "Unary", requests: says("good"), got: []string{"good"}, replies: []string{"good"}},
		{
			name: "by default with a text that names the rule", rules: `- {name: "house rule", on: request, reject: {code: ABORTED}}`,
			method: "Unary", requests: says("a"), code: codes.Aborted, message: `rejected by rule "house rule"`, on: none,
		},
		{
			name: "at the start", rules: `- {name: no, on: start, if: '!("token" in metadata)', reject: {code: UNAUTHENTICATED, message: '"no token for " + service'}}`,
			method: "Chat", requests: says("a"), code: codes.Unauthenticated, message: "no token for kitexproxy.echo.v1.Echo", on: none,
		},
		{
			name: "not at the start", rules: `- {name: no, on: start, if: '!("token" in metadata)', reject: {code: UNAUTHENTICATED}}`,
			method: "Chat", metadata: []string{"token", "x"}, requests: says("a"), got: []string{"a"}, replies: []string{"a"},
		},
		{
			name: "at the header", rules: `- {name: no, on: header, if: 'header["backend"] == "main"', reject: {code: PERMISSION_DENIED, message: 'header["backend"]'}}`,
			method: "Unary", requests: says("a"), code: codes.PermissionDenied, message: "main",
		},
		{
			name: "a response, unary", rules: `- {name: no, on: response, reject: {code: DATA_LOSS, message: message.message}}`,
			method: "Unary", requests: says("a"), code: codes.DataLoss, message: "a",
		},
		{
			name: "a response of a stream", rules: onResponse, method: "Chat", requests: []*echo.EchoRequest{{Count: 1}, {Count: 2}, {Count: 3}},
			code: codes.DataLoss, message: "reply 2 of /kitexproxy.echo.v1.Echo/Chat",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t)
		})
	}
}

func TestDynamicMetadata(t *testing.T) {
	for _, c := range []ruleCase{
		{
			name: "at the start", rules: `- name: x
  on: start
  metadata:
    set: {a: '"new"', b: authority, c-bin: 'b"\x00\xff"'}
    add: {d: method}
    remove: [e, absent]`,
			method: "Unary", metadata: []string{"a", "old", "a", "older", "d", "one", "e", "gone", "f", "stays"}, requests: says("x"),
			got: []string{"x"}, replies: []string{"x"},
			sent: map[string][]string{"a": {"new"}, "c-bin": {"\x00\xff"}, "d": {"one", echoPrefix + "Unary"}, "e": nil, "f": {"stays"}},
		},
		{
			name: "at the request, unary", rules: `- {name: x, on: request, metadata: {set: {who: message.message}}}`,
			method: "Unary", requests: says("x"), got: []string{"x"}, replies: []string{"x"}, sent: map[string][]string{"who": {"x"}},
		},
		{
			name: "at the first request of a client stream", rules: `- {name: x, on: request, metadata: {set: {who: message.message}}}`,
			method: "Collect", requests: says("x", "y"), got: []string{"x", "y"}, replies: []string{"y"}, sent: map[string][]string{"who": {"x"}},
		},
		{
			name: "at the first request of a bidi stream", rules: `- {name: x, on: request, metadata: {add: {who: message.message}}}`,
			method: "Chat", metadata: []string{"who", "me"}, requests: says("x", "y"), got: []string{"x", "y"}, replies: []string{"x", "y"}, sent: map[string][]string{"who": {"me", "x"}},
		},
		{
			name: "at the header", rules: `- {name: x, on: header, metadata: {set: {backend: '"hidden"'}, add: {more: 'header["internal"]'}, remove: [internal]}}`,
			method: "Expand", requests: []*echo.EchoRequest{{Message: "x", Count: 1}}, got: []string{"x"}, replies: []string{"x"},
			header: map[string][]string{"backend": {"hidden"}, "more": {"one"}, "internal": nil},
		},
		{
			name: "at the end", rules: `- {name: x, on: end, metadata: {set: {backend-trailer: 'string(code) + code_name + status_message'}, remove: [internal-trailer]}}`,
			method: "Chat", requests: says("x"), got: []string{"x"}, replies: []string{"x"},
			trailer: map[string][]string{"backend-trailer": {"0OK"}, "internal-trailer": nil},
		},
		{
			name: "a status at the end", rules: `- {name: x, on: end, if: code == 0, reject: {code: DATA_LOSS, message: 'code_name + " it was"'}, metadata: {set: {why: '"x"'}}}`,
			method: "Chat", requests: says("a"), got: []string{"a"}, code: codes.DataLoss, message: "OK it was", trailer: map[string][]string{"why": {"x"}},
		},
		{
			name: "at the end of a call that fails", rules: `- {name: x, on: end, if: code == 5, metadata: {set: {why: 'code_name + ": " + status_message + " by " + trailer["backend-trailer"]'}}}`,
			method: "Unary", requests: []*echo.EchoRequest{{Message: "nowhere", FailWith: 5}}, code: codes.NotFound, message: "nowhere",
			trailer: map[string][]string{"why": {"NOT_FOUND: nowhere by main"}, "backend-trailer": {"main"}},
		},
		{
			name: "at the end of a call that a rule rejects", rules: `- {name: no, on: start, reject: {code: ABORTED}}
- {name: x, on: end, metadata: {set: {how: code_name}}}`,
			method: "Unary", requests: says("x"), code: codes.Aborted, on: none, trailer: map[string][]string{"how": {"ABORTED"}},
		},
	} {
		t.Run(c.name, c.run)
	}
}

func TestDynamicCluster(t *testing.T) {
	const byStart = `- {name: x, on: start, if: 'metadata[?"to"].orValue("") == "other"', cluster: 'metadata["to"]'}`
	const byMessage = `- {name: x, on: request, if: message.message == "other", cluster: '"other"'}`
	for _, c := range []ruleCase{
		{name: "at the start", rules: byStart, method: "Chat", metadata: []string{"to", "other"}, requests: says("a"), got: []string{"a"}, replies: []string{"a"}, on: "other"},
		{name: "not at the start", rules: byStart, method: "Chat", requests: says("a"), got: []string{"a"}, replies: []string{"a"}},
		{name: "by the request, unary", rules: byMessage, method: "Unary", requests: says("other"), got: []string{"other"}, replies: []string{"other"}, on: "other"},
		{
			name: "by the request, server stream", rules: byMessage, method: "Expand", requests: []*echo.EchoRequest{{Message: "other", Count: 2}},
			got: []string{"other"}, replies: []string{"other", "other"}, on: "other",
		},
		{name: "by the first request, client stream", rules: byMessage, method: "Collect", requests: says("other", "a"), got: []string{"other", "a"}, replies: []string{"a"}, on: "other"},
		{name: "by the first request, bidi", rules: byMessage, method: "Chat", requests: says("other", "a"), got: []string{"other", "a"}, replies: []string{"other", "a"}, on: "other"},
		{name: "not by the second request", rules: byMessage, method: "Chat", requests: says("a", "other"), got: []string{"a", "other"}, replies: []string{"a", "other"}},
		{
			name: "by the first request, which is dropped", rules: byMessage + "\n- {name: y, on: request, method: Chat, if: number == 1, drop: true}",
			method: "Chat", requests: says("other", "a"), got: []string{"a"}, replies: []string{"a"}, on: "other",
		},
		{
			name: "by the first request, which is rejected", rules: byMessage + "\n- {name: y, on: request, reject: {code: ABORTED}}",
			method: "Chat", requests: says("other", "a"), code: codes.Aborted, on: none,
		},
		{name: "of a stream without requests", rules: byMessage, method: "Chat"},
		{
			name: "that is not configured", rules: `- {name: x, on: start, cluster: '"no" + "where"'}`, method: "Unary", requests: says("a"),
			code: codes.Internal, message: echoPrefix + `Unary: a filter has chosen cluster "nowhere", which is not configured`, on: none,
		},
		{
			name: "seen by later rules", rules: byStart + "\n- {name: y, on: request, method: Unary, set: {message: cluster}}",
			method: "Unary", metadata: []string{"to", "other"}, requests: says("a"), got: []string{"other"}, replies: []string{"other"}, on: "other",
		},
	} {
		t.Run(c.name, c.run)
	}
}

// A stream whose first message comes late: its backend is asked only then.
func TestDynamicClusterAwaitsTheFirstMessage(t *testing.T) {
	d := startRules(t, `- {name: x, on: request, cluster: message.message}`)
	for _, method := range []string{"Collect", "Chat"} {
		s := d.open(t, echoPrefix+method, nil)
		// What has been sent by now has got to the proxy when this is answered.
		d.healthy(t)
		d.main.unasked(t)
		first := encoded(t, say("other"))
		require.NoError(t, s.SendMsg(&first))
		header, err := s.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"other"}, header.Get("backend"))
		require.NoError(t, s.CloseSend())
		require.Equal(t, codes.OK, finish(s).code)
	}
}

// Where no rule needs the first message, a client may wait for headers before it
// sends anything.
func TestDynamicStreamMayWaitForHeaders(t *testing.T) {
	d := startRules(t, `- {name: x, on: start, cluster: '"other"'}
- {name: y, on: request, set: {message: 'message.message + "!"'}}
- {name: z, on: request, method: Unary, cluster: '"main"'}`)
	for _, method := range []string{"Collect", "Chat"} {
		s := d.open(t, echoPrefix+method, nil)
		header, err := s.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"other"}, header.Get("backend"))
		m := encoded(t, say("late"))
		require.NoError(t, s.SendMsg(&m))
		require.NoError(t, s.CloseSend())
		o := finish(s)
		require.Equal(t, codes.OK, o.code, o.message)
		require.Equal(t, []string{"late!"}, o.texts(t))
	}
}

// A rejection in the middle of a stream comes behind what was let through.
func TestDynamicRejectsInTheMiddle(t *testing.T) {
	d := startRules(t, `- {name: no, on: request, if: number == 2, reject: {code: OUT_OF_RANGE, message: '"enough: " + message.message'}}`)
	s := d.open(t, echoPrefix+"Chat", nil)
	first, second := encoded(t, say("a")), encoded(t, say("b"))
	require.NoError(t, s.SendMsg(&first))
	var reply []byte
	require.NoError(t, s.RecvMsg(&reply))
	require.Equal(t, "a", requestOf(t, reply).Message)
	require.NoError(t, s.SendMsg(&second))
	o := finish(s)
	requireFailure(t, o.callResult, codes.OutOfRange, stream.Rejected, "enough: b")
	require.Equal(t, []string{"a"}, d.main.next(t).texts(t))
	d.lives()
}

func TestDynamicOrder(t *testing.T) {
	for _, c := range []ruleCase{
		{
			name: "each sees what those before have made", rules: `- {name: a, on: request, set: {message: 'message.message + "a"'}}
- {name: b, on: request, if: message.message == "xa", set: {message: 'message.message + "b"'}}
- {name: c, on: request, if: message.message == "xa", set: {message: '"wrong"'}}`,
			method: "Unary", requests: says("x"), got: []string{"xab"}, replies: []string{"xab"},
		},
		{name: "the first rejection counts", rules: `- {name: a, on: request, reject: {code: ABORTED}}
- {name: b, on: request, reject: {code: DATA_LOSS}}`, method: "Unary", requests: says("x"), code: codes.Aborted, on: none},
		{name: "what is dropped is gone", rules: `- {name: a, on: request, method: Chat, if: number == 1, drop: true}
- {name: b, on: request, if: message.message == "x", reject: {code: DATA_LOSS}}`, method: "Chat", requests: says("x", "y"), got: []string{"y"}, replies: []string{"y"}},
		{
			name: "points come in the order of a call", rules: `- {name: d, on: end, metadata: {set: {end: '"d"'}}}
- {name: c, on: response, set: {message: 'message.message + "c"'}}
- {name: b, on: request, set: {message: 'message.message + "b"'}}
- {name: a, on: start, metadata: {set: {a: '"a"'}}}`,
			method: "Unary", requests: says(""), got: []string{"b"}, replies: []string{"bc"}, sent: map[string][]string{"a": {"a"}}, trailer: map[string][]string{"end": {"d"}},
		},
		{
			name: "metadata as the client sent it", rules: `- {name: a, on: start, metadata: {set: {a: '"new"'}}}
- {name: b, on: request, set: {message: 'metadata["a"]'}}`,
			method: "Unary", metadata: []string{"a", "old"}, requests: says("x"), got: []string{"old"}, replies: []string{"old"}, sent: map[string][]string{"a": {"new"}},
		},
	} {
		t.Run(c.name, c.run)
	}
}

func TestDynamicRulesOfOneMethod(t *testing.T) {
	d := startRules(t, `- {name: one, on: request, method: Chat, set: {message: '"chat"'}}
- {name: two, on: request, method: Unary, set: {message: '"unary"'}}`)
	require.Equal(t, []string{"chat"}, d.invoke(t, "Chat", nil, say("x")).texts(t))
	require.Equal(t, []string{"unary"}, d.invoke(t, "Unary", nil, say("x")).texts(t))
	require.Equal(t, []string{"x"}, d.invoke(t, "Collect", nil, say("x")).texts(t))
}

// The routes of one proxy: by method, by service, and the default, with rules of
// their own each.
func TestDynamicRoutes(t *testing.T) {
	d := startDynamic(t, "routes:\n"+
		proxytest.Route("method: "+echoPrefix+"Unary", "echo", `- {name: a, on: request, set: {message: 'route + " " + message.message'}}`)+
		proxytest.Route("service: kitexproxy.echo.v1.Echo", "echo", `- {name: a, on: request, if: message.count > 0, set: {message: 'route + " " + message.message'}}`)+
		"default:\n  cluster: other\n  mode: dynamic\n  schema: echo\n"+proxytest.Rules("  ", "- {name: a, on: start, reject: {code: ABORTED}}"))
	require.Equal(t, []string{"routes[0] x"}, d.invoke(t, "Unary", nil, say("x")).texts(t))
	counted := &echo.EchoRequest{Message: "x", Count: 1}
	require.Equal(t, []string{"routes[1] x"}, d.invoke(t, "Chat", nil, counted).texts(t))
	require.Equal(t, []string{"x"}, d.invoke(t, "Chat", nil, say("x")).texts(t))
	o := d.invokeRaw(t, "/elsewhere.Service/Method", nil, [][]byte{{0xff}})
	require.Equal(t, codes.OK, o.code, "the schema does not have it: %s", o.message)
	require.Equal(t, [][]byte{{0xff}}, o.messages)
	require.Equal(t, [][]byte{{0xff}}, d.other.next(t).messages)
}

const twoServices = `syntax = "proto3";
package two.v1;
service First { rpc Do(A) returns (B); rpc Other(A) returns (stream B); }
service Second { rpc Do(B) returns (A); }
message A { string text = 1; }
message B { string text = 1; int32 size = 2; Inner inner = 3; }
message Inner { string name = 1; repeated string tags = 2; }
`

// writeProto writes a .proto file, and returns its path.
func writeProto(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.proto")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestDynamicDefaultTakesAllMethodsOfItsSchema(t *testing.T) {
	d := startDynamic(t, "  two: {files: ["+writeProto(t, twoServices)+"]}\ndefault:\n  cluster: main\n  mode: dynamic\n  schema: two\n"+
		proxytest.Rules("  ", "- {name: a, on: request, set: {text: 'method + \" \" + message.text'}}"))
	text := func(s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), s)
	}
	for _, method := range []string{"/two.v1.First/Do", "/two.v1.First/Other", "/two.v1.Second/Do"} {
		o := d.invokeRaw(t, method, nil, [][]byte{text("x")})
		require.Equal(t, codes.OK, o.code, o.message)
		require.Equal(t, [][]byte{text(method + " x")}, o.messages)
	}
	require.Equal(t, []string{"x"}, d.invoke(t, "Unary", nil, say("x")).texts(t), "another service")
}

// Rules of a route are not for the methods that a route before it has taken: they
// would not even fit those.
func TestDynamicRoutesBeforeTakeTheirMethods(t *testing.T) {
	d := startDynamic(t, "  two: {files: ["+writeProto(t, twoServices)+"]}\nroutes:\n"+
		"  - {match: {method: /two.v1.First/Do}, cluster: other}\n"+
		proxytest.Route("service: two.v1.First", "two", `- {name: streams only, on: response, if: message.size > 3, drop: true}`)+
		"  - {match: {service: two.v1.Second}, cluster: other}\n"+
		"default:\n  cluster: main\n  mode: dynamic\n  schema: two\n"+proxytest.Rules("  ", "- {name: a, on: request, set: {nothing: '1'}}"))
	size := func(n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), n)
	}
	require.Empty(t, d.invokeRaw(t, "/two.v1.First/Other", nil, [][]byte{size(4)}).messages)
	require.Len(t, d.invokeRaw(t, "/two.v1.First/Do", nil, [][]byte{size(4)}).messages, 1)
}

// TestDynamicMethodThatTheSchemaLacks: a rule for all methods of a service is for
// those as well that only the backend knows, and as it cannot be asked about their
// messages, they are refused. Where messages may pass it by, so may they.
func TestDynamicMethodThatTheSchemaLacks(t *testing.T) {
	const forAll, forOne = `- {name: a, on: request, reject: {code: ABORTED}}`, `- {name: a, on: request, method: Unary, reject: {code: ABORTED}}`
	for name, c := range map[string]struct {
		rules, more string
		refused     bool
	}{
		"rule for all":            {rules: forAll, refused: true},
		"rule for one":            {rules: forOne},
		"undecodable messages go": {rules: forAll, more: "    undecodable: forward\n"},
		"no rules":                {},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDynamic(t, "  old: {files: ["+writeProto(t, `syntax = "proto3"; package kitexproxy.echo.v1;
service Echo { rpc Unary(R) returns (R); } message R { string message = 1; }`)+"]}\nroutes:\n"+
				proxytest.Route("service: kitexproxy.echo.v1.Echo", "old", c.rules)+c.more)
			if c.rules != "" {
				require.Equal(t, codes.Aborted, d.invoke(t, "Unary", nil, say("x")).code)
			}
			o := d.invokeRaw(t, echoPrefix+"Chat", nil, [][]byte{{0xff}, {0xfe}})
			if c.refused {
				requireFailure(t, o.callResult, codes.Unimplemented, stream.Rejected, `"old"`, echoPrefix+"Chat")
				d.main.unasked(t)
				return
			}
			require.Equal(t, codes.OK, o.code)
			require.Equal(t, [][]byte{{0xff}, {0xfe}}, o.messages)
		})
	}
}

func TestDynamicRouteWithoutRules(t *testing.T) {
	d := startRules(t, "")
	o := d.invokeRaw(t, echoPrefix+"Unary", nil, [][]byte{{0xff}})
	require.Equal(t, codes.OK, o.code)
	require.Equal(t, [][]byte{{0xff}}, o.messages)
}

// oddBytes is an encoding that nobody would make: fields in another order, twice,
// with numbers longer than need be, and some that the schema does not have.
func oddBytes() []byte {
	var b []byte
	b = append(b, 0x18, 0x83, 0x80, 0x00) // count: 3 in three bytes
	b = protowire.AppendString(protowire.AppendTag(b, 100, protowire.BytesType), "unknown")
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), "lost")
	b = protowire.AppendFixed64(protowire.AppendTag(b, 101, protowire.Fixed64Type), 1)
	return protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), "text")
}

func TestDynamicUnchangedMessagesKeepTheirBytes(t *testing.T) {
	d := startRules(t, `- {name: a, on: request, if: message.message == "other", clear: [message]}
- {name: b, on: request, set: {message: message.message, count: '3'}, redact: [payload]}
- {name: c, on: response, if: message.sequence < 0, clear: [message]}
- {name: d, on: response, set: {message: message.message}}`)
	for _, method := range []string{"Unary", "Collect", "Expand", "Chat"} {
		o := d.invokeRaw(t, echoPrefix+method, nil, [][]byte{oddBytes()})
		require.Equal(t, codes.OK, o.code, o.message)
		require.Equal(t, [][]byte{oddBytes()}, d.main.next(t).messages, "requests")
		for _, m := range o.messages {
			require.Equal(t, oddBytes(), m, "responses")
		}
		require.NotEmpty(t, o.messages)
	}
}

func TestDynamicChangedMessagesKeepUnknownFields(t *testing.T) {
	d := startRules(t, `- {name: a, on: request, set: {message: '"new"'}}`)
	d.invokeRaw(t, echoPrefix+"Unary", nil, [][]byte{oddBytes()})
	got := d.main.next(t).messages
	require.Len(t, got, 1)
	require.Equal(t, &echo.EchoRequest{Message: "new", Count: 3}, requestOf(t, got[0]))
	unknown := make(map[protowire.Number][]byte)
	for b := got[0]; len(b) > 0; {
		number, _, n := protowire.ConsumeField(b)
		require.Positive(t, n)
		unknown[number] = b[:n]
		b = b[n:]
	}
	require.Contains(t, string(unknown[100]), "unknown")
	require.Contains(t, unknown, protowire.Number(101))
}

func TestDynamicCompressedMessages(t *testing.T) {
	d := startRules(t, `- {name: a, on: request, if: message.message == "change", set: {message: '"changed"'}}
- {name: b, on: response, if: message.message == "changed", set: {message: '"changed back"'}}
- {name: c, on: request, if: message.message == "bad", reject: {code: ABORTED}}`)
	for text, want := range map[string]string{"stay": "stay", "change": "changed back"} {
		o := d.invokeRaw(t, echoPrefix+"Chat", nil, [][]byte{encoded(t, say(text))}, grpc.UseCompressor(gzip.Name))
		require.Equal(t, codes.OK, o.code, o.message)
		require.Equal(t, []string{want}, o.texts(t))
	}
	o := d.invokeRaw(t, echoPrefix+"Chat", nil, [][]byte{encoded(t, say("bad"))}, grpc.UseCompressor(gzip.Name))
	require.Equal(t, codes.Aborted, o.code)
	bomb := encoded(t, &echo.EchoRequest{Payload: make([]byte, 5<<20)})
	o = d.invokeRaw(t, echoPrefix+"Unary", nil, [][]byte{bomb}, grpc.UseCompressor(gzip.Name))
	requireFailure(t, o.callResult, codes.ResourceExhausted, stream.MessageTooLarge)
	d.lives()
}

// On the wire: what has changed is compressed again, and what has not is as it was.
func TestDynamicCompressedMessagesStaySo(t *testing.T) {
	bodies := make(chan []byte, 2)
	backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
		body, _ := s.AwaitEndStream(s.Context()) // what has come by then is compared
		bodies <- body
		_ = s.Status(0, "")
	})
	cfg := dynamicConfig(t, backend.Addr(), backend.Addr(), echoSchema+echoRoute(`- {name: a, on: request, if: message.message == "change", set: {message: '"changed"'}}`))
	f := startFaultProxy(t, cfg)
	client := f.dial(rawh2.Options{})
	send := func(text string) (sent, got []byte) {
		sent = rawh2.Frame(1, asGzip(t, encoded(t, say(text))))
		s, err := client.NewStream(rawh2.RequestFields(echoPrefix+"Unary", f.addr, rawh2.F("grpc-encoding", "gzip")), false)
		require.NoError(t, err)
		require.NoError(t, s.Data(sent, true))
		require.Equal(t, codes.OK, f.result(s).code)
		return sent, <-bodies
	}
	sent, got := send("stay")
	require.Equal(t, sent, got)
	_, got = send("change")
	require.EqualValues(t, 1, got[0], "the flag")
	r, err := stdgzip.NewReader(bytes.NewReader(got[stream.PrefixLen:]))
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "changed", requestOf(t, plain).Message)
}

func asGzip(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := stdgzip.NewWriter(&buf)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func TestDynamicUndecodable(t *testing.T) {
	const rules = `- {name: a, on: request, if: message.message != "", reject: {code: ABORTED}}`
	d := startRules(t, rules)
	o := d.invokeRaw(t, echoPrefix+"Unary", nil, [][]byte{{0xff}})
	requireFailure(t, o.callResult, codes.Internal, stream.Undecodable, "request message 1", "kitexproxy.echo.v1.EchoRequest")
	forward := startDynamic(t, strings.Replace(echoRoute(rules), "    mode:", "    undecodable: forward\n    mode:", 1))
	require.Equal(t, [][]byte{{0xff}}, forward.invokeRaw(t, echoPrefix+"Unary", nil, [][]byte{{0xff}}).messages)
	require.Equal(t, codes.Aborted, forward.invoke(t, "Unary", nil, say("x")).code)
}

// An expression without a value ends its call, by a text that names the rule and
// has nothing of the message.
func TestDynamicEvaluationErrors(t *testing.T) {
	const secret = "sesame-open"
	for name, c := range map[string]struct{ rules, told string }{
		"condition":        {`- {name: odd rule, on: request, if: int(message.message) > 3, clear: [message]}`, "if: "},
		"list":             {`- {name: odd rule, on: request, if: 'message.message.split("-")[2] == "x"', clear: [message]}`, "if: "},
		"map":              {`- {name: odd rule, on: request, if: '{"a": 1}[message.message] == 1', clear: [message]}`, "if: "},
		"division":         {`- {name: odd rule, on: request, set: {count: '1 / (message.count - message.count)'}}`, "set.count: "},
		"range":            {`- {name: odd rule, on: request, set: {count: '3000000000 + int(message.count)'}}`, "set.count: "},
		"text of status":   {`- {name: odd rule, on: request, reject: {code: ABORTED, message: 'message.message.substring(100)'}}`, "reject.message: "},
		"metadata":         {`- {name: odd rule, on: request, metadata: {set: {a: 'message.message + "\n"'}}}`, "metadata.set.a: "},
		"cluster":          {`- {name: odd rule, on: request, cluster: 'message.message.split("-")[2]'}`, "cluster: "},
		"start":            {`- {name: odd rule, on: start, if: 'int(metadata["secret"]) == 1', cluster: '"other"'}`, "if: "},
		"header":           {`- {name: odd rule, on: header, if: 'header[metadata["secret"]] == ""', metadata: {remove: [a]}}`, "if: "},
		"response":         {`- {name: odd rule, on: response, if: int(message.message) > 3, clear: [message]}`, "if: "},
		"end":              {`- {name: odd rule, on: end, if: 'trailer[metadata["secret"]] == ""', metadata: {remove: [a]}}`, "if: "},
		"more than it may": {`- {name: odd rule, on: request, if: 'message.message.split("").all(a, "` + strings.Repeat("x", 60) + `".split("").all(b, "` + strings.Repeat("x", 60) + `".split("").all(c, "` + strings.Repeat("y", 60) + `".split("").all(d, a + b + c + d != message.message))))', clear: [message]}`, "cost limit exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			d := startRules(t, c.rules)
			for _, method := range []string{"Unary", "Chat"} {
				o := d.invoke(t, method, []string{"secret", secret}, say(secret))
				require.Equal(t, codes.Internal, o.code, o.message)
				require.Contains(t, o.message, `rule "odd rule": `)
				require.Contains(t, o.message, c.told)
				require.NotContains(t, o.message, secret)
				require.NotContains(t, o.message, "sesame")
			}
			d.lives()
			require.NotContains(t, d.log.String(), "sesame")
		})
	}
}

// Whatever comes, a rule does not panic.
func TestDynamicNoiseMakesNoRulePanic(t *testing.T) {
	d := startDynamic(t, "  two: {files: ["+writeProto(t, twoServices)+"]}\nroutes:\n"+
		proxytest.Route("service: two.v1.Second", "two", `- {name: a, on: request, if: 'has(message.inner) && message.inner.tags.exists(x, x.matches("a+"))', set: {inner.name: 'message.inner.tags[0]'}, clear: [size], redact: [inner.tags]}
- {name: b, on: request, if: message.size > 10, set: {inner: 'null', text: 'string(message.size)'}}
- {name: c, on: request, if: 'message == B{text: message.text}', metadata: {add: {x-bin: bytes(message.text)}}}
- {name: d, on: response, if: size(message.text) % 2 == 0, set: {text: 'message.text + message.text'}}`))
	noise := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		m := make([]byte, noise.IntN(40))
		for i := range m {
			m[i] = byte(noise.Uint32())
		}
		for _, framed := range [][]byte{m, oddMessage(noise)} {
			o := d.invokeRaw(t, "/two.v1.Second/Do", nil, [][]byte{framed})
			require.NotContains(t, o.message, "panic", "%x", framed)
			if o.code != codes.OK {
				require.Equal(t, codes.Internal, o.code, "%s: %x", o.message, framed)
			}
			for len(d.main.calls) > 0 {
				<-d.main.calls
			}
		}
	}
	require.NotContains(t, d.log.String(), "panic")
	d.lives()
}

// oddMessage is a valid message of type two.v1.B with fields in any order.
func oddMessage(noise *rand.Rand) []byte {
	var b []byte
	for range noise.IntN(6) {
		switch noise.IntN(4) {
		case 0:
			b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), strings.Repeat("aé", noise.IntN(4)))
		case 1:
			b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), noise.Uint64())
		case 2:
			inner := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), strings.Repeat("a", noise.IntN(3)))
			b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), inner)
		default:
			b = protowire.AppendBytes(protowire.AppendTag(b, protowire.Number(4+noise.IntN(9)), protowire.BytesType), []byte("?"))
		}
	}
	return b
}

func TestDynamicNumberCountsEachDirection(t *testing.T) {
	d := startRules(t, `- {name: a, on: request, set: {message: 'message.message + string(number)'}}
- {name: b, on: response, set: {message: 'message.message + "/" + string(number)'}}`)
	require.Equal(t, []string{"x1/1", "y2/2", "z3/3"}, d.invoke(t, "Chat", nil, says("x", "y", "z")...).texts(t))
	require.Equal(t, []string{"z3/1"}, d.invoke(t, "Collect", nil, says("x", "y", "z")...).texts(t))
	require.Equal(t, []string{"x1/1", "x1/2"}, d.invoke(t, "Expand", nil, &echo.EchoRequest{Message: "x", Count: 2}).texts(t))
}

// Calls beside each other do not see each other's values.
func TestDynamicCallsBesideEachOther(t *testing.T) {
	d := startRules(t, `- {name: a, on: start, metadata: {set: {b: 'metadata["a"]'}}}
- {name: b, on: request, set: {message: 'message.message + metadata["a"]'}}
- {name: c, on: response, set: {message: 'message.message + metadata["a"]'}}`)
	const calls = 50
	done := make(chan string, calls)
	for i := range calls {
		go func() { // ends with its call
			me := strconv.Itoa(i)
			ctx := metadata.AppendToOutgoingContext(context.Background(), "a", me)
			var reply []byte
			request, err := say(me + ":").Marshal(nil)
			if err == nil {
				err = d.client.Invoke(ctx, echoPrefix+"Unary", &request, &reply)
			}
			got := new(echo.EchoReply)
			switch {
			case err != nil:
				done <- err.Error()
			case got.Unmarshal(reply) != nil || got.Message != me+":"+me+me:
				done <- me + " got " + got.Message
			default:
				done <- ""
			}
		}()
	}
	for range calls {
		require.Empty(t, <-done)
	}
	d.lives()
}

// A Relay, which has no listeners of its own, runs rules as a Proxy does.
func TestDynamicRelay(t *testing.T) {
	main := startWitness(t, "main")
	cfg := dynamicConfig(t, main.addr, main.addr, "schemas: {echo: {files: [../idl/echo.proto]}}\n"+echoRoute(`- {name: a, on: start, reject: {code: ABORTED}}`))
	relay, err := proxy.NewRelay(cfg, proxy.WithLogger(faultLogger()))
	require.NoError(t, err)
	relay.Shutdown(t.Context())
	require.Equal(t, proxy.Stats{}, relay.Stats())
}
