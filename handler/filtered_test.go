package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/compress"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// The methods of the echo service, one for each call kind.
const (
	unary   = "/kitexproxy.echo.v1.Echo/Unary"
	collect = "/kitexproxy.echo.v1.Echo/Collect"
	expand  = "/kitexproxy.echo.v1.Echo/Expand"
	chat    = "/kitexproxy.echo.v1.Echo/Chat"
)

// method returns a method of the echo service for filters. Request and reply have
// the same text field, which is all that these tests write.
func method(name string) filter.Method[echo.EchoRequest, echo.EchoReply] {
	return filter.For[echo.EchoRequest, echo.EchoReply](name)
}

// filteredCall is a call with filters, and both its ends.
type filteredCall struct {
	t         testing.TB
	method    string
	request   stream.Request
	filters   []*filter.Filter
	action    conf.Action
	complete  bool // the request has come whole when the call begins
	in        []byte
	header    *stream.Header
	out       []byte
	trailer   stream.Trailer
	prepare   func(*client, *answer)
	maxGlobal uint32

	client   *client
	backend  *answer
	backends *backends
	handler  *Handler
}

// askedFor is a client that asks for a method in some content type and encoding.
type askedFor struct {
	*client
	request *stream.Request
}

func (c askedFor) Request() *stream.Request { return c.request }

// abortables hands out backends whose streams an abort ends, as it does real ones.
type abortables struct{ *backends }

func (b abortables) Open(ctx context.Context, cluster, instance string, req *stream.Request) (stream.Outbound, error) {
	out, err := b.backends.Open(ctx, cluster, instance, req)
	if err != nil {
		return nil, err
	}
	return &abortable{answer: out.(*answer), aborts: make(chan struct{})}, nil
}

type abortable struct {
	*answer
	once   sync.Once
	aborts chan struct{}
}

func (a *abortable) Abort() {
	a.once.Do(func() { close(a.aborts) })
	a.answer.Abort()
}

func (a *abortable) Header() (*stream.Header, error) {
	if a.awaitRequest {
		select {
		case <-a.halfClosed:
		case <-a.aborts:
			return nil, &stream.Failure{Reason: stream.ClientCanceled, Code: stream.Canceled, Message: "aborted"}
		case <-a.ctx.Done():
		}
	}
	return a.answer.Header()
}

// end carries the call and returns how it ended.
func (c *filteredCall) end() *stream.Trailer {
	c.t.Helper()
	c.start()()
	require.NotNil(c.t, c.client.end, "the call must have ended")
	return c.client.end
}

// start prepares the call and returns what carries it.
func (c *filteredCall) start() (serve func()) {
	c.t.Helper()
	set, err := filter.NewSet([]*filter.Service{filter.KitexService(echosvc.NewServiceInfo())}, c.filters)
	require.NoError(c.t, err)
	c.request.Method = c.method
	c.client, c.backend = newClient(c.in, io.EOF), newAnswer(c.out, stream.OK)
	c.client.complete = c.complete
	if c.header != nil {
		c.backend.header = c.header
	}
	c.backend.trailer = &c.trailer
	if c.prepare != nil {
		c.prepare(c.client, c.backend)
	}
	c.action.Cluster = "c"
	c.backends = &backends{answers: []*answer{c.backend}}
	cfg := &conf.Config{Clusters: map[string]*conf.Cluster{"c": {Instances: []string{"one"}}}, Default: &c.action}
	c.handler = New(Options{
		Resolver: tableOf(cfg), Backends: abortables{c.backends}, Logger: slog.New(slog.DiscardHandler), MaxMessage: c.maxGlobal, Cluster: clustersOf(cfg),
		Filters: func(method string, _ *resolver.Target) *filter.Chain { return set.Chain(method) },
	})
	return func() { c.handler.Serve(askedFor{c.client, &c.request}) }
}

// both are filters of both directions that decide the same.
func both(name string, v filter.Verdict) []*filter.Filter {
	return []*filter.Filter{
		method(name).OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict { return v }),
		method(name).OnResponse(func(context.Context, *filter.Call, *echo.EchoReply) filter.Verdict { return v }),
	}
}

// dropping are filters that drop the messages whose text is "drop", and change
// those whose text is "change".
func dropping(name string) []*filter.Filter {
	decide := func(text *string) filter.Verdict {
		switch *text {
		case "drop":
			return filter.Drop
		case "change":
			*text = "changed"
			return filter.Changed
		}
		return filter.Forward
	}
	return []*filter.Filter{
		method(name).OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict { return decide(&m.Message) }),
		method(name).OnResponse(func(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict { return decide(&m.Message) }),
	}
}

// text is the encoding of a request or a reply.
func text(s string) string {
	b, err := (&echo.EchoRequest{Message: s}).Marshal(nil)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// texts are messages with their prefixes.
func texts(all ...string) (b []byte) {
	for _, s := range all {
		b = append(b, message(text(s))...)
	}
	return b
}

// flagged is a message with this compressed flag.
func flagged(flag byte, payload string) []byte {
	b := message(payload)
	b[0] = flag
	return b
}

// packed is a compressed message.
func packed(t testing.TB, encoding, payload string) []byte {
	b, err := compress.Find(encoding).Compress(nil, []byte(payload))
	require.NoError(t, err)
	return flagged(1, string(b))
}

// requireFails checks a local reply.
func requireFails(t testing.TB, end *stream.Trailer, code stream.Code, why stream.Reason, says ...string) {
	t.Helper()
	require.Equal(t, why, reason(end), "message %q", end.Status.Message)
	require.Equal(t, code, end.Status.Code)
	for _, s := range says {
		require.Contains(t, end.Status.Message, s)
	}
}

// arrivals are the two ways in which a request comes: whole, or bit by bit.
var arrivals = map[string]bool{"request there already": true, "request still coming": false}

func TestMessagesThatFiltersLeaveAloneKeepTheirBytes(t *testing.T) {
	const (
		unknown = "\x9a\x06\x03abc" // field 99
		twice   = "\x0a\x01a\x0a\x01b"
		order   = "\x18\x07\x0a\x01a" // field 3 before field 1
		long    = "\x18\x87\x80\x00"  // 7, in more bytes than it takes
		zero    = "\x18\x00"          // a default that need not be there
	)
	all := messages(unknown, "", twice, order, long, zero)
	for name, complete := range arrivals {
		t.Run(name, func(t *testing.T) {
			c := filteredCall{t: t, method: chat, filters: both(chat, filter.Forward), in: all, out: all, complete: complete}
			require.Equal(t, stream.OK, c.end().Status.Code)
			require.Equal(t, all, c.backend.received())
			require.Equal(t, all, c.client.got)
			require.True(t, c.backend.isHalfClosed())

			c = filteredCall{t: t, method: chat, filters: both(chat, filter.Changed), in: all, out: all, complete: complete}
			require.Equal(t, stream.OK, c.end().Status.Code)
			want := messages("", "", "\x0a\x01b", "\x0a\x01a\x18\x07", "\x18\x07", "")
			require.Equal(t, want, c.backend.received())
			require.Equal(t, want, c.client.got)
		})
	}
}

func TestDroppedMessagesOfAStreamNeverArrive(t *testing.T) {
	for name, complete := range arrivals {
		t.Run(name, func(t *testing.T) {
			all := texts("drop", "a", "drop", "change", "drop")
			c := filteredCall{t: t, method: chat, filters: dropping(chat), in: all, out: all, complete: complete, trailer: stream.Trailer{Status: stream.Status{Code: 7}}}
			require.Equal(t, stream.Code(7), c.end().Status.Code, "the status is behind it all")
			require.Equal(t, texts("a", "changed"), c.backend.received())
			require.Equal(t, texts("a", "changed"), c.client.got)
			require.True(t, c.backend.isHalfClosed(), "and so is the half-close")

			all = texts("drop", "drop")
			c = filteredCall{t: t, method: chat, filters: dropping(chat), in: all, out: all, complete: complete}
			require.Equal(t, stream.OK, c.end().Status.Code)
			require.Empty(t, c.backend.received())
			require.Empty(t, c.client.got)
			require.True(t, c.backend.isHalfClosed())
		})
	}
}

// A message that the call must have is not just left out.
func TestDroppingTheOnlyMessage(t *testing.T) {
	for name, test := range map[string]struct {
		method       string
		in, out      []byte
		says         string // "" for a call that may go on without
		asksBackends bool
	}{
		"request of a unary call":         {unary, texts("drop"), texts("a"), unary + ": request message 1: a filter dropped the only message", false},
		"request of a server stream":      {expand, texts("drop"), texts("a"), expand + ": request message 1: a filter dropped the only message", false},
		"all requests of a client stream": {collect, texts("drop", "drop"), texts("a"), "", true},
		"response of a unary call":        {unary, texts("a"), texts("drop"), unary + ": response message 1: a filter dropped the only message", true},
		"response of a client stream":     {collect, texts("a"), texts("drop"), collect + ": response message 1: a filter dropped the only message", true},
		"all responses of a stream":       {expand, texts("a"), texts("drop", "drop"), "", true},
		"no request came at all":          {unary, nil, texts("a"), "", true},
		"no response came at all":         {unary, texts("a"), nil, "", true},
	} {
		for when, complete := range arrivals {
			t.Run(name+", "+when, func(t *testing.T) {
				c := filteredCall{t: t, method: test.method, filters: dropping(test.method), in: test.in, out: test.out, complete: complete}
				end := c.end()
				if test.says == "" {
					require.Equal(t, stream.OK, end.Status.Code, end.Status.Message)
				} else {
					requireFails(t, end, stream.Internal, stream.MessageDropped, test.says)
				}
				require.Equal(t, test.asksBackends, len(c.backends.opened) > 0)
			})
		}
	}
}

// A call that the backend fails has no need of a message.
func TestBackendsStatusWinsOverADroppedMessage(t *testing.T) {
	c := filteredCall{
		t: t, method: unary, filters: dropping(unary), in: texts("a"), out: texts("drop"),
		trailer: stream.Trailer{Status: stream.Status{Code: stream.Code(codes.NotFound), Message: "no such thing"}},
	}
	end := c.end()
	require.Equal(t, stream.Status{Code: stream.Code(codes.NotFound), Message: "no such thing"}, end.Status)
	require.Empty(t, reason(end))
}

func TestMethodsOfOneMessageKeepToIt(t *testing.T) {
	more := func(name string) []*filter.Filter {
		m := method(name)
		return []*filter.Filter{
			m.OnRequest(func(_ context.Context, _ *filter.Call, r *echo.EchoRequest) filter.Verdict {
				switch r.Message {
				case "rejected":
					return m.WithRequests([]*echo.EchoRequest{{Message: "!"}}, filter.Reject(codes.Internal, ""), nil)
				case "more":
					return m.WithRequests(nil, filter.Forward, []*echo.EchoRequest{{Message: "!"}})
				}
				return filter.Forward
			}),
			m.OnResponse(func(_ context.Context, _ *filter.Call, r *echo.EchoReply) filter.Verdict {
				switch r.Message {
				case "more":
					return m.WithResponses([]*echo.EchoReply{{Message: "!"}}, filter.Forward, nil)
				case "instead":
					return m.WithResponses([]*echo.EchoReply{{Message: "!"}}, filter.Drop, nil)
				}
				return filter.Forward
			}),
		}
	}
	const filters = "filters make several messages of the one that the method has"
	const peer = "the method has only one message"
	for name, test := range map[string]struct {
		method  string
		in, out []byte
		reason  stream.Reason // "" for a call that ends well
		says    string
	}{
		"filters of a unary request":            {unary, texts("more"), texts("a"), stream.FilterFailed, "request message 1: " + filters},
		"one instead of a rejected request":     {unary, texts("rejected"), texts("a"), stream.Rejected, ""},
		"filters of a server stream's request":  {expand, texts("more"), texts("a"), stream.FilterFailed, "request message 1: " + filters},
		"filters of a client stream's requests": {collect, texts("more"), texts("a"), "", ""},
		"filters of a unary response":           {unary, texts("a"), texts("more"), stream.FilterFailed, "response message 1: " + filters},
		"filters of a client stream's response": {collect, texts("a"), texts("more"), stream.FilterFailed, "response message 1: " + filters},
		"filters of a server stream":            {expand, texts("a"), texts("more"), "", ""},
		"another message instead of one":        {unary, texts("a"), texts("instead"), "", ""},
		"a client that sends two":               {unary, texts("a", "b"), texts("a"), stream.RequestMalformed, "request message 2: " + peer},
		"a backend that sends two":              {unary, texts("a"), texts("a", "b"), stream.BackendProtocol, "response message 2: " + peer},
	} {
		for when, complete := range arrivals {
			t.Run(name+", "+when, func(t *testing.T) {
				c := filteredCall{t: t, method: test.method, filters: more(test.method), in: test.in, out: test.out, complete: complete}
				if test.reason != stream.BackendProtocol {
					c.prepare = func(_ *client, a *answer) { a.awaitRequest = true }
				}
				end := c.end()
				if test.reason == "" {
					require.Equal(t, stream.OK, end.Status.Code, end.Status.Message)
					return
				}
				requireFails(t, end, stream.Internal, test.reason, test.says)
				if strings.HasPrefix(test.says, "request message 1") || test.reason == stream.Rejected {
					require.Empty(t, c.backends.opened, "the backend has no use for a part of that")
				}
				if strings.HasPrefix(test.says, "response message 1") {
					require.Empty(t, c.client.got)
				}
			})
		}
	}
}

// A message in two parts of the road is not counted twice, and one dropped makes
// no room for another.
func TestSecondMessageDoesNotStandInForADroppedOne(t *testing.T) {
	c := filteredCall{t: t, method: unary, filters: dropping(unary), in: texts("drop", "a"), out: texts("a"), complete: true}
	requireFails(t, c.end(), stream.Internal, stream.RequestMalformed, "request message 2")
	require.Empty(t, c.backends.opened)
}

func TestMessagesThatFiltersCannotLookAt(t *testing.T) {
	const ok = "\x0a\x04text"
	type ends struct{ encoding, contentType string }
	for name, test := range map[string]struct {
		ends    ends
		message []byte
		says    string // "" for one that can be decoded
	}{
		"plain":                          {ends{}, message(ok), ""},
		"plain with an encoding":         {ends{encoding: "gzip"}, message(ok), ""},
		"plain with an unknown one":      {ends{encoding: "snappy"}, message(ok), ""},
		"content-type with proto":        {ends{contentType: "application/grpc+proto"}, message(ok), ""},
		"content-type with parameters":   {ends{contentType: "application/grpc ; charset=utf-8"}, message(ok), ""},
		"content-type of JSON":           {ends{contentType: "application/grpc+json"}, message(`{"message":"text"}`), `messages of content-type "application/grpc+json" are no protobuf`},
		"content-type of thrift":         {ends{contentType: "application/grpc+thrift"}, message(ok), "are no protobuf"},
		"no message of the type":         {ends{}, message("\x0a\x05text"), "it is no echo.Echo"},
		"wrong wire type":                {ends{}, message("\x08\x01"), "it is no echo.Echo"},
		"field number 0":                 {ends{}, message("\x02\x01x"), "it is no echo.Echo"},
		"compressed without encoding":    {ends{}, flagged(1, ok), `it is compressed with "", which this proxy does not know`},
		"compressed with identity":       {ends{encoding: "identity"}, flagged(1, ok), `it is compressed with "identity"`},
		"compressed with an unknown":     {ends{encoding: "snappy"}, flagged(1, ok), `it is compressed with "snappy"`},
		"flag that does not exist":       {ends{encoding: "gzip"}, flagged(2, ok), "the compressed flag is 2"},
		"flag 255":                       {ends{}, flagged(255, ok), "the compressed flag is 255"},
		"compressed and not that":        {ends{encoding: "gzip"}, flagged(1, ok), "decompress gzip"},
		"compressed nothing":             {ends{encoding: "deflate"}, flagged(1, ""), "decompress deflate"},
		"compressed and cut":             {ends{encoding: "zstd"}, flagged(1, "\x28\xb5\x2f\xfd\x00"), "decompress zstd"},
		"compressed and no message":      {ends{encoding: "gzip"}, packed(t, "gzip", "\xff"), "it is no echo.Echo"},
		"compressed and a message":       {ends{encoding: "gzip"}, packed(t, "gzip", ok), ""},
		"compressed with deflate":        {ends{encoding: "deflate"}, packed(t, "deflate", ok), ""},
		"compressed with zstd":           {ends{encoding: "zstd"}, packed(t, "zstd", ok), ""},
		"encodings have no upper case":   {ends{encoding: "GZIP"}, packed(t, "gzip", ok), `it is compressed with "GZIP"`},
		"the empty message is a message": {ends{}, message(""), ""},
	} {
		for _, d := range []filter.Direction{filter.Request, filter.Response} {
			for _, undecodable := range []string{conf.UndecodableReject, conf.UndecodableForward} {
				t.Run(fmt.Sprint(name, ", ", d, ", ", undecodable), func(t *testing.T) {
					asked := 0
					count := func() filter.Verdict { asked++; return filter.Forward }
					c := filteredCall{
						t: t, method: chat, in: message(ok), out: message(ok), action: conf.Action{Undecodable: undecodable},
						header: &stream.Header{Encoding: test.ends.encoding, ContentType: test.ends.contentType},
					}
					if d == filter.Request {
						c.in, c.header = append(bytes.Clone(test.message), message(ok)...), nil
						c.request = stream.Request{Encoding: test.ends.encoding, ContentType: test.ends.contentType}
						c.filters = []*filter.Filter{method(chat).OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict { return count() })}
						c.prepare = func(_ *client, a *answer) { a.awaitRequest = true }
					} else {
						c.out = append(bytes.Clone(test.message), message(ok)...)
						c.filters = []*filter.Filter{method(chat).OnResponse(func(context.Context, *filter.Call, *echo.EchoReply) filter.Verdict { return count() })}
					}
					end := c.end()
					opaque := strings.HasSuffix(test.says, "no protobuf")
					if test.says != "" && undecodable == conf.UndecodableReject {
						requireFails(t, end, stream.Internal, stream.Undecodable, fmt.Sprintf("%s: %s message 1: ", chat, d), test.says)
						require.Zero(t, asked)
						return
					}
					require.Equal(t, stream.OK, end.Status.Code, end.Status.Message)
					require.Equal(t, c.in, c.backend.received())
					require.Equal(t, c.out, c.client.got)
					switch {
					case opaque:
						require.Zero(t, asked)
					case test.says != "":
						require.Equal(t, 1, asked, "the next message can be decoded")
					default:
						require.Equal(t, 2, asked)
					}
				})
			}
		}
	}
}

// Messages that nobody could look at are counted as well.
func TestUndecodableMessagesAreCounted(t *testing.T) {
	var numbers []int
	c := filteredCall{
		t: t, method: chat, action: conf.Action{Undecodable: conf.UndecodableForward},
		filters: []*filter.Filter{method(chat).OnRequest(func(_ context.Context, c *filter.Call, _ *echo.EchoRequest) filter.Verdict {
			numbers = append(numbers, c.Number())
			return filter.Forward
		})},
		in: bytes.Join([][]byte{message("\xff"), texts("a"), flagged(1, ""), flagged(2, ""), texts("b")}, nil),
	}
	require.Equal(t, stream.OK, c.end().Status.Code)
	require.Equal(t, []int{2, 5}, numbers)
	require.Equal(t, c.in, c.backend.received())
}

// What filters change or add goes out as the message came that they did it to.
func TestChangedMessagesAreCompressedAsTheyCame(t *testing.T) {
	add := method(chat).OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
		m.Message += "!"
		return method(chat).WithRequests([]*echo.EchoRequest{{Message: "before"}}, filter.Changed, nil)
	})
	for _, encoding := range []string{"gzip", "deflate", "zstd"} {
		t.Run(encoding, func(t *testing.T) {
			c := filteredCall{
				t: t, method: chat, filters: []*filter.Filter{add}, request: stream.Request{Encoding: encoding},
				in: append(packed(t, encoding, text("packed")), texts("plain")...), complete: true,
			}
			require.Equal(t, stream.OK, c.end().Status.Code)
			type got struct {
				flag byte
				text string
			}
			var all []got
			for rest := c.backend.received(); len(rest) > 0; {
				n := stream.PrefixLen + int(rest[4])
				payload := rest[stream.PrefixLen:n]
				if rest[0] == 1 {
					var err error
					payload, err = compress.Find(encoding).Decompress(payload, 1000)
					require.NoError(t, err)
				}
				var m echo.EchoRequest
				require.NoError(t, m.Unmarshal(payload))
				all = append(all, got{rest[0], m.Message})
				rest = rest[n:]
			}
			require.Equal(t, []got{{1, "before"}, {1, "packed!"}, {0, "before"}, {0, "plain!"}}, all)
		})
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestLimitsAreCheckedBeforeAnythingIsReserved(t *testing.T) {
	claim := func(n uint32) []byte {
		return []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 0x0a, 0x01, 'x'}
	}
	for name, test := range map[string]struct {
		claim  uint32
		limit  conf.Size
		global uint32
		code   stream.Code
		reason stream.Reason
	}{
		"one more than the default":         {DefaultMaxMessage + 1, 0, 0, stream.ResourceExhausted, stream.MessageTooLarge},
		"all that a prefix can say":         {1<<32 - 1, 0, 0, stream.ResourceExhausted, stream.MessageTooLarge},
		"one more than the limit":           {1001, 0, 1000, stream.ResourceExhausted, stream.MessageTooLarge},
		"one more than the route's":         {101, 100, 1000, stream.ResourceExhausted, stream.MessageTooLarge},
		"the route's is more than all's":    {1001, 2000, 1000, stream.Internal, stream.RequestMalformed},
		"a claim that is let through":       {DefaultMaxMessage, 0, 0, stream.Internal, stream.RequestMalformed},
		"and one of 4 GiB, if one wants so": {1<<32 - 1, 1<<32 - 1, 0, stream.Internal, stream.RequestMalformed},
	} {
		for when, complete := range arrivals {
			t.Run(name+", "+when, func(t *testing.T) {
				c := filteredCall{
					t: t, method: chat, filters: both(chat, filter.Forward), in: claim(test.claim), complete: complete,
					action: conf.Action{MessageLimit: test.limit}, maxGlobal: test.global,
					prepare: func(_ *client, a *answer) { a.awaitRequest = true },
				}
				serve := c.start()
				require.Less(t, allocated(serve), uint64(256<<10))
				requireFails(t, c.client.end, test.code, test.reason)

				reason := test.reason
				if reason == stream.RequestMalformed {
					reason = stream.BackendProtocol
				}
				c = filteredCall{
					t: t, method: chat, filters: both(chat, filter.Forward), out: claim(test.claim), complete: complete,
					action: conf.Action{MessageLimit: test.limit}, maxGlobal: test.global,
				}
				serve = c.start()
				require.Less(t, allocated(serve), uint64(256<<10))
				requireFails(t, c.client.end, test.code, reason)
			})
		}
	}
}

// What has come of a long message is held, and no more than twice of that is
// reserved.
func TestLongMessagesAreHeldAsTheyCome(t *testing.T) {
	in := texts(strings.Repeat("x", 1<<20))
	c := filteredCall{t: t, method: chat, filters: both(chat, filter.Forward), in: in, complete: true}
	require.Equal(t, stream.OK, c.end().Status.Code)
	require.True(t, bytes.Equal(in, c.backend.received()))

	c = filteredCall{t: t, method: chat, filters: both(chat, filter.Forward), in: in[:len(in)-1], complete: true}
	serve := c.start()
	require.Less(t, allocated(serve), uint64(6*len(in)))
	requireFails(t, c.client.end, stream.Internal, stream.RequestMalformed, "the request ends inside a message")
	require.Empty(t, c.backends.opened)
}

func TestDecompressionBombs(t *testing.T) {
	const limit = 64 << 10
	bomb := strings.Repeat("\x0a\x00", 4<<20)
	for _, encoding := range []string{"gzip", "deflate", "zstd"} {
		packed := packed(t, encoding, bomb)
		require.Less(t, len(packed), limit)
		for _, undecodable := range []string{conf.UndecodableReject, conf.UndecodableForward} {
			for _, d := range []filter.Direction{filter.Request, filter.Response} {
				t.Run(fmt.Sprint(encoding, ", ", undecodable, ", ", d), func(t *testing.T) {
					c := filteredCall{
						t: t, method: chat, filters: both(chat, filter.Forward), action: conf.Action{Undecodable: undecodable, MessageLimit: limit},
						prepare: func(_ *client, a *answer) { a.awaitRequest = d == filter.Request },
					}
					if d == filter.Request {
						c.in, c.request.Encoding = packed, encoding
					} else {
						c.out, c.header = packed, &stream.Header{Encoding: encoding}
					}
					serve := c.start()
					// A decoder of zstd takes 8 MiB at most for its window.
					require.Less(t, allocated(serve), uint64(12<<20))
					requireFails(t, c.client.end, stream.ResourceExhausted, stream.MessageTooLarge,
						fmt.Sprintf("%s: %s message 1: decompress %s", chat, d, encoding), "more than 65536 bytes")
					require.Empty(t, c.backend.received())
					require.Empty(t, c.client.got)
				})
			}
		}
	}
}

func TestMessagesThatBreakOff(t *testing.T) {
	whole := texts("a", "broken")
	for cut := 1; cut < len(whole); cut++ {
		if cut == len(texts("a")) {
			continue
		}
		for when, complete := range arrivals {
			t.Run(fmt.Sprint(cut, " bytes, ", when), func(t *testing.T) {
				c := filteredCall{
					t: t, method: chat, filters: both(chat, filter.Forward), in: whole[:cut], complete: complete,
					prepare: func(_ *client, a *answer) { a.awaitRequest = true },
				}
				requireFails(t, c.end(), stream.Internal, stream.RequestMalformed, "the request ends inside a message")
				c = filteredCall{t: t, method: chat, filters: both(chat, filter.Forward), out: whole[:cut], complete: complete}
				end := c.end()
				require.Equal(t, stream.BackendProtocol, reason(end))
				require.True(t, bytes.HasPrefix(texts("a"), c.client.got), "%x", c.client.got)
			})
		}
	}
}

// Filters of one direction leave the other to cross as in frame mode.
func TestDirectionsWithoutFiltersAreNotLookedAt(t *testing.T) {
	const opaque = "\xff no message"
	onRequest, onResponse := both(chat, filter.Changed)[:1], both(chat, filter.Changed)[1:]
	c := filteredCall{t: t, method: chat, filters: onRequest, in: texts("a"), out: flagged(2, opaque)}
	require.Equal(t, stream.OK, c.end().Status.Code)
	require.Equal(t, flagged(2, opaque), c.client.got)
	c = filteredCall{t: t, method: chat, filters: onResponse, in: flagged(2, opaque), out: texts("a")}
	require.Equal(t, stream.OK, c.end().Status.Code)
	require.Equal(t, flagged(2, opaque), c.backend.received())
}

// A stream that has nothing to send holds nothing of what it has sent.
func TestIdleStreamsHoldNoMessages(t *testing.T) {
	c := filteredCall{t: t, method: chat, filters: both(chat, filter.Changed), in: texts("a", "b")}
	c.start()
	call := &call{in: askedFor{c.client, &c.request}, ctx: t.Context(), target: &resolver.Target{}, chain: c.handler.opts.Filters(chat, nil)}
	call.run = call.chain.Begin(filter.CallInfo{Request: &c.request})
	f := newFiltered(call, frames{src: call.in, onWait: c.backend, direction: direction{requestName{}, stream.RequestMalformed}}, filter.Request, "", "")
	for _, want := range []string{"a", "b"} {
		b, err := f.next()
		require.NoError(t, err)
		require.Equal(t, texts(want), b)
		require.Empty(t, f.queue)
		for _, m := range f.out[:cap(f.out)] {
			require.Zero(t, m, "what has been sent is let go of")
		}
	}
	_, err := f.next()
	require.ErrorIs(t, err, io.EOF)
	_, err = f.next()
	require.ErrorIs(t, err, io.EOF, "and stays so")
}

// What a filter decides about the first message can be another cluster.
func TestClustersThatFiltersChoose(t *testing.T) {
	choose := func(name string) *filter.Filter {
		return method(unary).OnRequest(func(_ context.Context, c *filter.Call, _ *echo.EchoRequest) filter.Verdict {
			if err := c.SetCluster(name); err != nil {
				return filter.Reject(codes.Internal, "%v", err)
			}
			return filter.Forward
		})
	}
	c := filteredCall{t: t, method: unary, filters: []*filter.Filter{choose("elsewhere")}, in: texts("a")}
	requireFails(t, c.end(), stream.Internal, stream.FilterFailed, unary+`: a filter has chosen cluster "elsewhere", which is not configured`)
	require.Empty(t, c.backends.opened)

	c = filteredCall{t: t, method: unary, filters: []*filter.Filter{choose("elsewhere")}, in: texts("a")}
	serve := c.start()
	c.handler.opts.Cluster = clustersOf(&conf.Config{Clusters: map[string]*conf.Cluster{"elsewhere": {Instances: []string{"there"}}}})
	serve()
	require.Equal(t, stream.OK, c.client.end.Status.Code)
	require.Equal(t, []string{"there"}, c.backends.opened)

	c = filteredCall{t: t, method: unary, filters: []*filter.Filter{choose("c")}, in: texts("a")}
	serve = c.start()
	c.handler.opts.Cluster = nil
	serve()
	require.Equal(t, []string{"one"}, c.backends.opened, "its own needs no choice")
}

// A refused call is sent again as the filters have made it, and they are not
// asked again.
func TestFiltersAreAskedOnceForACallSentTwice(t *testing.T) {
	asked := 0
	for name, complete := range arrivals {
		t.Run(name, func(t *testing.T) {
			asked = 0
			c := filteredCall{t: t, method: chat, in: texts("a", "b"), complete: complete, filters: []*filter.Filter{
				method(chat).OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
					asked++
					m.Message += "!"
					return filter.Changed
				}),
			}}
			serve := c.start()
			refused := refusal()
			refused.awaitRequest = true
			c.backends.answers = append([]*answer{refused}, c.backends.answers...)
			c.backend.awaitRequest = true
			serve()
			require.Equal(t, stream.OK, c.client.end.Status.Code)
			require.Equal(t, texts("a!", "b!"), c.backend.received())
			require.Equal(t, 2, asked)
		})
	}
}

// The route's timeout, the end of the process or a client may end a call while a
// filter of the end is asked. That does not change what it has been told, but it
// has it come back.
func TestFiltersOfTheEndAreToldToComeBack(t *testing.T) {
	asked := make(chan struct{})
	c := filteredCall{t: t, method: unary, in: texts("a"), out: texts("b"), complete: true, filters: []*filter.Filter{
		method(unary).OnEnd(func(ctx context.Context, _ *filter.Call, end *filter.End) {
			close(asked)
			<-ctx.Done()
			end.Message = "not too late"
		}),
	}}
	serve := c.start()
	done := make(chan struct{})
	go func() { // ends with the call
		defer close(done)
		serve()
	}()
	<-asked
	over, cancel := context.WithCancel(context.Background())
	cancel()
	c.handler.Shutdown(over)
	<-done
	require.Equal(t, stream.OK, c.client.end.Status.Code)
	require.Equal(t, "not too late", c.client.end.Status.Message)
}

// overdue is a context whose deadline has passed, which nobody has noticed yet.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

type overdueClient struct{ *client }

func (c overdueClient) Context() context.Context { return overdue{c.client.Context()} }

// A backend keeps the deadline, too, and may reset the call before the proxy's own
// clock has rung.
func TestBackendsThatNoticeTheDeadlineFirst(t *testing.T) {
	a := newAnswer(nil, stream.OK)
	a.header, a.failure = nil, &stream.Failure{Reason: stream.BackendReset, Code: stream.Canceled, Message: "reset with CANCEL"}
	c := newClient(texts("a"), io.EOF)
	New(Options{Resolver: routes("one"), Backends: &backends{answers: []*answer{a}}}).Serve(overdueClient{c})
	requireFails(t, c.end, stream.DeadlineExceeded, stream.DeadlinePassed, `deadline exceeded before cluster "c" had answered`)
}

// However a call ends, its filters of the end are asked once, and know how.
func TestEveryCallHasItsEnd(t *testing.T) {
	type ends = filter.End
	rejects := func(at filter.Point) *filter.Filter {
		m, v := method(chat), filter.Reject(codes.Aborted, "no")
		switch at {
		case filter.AtStart:
			return m.OnStart(func(context.Context, *filter.Call) filter.Verdict { return v })
		case filter.AtRequest:
			return m.OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict { return v })
		case filter.AtHeader:
			return m.OnHeader(func(context.Context, *filter.Call) filter.Verdict { return v })
		}
		return m.OnResponse(func(context.Context, *filter.Call, *echo.EchoReply) filter.Verdict { return v })
	}
	rejected := ends{Code: codes.Aborted, Message: "no", Reason: string(stream.Rejected)}
	fails := func(f *stream.Failure) func(*client, *answer) {
		return func(_ *client, a *answer) { a.failure = f }
	}
	for name, test := range map[string]struct {
		filters []*filter.Filter
		prepare func(*client, *answer)
		want    ends
		silent  bool // the client has no use for the status
	}{
		"well":                   {nil, nil, ends{Code: codes.NotFound, Message: "the backend's"}, false},
		"rejected at the start":  {[]*filter.Filter{rejects(filter.AtStart)}, nil, rejected, false},
		"rejected by a request":  {[]*filter.Filter{rejects(filter.AtRequest)}, func(_ *client, a *answer) { a.awaitRequest = true }, rejected, false},
		"rejected by the header": {[]*filter.Filter{rejects(filter.AtHeader)}, nil, rejected, false},
		"rejected by a response": {[]*filter.Filter{rejects(filter.AtResponse)}, nil, rejected, false},
		"answered":               {[]*filter.Filter{method(chat).OnStart(func(context.Context, *filter.Call) filter.Verdict { return method(chat).Answer() })}, nil, ends{}, false},
		"a filter that panics": {
			[]*filter.Filter{method(chat).OnStart(func(context.Context, *filter.Call) filter.Verdict { panic("x") })},
			nil,
			ends{Code: codes.Internal, Message: "it panicked", Reason: string(stream.FilterFailed)},
			false,
		},
		"the backend is lost": {
			nil, fails(&stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable, Message: "gone"}),
			ends{Code: codes.Unavailable, Message: "gone", Reason: string(stream.BackendDisconnected)},
			false,
		},
		"the client cancels": {
			nil, func(c *client, a *answer) { a.header, a.awaitRequest = nil, true; c.readErr = nil; c.cancel() },
			ends{Code: codes.Canceled, Message: "cancelled by the client", Reason: string(stream.ClientCanceled)},
			false,
		},
		"the request breaks off": {
			nil, func(c *client, a *answer) { c.request = bytes.NewReader([]byte{0, 0}); a.awaitRequest = true },
			ends{Code: codes.Internal, Message: "the request ends inside a message", Reason: string(stream.RequestMalformed)},
			false,
		},
		"the client does not read": {
			nil, func(c *client, _ *answer) { c.writeErr = errors.New("broken pipe") },
			ends{Code: codes.Internal, Message: "broken pipe", Reason: string(stream.ProxyInternal)},
			false,
		},
	} {
		for when, complete := range arrivals {
			t.Run(name+", "+when, func(t *testing.T) {
				var got []ends
				learn := method(chat).OnEnd(func(_ context.Context, c *filter.Call, end *filter.End) {
					got = append(got, *end)
					end.Code, end.Message = codes.DataLoss, "changed"
					_ = c.ResponseTrailer().Set("k", "v")
				})
				c := filteredCall{
					t: t, method: chat, filters: append(test.filters, learn), in: texts("a"), out: texts("b"), complete: complete, prepare: test.prepare,
					trailer: stream.Trailer{Status: stream.Status{Code: stream.Code(codes.NotFound), Message: "the backend's"}},
				}
				end := c.end()
				require.Len(t, got, 1)
				require.Contains(t, got[0].Message, test.want.Message)
				got[0].Message = test.want.Message
				require.Equal(t, test.want, got[0])
				if test.want.Reason != string(stream.RequestMalformed) || complete {
					require.Equal(t, stream.Status{Code: stream.Code(codes.DataLoss), Message: "changed"}, end.Status)
					require.Equal(t, "v", end.Metadata.Get("k"))
				} else {
					require.Equal(t, stream.Internal, end.Status.Code, "one that has been aborted has been told before")
				}
			})
		}
	}
}

// A filter may end the goroutine that asks it, as the assertions of a test do. Its call
// ends then, though the code that would end it does not run.
func TestFiltersThatEndTheirGoroutine(t *testing.T) {
	m := method(chat)
	for point, f := range map[filter.Point]*filter.Filter{
		filter.AtStart: m.OnStart(func(context.Context, *filter.Call) filter.Verdict {
			runtime.Goexit()
			return filter.Forward
		}),
		filter.AtRequest: m.OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict {
			runtime.Goexit()
			return filter.Forward
		}),
		filter.AtHeader: m.OnHeader(func(context.Context, *filter.Call) filter.Verdict {
			runtime.Goexit()
			return filter.Forward
		}),
		filter.AtResponse: m.OnResponse(func(context.Context, *filter.Call, *echo.EchoReply) filter.Verdict {
			runtime.Goexit()
			return filter.Forward
		}),
		filter.AtEnd: m.OnEnd(func(context.Context, *filter.Call, *filter.End) { runtime.Goexit() }),
	} {
		for when, complete := range arrivals {
			t.Run(point.String()+", "+when, func(t *testing.T) {
				c := filteredCall{
					t: t, method: chat, filters: []*filter.Filter{f}, in: texts("a"), out: texts("b"), complete: complete,
					prepare: func(_ *client, a *answer) { a.awaitRequest = point == filter.AtRequest },
				}
				serve, over := c.start(), make(chan struct{})
				go func() { // ends with the call
					defer close(over)
					serve()
				}()
				select {
				case <-over:
				case <-time.After(safety):
					require.FailNow(t, "the call hangs")
				}
				require.NotNil(t, c.client.end, "the call must have ended")
				requireFails(t, c.client.end, stream.Internal, stream.FilterFailed, "it ended its goroutine")
				require.Zero(t, c.handler.ActiveCalls())
			})
		}
	}
}

// Whether the backend has been asked by the time a message comes is chance where
// a client may send any number of them, and does not decide what filters may do.
func TestWhenFiltersCanChangeTheHead(t *testing.T) {
	type errs = []error
	for name, test := range map[string]struct {
		method      string
		awaitsFirst bool
		in          []byte
		want        errs
	}{
		"a unary call":                   {unary, false, texts("a"), errs{nil}},
		"a server stream":                {expand, false, texts("a"), errs{nil}},
		"a stream":                       {chat, false, texts("a", "b"), errs{filter.ErrSent, filter.ErrSent}},
		"a client stream":                {collect, false, texts("a", "b"), errs{filter.ErrSent, filter.ErrSent}},
		"a stream that is awaited":       {chat, true, texts("a", "b", "c"), errs{nil, filter.ErrSent, filter.ErrSent}},
		"one that begins with no sense":  {chat, true, append(message("\xff"), texts("b")...), errs{filter.ErrSent}},
		"one whose first is dropped":     {chat, true, texts("drop", "b"), errs{nil, filter.ErrSent}},
		"a client stream that is waited": {collect, true, texts("a", "b"), errs{nil, filter.ErrSent}},
	} {
		for when, complete := range arrivals {
			t.Run(name+", "+when, func(t *testing.T) {
				var got errs
				c := filteredCall{
					t: t, method: test.method, in: test.in, complete: complete, action: conf.Action{Undecodable: conf.UndecodableForward},
					filters: []*filter.Filter{method(test.method).OnRequest(func(_ context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
						err := c.SetCluster("other")
						require.Equal(t, err, c.RequestHeader().Set("k", "v"))
						got = append(got, err)
						if m.Message == "drop" {
							return filter.Drop
						}
						return filter.Forward
					})},
				}
				serve := c.start()
				c.handler.opts.Cluster = clustersOf(&conf.Config{Clusters: map[string]*conf.Cluster{"other": {Instances: []string{"there"}}}})
				c.backend.awaitRequest = true
				if test.awaitsFirst {
					c.handler.opts.Filters(test.method, nil).AwaitFirst()
				}
				serve()
				require.Equal(t, test.want, got)
				where := "one"
				if test.want[0] == nil {
					where = "there"
				}
				require.Equal(t, []string{where}, c.backends.opened)
			})
		}
	}
}
