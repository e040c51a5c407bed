package rule

import (
	"context"
	"encoding/base64"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// rejects is a rule that tells whether a condition is met.
func rejects(on filter.Point, condition string) *Rule {
	return &Rule{Name: "test", On: on, If: condition, Reject: &Reject{Code: "ABORTED", Message: `"met"`}}
}

func TestVariablesAtStart(t *testing.T) {
	sent := metadata("user", "ann", "user", "bob", "blob-bin", base64.StdEncoding.EncodeToString([]byte("\x00hi")), "empty", "")
	for _, condition := range []string{
		`method == "/demo.v1.Demo/Unary" && service == "demo.v1.Demo" && authority == "demo.example"`,
		`peer == "10.1.2.3:4567" && peer_ip == "10.1.2.3" && cluster == "first" && route == "the route" && number == 0`,
		`metadata["user"] == "ann" && metadata.user == "ann" && metadata["User"] == "ann"`,
		`metadata_all["user"] == ["ann", "bob"] && metadata_all.user[1] == "bob" && metadata_all == {"user": ["ann", "bob"], "blob-bin": ["\u0000hi"], "empty": [""]}`,
		`metadata["blob-bin"] == "\u0000hi" && metadata["empty"] == "" && "empty" in metadata && !("x" in metadata) && !has(metadata.x)`,
		`metadata.size() == 3 && metadata.map(k, k) == ["blob-bin", "empty", "user"] && metadata.all(k, k in metadata_all)`,
		`metadata[?"x"].orValue("none") == "none" && metadata == {"user": "ann", "blob-bin": "\u0000hi", "empty": ""} && metadata != {"user": "ann"}`,
		`!(1 in dyn(metadata)) && type(metadata) == map`,
	} {
		assert.Equal(t, met, begin(t, method("Unary"), sent, rejects(filter.AtStart, condition)).start(), condition)
	}
	assert.Equal(t, "goes on", begin(t, method("Unary"), nil, rejects(filter.AtStart, `"user" in metadata`)).start())
}

func TestPeers(t *testing.T) {
	for _, test := range []struct {
		peer     net.Addr
		addr, ip string
	}{
		{nil, "", ""},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3"), Port: 5}, "10.1.2.3:5", "10.1.2.3"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 5, Zone: "eth0"}, "[fe80::1%eth0]:5", "fe80::1%eth0"},
		{&net.UDPAddr{IP: net.ParseIP("::1"), Port: 5}, "[::1]:5", "::1"},
		{&net.UnixAddr{Name: "/tmp/x", Net: "unix"}, "/tmp/x", ""},
	} {
		assert.Equal(t, test.addr, address(test.peer))
		assert.Equal(t, test.ip, host(test.peer))
	}
}

// TestIncoming keeps what a client has sent apart from what goes to the backend.
func TestIncoming(t *testing.T) {
	c := begin(t, method("Unary"), metadata("user", "ann"),
		&Rule{Name: "changes", On: filter.AtStart, Metadata: Metadata{Set: map[string]string{"user": `metadata.user + "!"`}}},
		rejects(filter.AtStart, `metadata.user == "ann!"`))
	assert.Equal(t, "goes on", c.start())
	request, _ := c.Request()
	assert.Equal(t, metadata("user", "ann!"), request.Metadata)
}

func TestMetadata(t *testing.T) {
	for _, test := range []struct {
		name   string
		sent   stream.Metadata
		change Metadata
		want   stream.Metadata
		fails  string
	}{
		{"set", metadata("a", "1", "a", "2", "b", "3"), Metadata{Set: map[string]string{"A": `"4"`}}, metadata("b", "3", "a", "4"), ""},
		{"add", metadata("a", "1"), Metadata{Add: map[string]string{"a": `metadata.a + "2"`, "b": `"3"`}}, metadata("a", "1", "a", "12", "b", "3"), ""},
		{"remove", metadata("a", "1", "b", "2", "a", "3"), Metadata{Remove: []string{"A"}}, metadata("b", "2"), ""},
		{
			"all of them", metadata("a", "1"),
			Metadata{Remove: []string{"a"}, Set: map[string]string{"b": `"2"`}, Add: map[string]string{"a": `"3"`, "b": `"4"`}},
			metadata("b", "2", "a", "3", "b", "4"), "",
		},
		{"bytes", nil, Metadata{Set: map[string]string{"x-bin": `b"\xff\x00"`, "y-bin": `"z"`}}, metadata("x-bin", "/wA", "y-bin", "eg"), ""},
		{"bytes by a key in capitals", nil, Metadata{Set: map[string]string{"X-BIN": `b"\xff\x00"`}}, metadata("x-bin", "/wA"), ""},
		{"no key for bytes", nil, Metadata{Set: map[string]string{"cabin": `"\u0000"`}}, nil, `rule "test": metadata.set.cabin: the value is not printable ASCII; use a key that ends in "-bin"`},
		{"not printable", nil, Metadata{Set: map[string]string{"a": `"caf\u00e9"`}}, nil, `rule "test": metadata.set.a: the value is not printable ASCII; use a key that ends in "-bin"`},
		{"too long", nil, Metadata{Add: map[string]string{"a": `["0123456789"].map(x, x+x+x+x).map(x, x+x+x+x).map(x, x+x+x+x).map(x, x+x+x+x).map(x, x+x+x+x)[0]`}}, nil, `rule "test": metadata.add.a: the value is longer than 4096 bytes`},
		{"fails", metadata("a", "1"), Metadata{Set: map[string]string{"a": `"2"`, "b": "metadata.c"}}, nil, `rule "test": metadata.set.b: column 9: no such key`},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := "goes on"
			if test.fails != "" {
				want = "INTERNAL: " + test.fails
			}
			c := begin(t, method("Unary"), test.sent, &Rule{Name: "test", On: filter.AtStart, Metadata: test.change})
			assert.Equal(t, want, c.start())
			request, _ := c.Request()
			if test.fails != "" {
				test.want = test.sent // nothing is changed in part
			}
			assert.Equal(t, test.want, append(stream.Metadata(nil), request.Metadata...))

			// The same change of the response's header, and of its trailer.
			c = begin(t, method("Unary"), test.sent, &Rule{Name: "test", On: filter.AtHeader, Metadata: test.change}, &Rule{Name: "test", On: filter.AtEnd, Metadata: test.change})
			header, err := c.Header(context.Background(), &stream.Header{Metadata: test.sent})
			if test.fails != "" {
				assert.Equal(t, want, c.ended(err))
			} else {
				assert.Equal(t, test.want, append(stream.Metadata(nil), header.Metadata...))
			}
			trailer := c.End(context.Background(), &stream.Trailer{Metadata: test.sent})
			assert.Equal(t, test.want, append(stream.Metadata(nil), trailer.Metadata...))
			if test.fails != "" {
				assert.Equal(t, stream.Status{Code: stream.Internal, Message: test.fails}, trailer.Status)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	c := begin(t, method("Unary"), metadata("user", "ann"), rejects(filter.AtHeader, `header["server"] == "x" && metadata.user == "ann" && header.size() == 1`))
	_, err := c.Header(context.Background(), &stream.Header{Metadata: metadata("server", "x")})
	assert.Equal(t, met, c.ended(err))

	c = begin(t, method("Unary"), nil,
		&Rule{Name: "changes", On: filter.AtHeader, Metadata: Metadata{Remove: []string{"server"}}},
		rejects(filter.AtResponse, `!("server" in header) && header.other == "y" && message.a_string == "x" && number == 1`))
	header, err := c.Header(context.Background(), &stream.Header{Metadata: metadata("server", "x", "other", "y")})
	require.NoError(t, err)
	assert.Equal(t, metadata("other", "y"), header.Metadata)
	assert.Equal(t, met, c.pass(filter.Response, allMessage(t, `a_string:"x"`)))
}

func TestEnd(t *testing.T) {
	status := stream.Status{Code: stream.Unavailable, Message: "gone", Details: []byte("details")}
	ends := func(rules ...*Rule) *stream.Trailer {
		t.Helper()
		c := begin(t, method("Unary"), nil, rules...)
		_, err := c.Header(context.Background(), &stream.Header{Metadata: metadata("server", "x")})
		require.NoError(t, err)
		return c.End(context.Background(), &stream.Trailer{Status: status, Metadata: metadata("t", "1")})
	}
	assert.Equal(t, stream.Status{Code: 10, Message: "met"}, ends(rejects(filter.AtEnd,
		`code == 14 && code_name == "UNAVAILABLE" && status_message == "gone" && trailer.t == "1" && header.server == "x"`)).Status)
	assert.Equal(t, status, ends(rejects(filter.AtEnd, `code == 0`)).Status)
	assert.Equal(t, stream.Status{Code: 5, Message: `rejected by rule "second"`}, ends(
		rejects(filter.AtEnd, ""), &Rule{Name: "second", On: filter.AtEnd, If: `code_name == "ABORTED"`, Reject: &Reject{Code: "NOT_FOUND"}},
	).Status)
	trailer := ends(&Rule{Name: "test", On: filter.AtEnd, Metadata: Metadata{Set: map[string]string{"code": "code_name"}}})
	assert.Equal(t, metadata("t", "1", "code", "UNAVAILABLE"), trailer.Metadata)
	assert.Equal(t, status, trailer.Status)
	trailer = ends(&Rule{Name: "test", On: filter.AtEnd, Metadata: Metadata{Set: map[string]string{"was": "code_name"}}, Reject: &Reject{Code: "ABORTED"}})
	assert.Equal(t, metadata("t", "1", "was", "UNAVAILABLE"), trailer.Metadata)
	assert.EqualValues(t, 10, trailer.Status.Code)
	assert.Equal(t, stream.Status{Code: stream.Internal, Message: `rule "test": if: column 8: no such key`}, ends(rejects(filter.AtEnd, `trailer.u == ""`)).Status)
}

func TestCluster(t *testing.T) {
	choose := &Rule{Name: "test", On: filter.AtStart, If: `"eu" in metadata`, Cluster: `"eu-" + cluster`}
	for _, test := range []struct {
		sent stream.Metadata
		want string
	}{{nil, "first"}, {metadata("eu", ""), "eu-first"}} {
		c := begin(t, method("Bidi"), test.sent, choose)
		assert.Equal(t, "goes on", c.start())
		_, cluster := c.Request()
		assert.Equal(t, test.want, cluster)
	}
}

// TestFirstRequest has the first message of a stream, and no other, choose the
// cluster and change the header.
func TestFirstRequest(t *testing.T) {
	r := &Rule{
		Name: "test", On: filter.AtRequest, Cluster: `message.a_string`,
		Metadata: Metadata{Add: map[string]string{"by": `message.a_string`}}, Clear: []string{"left"},
	}
	assert.True(t, r.AwaitsFirst())
	c := begin(t, method("Bidi"), nil, r)
	assert.Equal(t, text(allMessage(t, `a_string:"one"`)), c.pass(filter.Request, allMessage(t, `a_string:"one" left:"x"`)))
	// The second has come before the backend is asked. Its value would not even do.
	assert.Equal(t, text(allMessage(t, `a_string:"\n"`)), c.pass(filter.Request, allMessage(t, `a_string:"\n" left:"x"`)))
	request, cluster := c.Request()
	assert.Equal(t, "one", cluster)
	assert.Equal(t, metadata("by", "one"), request.Metadata)
	assert.Equal(t, "as it came", c.pass(filter.Request, allMessage(t, `a_string:"three"`)))
}

// TestFirstRequestFails has values that are known to be none only then.
func TestFirstRequestFails(t *testing.T) {
	for _, test := range []struct {
		rule Rule
		want string
	}{
		{Rule{Cluster: `metadata.x`}, `cluster: column 9: no such key`},
		{Rule{Cluster: `message.value`}, `cluster: the value is of type double, not string`},
		{Rule{Metadata: Metadata{Set: map[string]string{"a": `message.value`}}}, `metadata.set.a: the value is of type double, not string`},
		{Rule{Metadata: Metadata{Set: map[string]string{"a": `message.struct.b`}}}, `metadata.set.a: column 15: no such key`},
		{Rule{Metadata: Metadata{Add: map[string]string{"a": `message.any`}}}, `metadata.add.a: the value is of type bytes, not string`},
	} {
		test.rule.Name, test.rule.On = "test", filter.AtRequest
		got := begin(t, method("Unary"), nil, &test.rule).pass(filter.Request, allMessage(t, `value:{number_value:1} any:{type_url:"x/google.protobuf.BytesValue"}`))
		assert.Equal(t, `INTERNAL: rule "test": `+test.want, got)
	}
}

// TestTooLate has a backend asked before the first message, as it is if nobody has
// told the chain to AwaitFirst.
func TestTooLate(t *testing.T) {
	for _, m := range []Metadata{{Set: map[string]string{"a": `"b"`}}, {Add: map[string]string{"a": `"b"`}}, {Remove: []string{"c"}}} {
		c := begin(t, method("Bidi"), nil, &Rule{Name: "test", On: filter.AtRequest, Metadata: m})
		c.Request()
		assert.Equal(t, "as it came", c.pass(filter.Request, allMessage(t, `a_string:"x"`)))
	}
	c := begin(t, method("Bidi"), nil, &Rule{Name: "test", On: filter.AtRequest, Cluster: `"b"`})
	c.Request()
	assert.Equal(t, `INTERNAL: rule "test": cluster: the backend has been asked already`, c.pass(filter.Request, allMessage(t, `a_string:"x"`)))
}

func TestAwaitsFirst(t *testing.T) {
	for _, test := range []struct {
		rule Rule
		want bool
	}{
		{Rule{On: filter.AtRequest, Cluster: `"x"`}, true},
		{Rule{On: filter.AtRequest, Metadata: Metadata{Remove: []string{"x"}}}, true},
		{Rule{On: filter.AtRequest, Drop: true}, false},
		{Rule{On: filter.AtStart, Cluster: `"x"`}, false},
		{Rule{On: filter.AtEnd, Metadata: Metadata{Remove: []string{"x"}}}, false},
	} {
		assert.Equal(t, test.want, test.rule.AwaitsFirst(), "%+v", test.rule)
	}
}

func TestDrop(t *testing.T) {
	c := begin(t, method("Bidi"), nil, &Rule{Name: "test", On: filter.AtResponse, If: `message.a_bool || number == 3`, Drop: true})
	assert.Equal(t, "as it came", c.pass(filter.Response, allMessage(t, ``)))
	assert.Equal(t, "dropped", c.pass(filter.Response, allMessage(t, `a_bool:true`)))
	assert.Equal(t, "dropped", c.pass(filter.Response, allMessage(t, ``)))
	assert.Equal(t, "as it came", c.pass(filter.Response, allMessage(t, ``)))
}

func TestReject(t *testing.T) {
	m := allMessage(t, `a_string:"x"`)
	reject := func(r Reject) string {
		return begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, Reject: &r}).pass(filter.Request, m)
	}
	assert.Equal(t, `PERMISSION_DENIED: rejected by rule "test"`, reject(Reject{Code: "PERMISSION_DENIED"}))
	assert.Equal(t, `CANCELLED: not x 100%d`, reject(Reject{Code: "CANCELLED", Message: `"not " + message.a_string + " 100%d"`}))
	assert.Equal(t, `INTERNAL: rule "test": reject.message: column 9: no such key`, reject(Reject{Code: "ABORTED", Message: `metadata.x`}))
	long := reject(Reject{Code: "ABORTED", Message: `["\u00e9\u00e9\u00e9\u00e9\u00e9"].map(x, x+x+x+x+x).map(x, x+x+x+x+x).map(x, x+x+x+x+x).map(x, x+x+x+x+x).map(x, "a"+x+x)[0]`})
	assert.Len(t, long, len("ABORTED: ")+MaxValue-1, "half an é does not count")
}

// TestOrder runs several rules, each on what those before have made.
func TestOrder(t *testing.T) {
	c := begin(t, method("Unary"), nil,
		&Rule{Name: "one", On: filter.AtRequest, Set: map[string]string{"a_string": `"x"`}},
		&Rule{Name: "two", On: filter.AtRequest, If: `message.a_string == "x"`, Set: map[string]string{"renamed": `message.a_string`}, Redact: []string{"a_string"}},
		&Rule{Name: "three", On: filter.AtRequest, If: `message.a_string == "x"`, Reject: &Reject{Code: "ABORTED"}},
	)
	assert.Equal(t, text(allMessage(t, `a_string:"***" renamed:"x"`)), c.pass(filter.Request, allMessage(t, ``)))

	// set, clear and redact of one rule, in this order.
	c = begin(t, method("Unary"), nil, &Rule{
		Name: "test", On: filter.AtRequest, Set: map[string]string{"payload": "message.both"}, Clear: []string{"both"}, Redact: []string{"payload.name"},
	})
	assert.Equal(t, text(allMessage(t, `payload:{name:"***"}`)), c.pass(filter.Request, allMessage(t, `both:{name:"x"}`)))
}

// TestNothingHalfDone leaves a message alone whose rule fails.
func TestNothingHalfDone(t *testing.T) {
	f, err := Compile(&Rule{Name: "test", On: filter.AtRequest, Set: map[string]string{"a_string": `"x"`, "renamed": `metadata.x`}, Clear: []string{"left"}}, method("Unary"), nil)
	require.NoError(t, err)
	m := allMessage(t, `left:"y"`)
	var seen string
	c := beginWith(t, method("Unary"), nil, filter.New("/demo.v1.Demo/Unary", filter.AtRequest, "keeps", func(_ context.Context, _ *filter.Call, v any) filter.Verdict {
		m = v.(*dynamicpb.Message)
		return filter.Forward
	}), f)
	assert.Contains(t, c.pass(filter.Request, m), "INTERNAL")
	seen = text(m)
	assert.Equal(t, text(allMessage(t, `left:"y"`)), seen)
}

// TestUnknownFields keeps what the schema does not know.
func TestUnknownFields(t *testing.T) {
	c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, Set: map[string]string{"a_string": `"x"`}})
	m := allMessage(t, ``)
	m.SetUnknown([]byte("\xc2\x3e\x01z"))
	assert.Contains(t, c.pass(filter.Request, m), "1000:")
}

func TestMessagesOfPackageGoogle(t *testing.T) {
	md := method("Wrapped")
	m := dynamicpb.NewMessage(md.Input())
	m.Set(number(m, 1), allMessage(t, `a_string:"x"`).Get(method("Unary").Input().Fields().ByName("a_string")))
	c := begin(t, md, nil, rejects(filter.AtRequest, `message == "x"`))
	assert.Equal(t, met, c.pass(filter.Request, m))
	c = begin(t, md, nil, &Rule{Name: "test", On: filter.AtRequest, Set: map[string]string{"value": `message + "y"`}})
	assert.Equal(t, `value:"xy"`, c.pass(filter.Request, m))
	c = begin(t, md, nil, rejects(filter.AtResponse, `message == google.protobuf.Empty{}`))
	assert.Equal(t, met, c.pass(filter.Response, dynamicpb.NewMessage(md.Output())))
}

// TestConcurrently runs one filter for many calls.
func TestConcurrently(t *testing.T) {
	f, err := Compile(&Rule{
		Name: "test", On: filter.AtRequest, If: `metadata.user != "" && message.payloads.all(p, p.count > 0)`,
		Set:      map[string]string{"a_string": `message.a_string + metadata.user`, "any": `Payload{name: metadata.user}`},
		Metadata: Metadata{Set: map[string]string{"who": `metadata.user`}}, Redact: []string{"payloads.name"},
	}, method("Unary"), nil)
	require.NoError(t, err)
	var calls sync.WaitGroup
	for _, user := range []string{"ann", "bob", "eve", "joe"} {
		calls.Go(func() {
			for range 100 {
				c := beginWith(t, method("Unary"), metadata("user", user), f)
				got := c.pass(filter.Request, allMessage(t, `a_string:"hi " payloads:{count:1 name:"x"}`))
				assert.Contains(t, got, `a_string:"hi `+user+`"`)
				request, _ := c.Request()
				assert.Equal(t, user, request.Metadata.Get("who"))
			}
		})
	}
	calls.Wait()
}
