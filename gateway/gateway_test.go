package gateway

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The backend replies with the request, so that a response shows what became of it.
func TestRequestsBecomeMessages(t *testing.T) {
	s := start(t, lean())
	blob := base64.URLEncoding.EncodeToString([]byte("\xfb\xff"))
	for _, c := range []struct {
		name, do, body, want string
		headers              []string
	}{
		{name: "by its name", do: "POST /shop.Shop/Plain", body: `{"name":"x"}`, want: `{"name":"x"}`},
		{name: "without a body", do: "POST /shop.Shop/Plain", want: `{}`},
		{name: "nested pattern", do: "GET /v1/shelves/1/items/2", want: `{"name":"shelves/1/items/2"}`},
		{name: "path and query", do: "GET /v1/shelves/1/items/2?big=7&name=other", want: `{"name":"shelves/1/items/2","big":"7"}`},
		{
			name: "enum and nested field in the path", do: "GET /v1/by-color/BLUE/-5",
			want: `{"color":"BLUE","parent":{"parent":{"big":"-5"}}}`,
		},
		{name: "enum by number", do: "GET /v1/by-color/1/0", want: `{"color":"RED","parent":{"parent":{}}}`},
		{name: "custom verb and a list in the path", do: "GET /v1/tags/a,b:list", want: `{"tags":["a","b"]}`},
		{name: "deep wildcard", do: "GET /v1/deep/a/b/c", want: `{"name":"a/b/c"}`},
		{name: "escaped", do: "GET /v1/deep/a%20b", want: `{"name":"a b"}`},
		{name: "any method", do: "DELETE /v1/any", body: `{"ok":true}`, want: `{"ok":true}`},
		{name: "body is a field", do: "POST /v1/shelves/1/items?ok=true&parent.big=9", body: `{"name":"in"}`, want: `{"name":"shelves/1","parent":{"name":"in"},"ok":true}`},
		{name: "body is a list", do: "PUT /v1/tags", body: `["a","b"]`, want: `{"tags":["a","b"]}`},
		{name: "body is a number", do: "PUT /v1/big", body: `"12"`, want: `{"big":"12"}`},
		{name: "64 bits as a number", do: "POST /v1/echo:all", body: `{"big":9007199254740993}`, want: `{"big":"9007199254740993"}`},
		{name: "the body is everything, and the query does not count", do: "POST /v1/echo:all?ok=true", body: `{"big":"1"}`, want: `{"big":"1"}`},
		{
			name: "well-known types", do: "POST /v1/echo:all",
			body: `{"at":"2020-01-02T03:04:05Z","took":"1.5s","note":"n","extra":{"a":[1,null]},"updateMask":"a,bC","nothing":{}}`,
			want: `{"at":"2020-01-02T03:04:05Z","took":"1.500s","note":"n","extra":{"a":[1,null]},"updateMask":"a,bC","nothing":{}}`,
		},
		{
			name: "Any of the schema, and of the program", do: "POST /v1/echo:all",
			body: `{"any":{"@type":"type.googleapis.com/shop.Item","any":{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}}}`,
			want: `{"any":{"@type":"type.googleapis.com/shop.Item","any":{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}}}`,
		},
		{name: "unknown fields", do: "POST /v1/echo:all", body: `{"nope":1,"ok":true}`, want: `{"ok":true}`},
		{
			name: "query of all kinds",
			do: "GET /v1/search?big=5&tags=a&tags=b&counts[x]=3&color=RED&colors=1&colors=BLUE&palette[k]=BLUE&blob=" + blob +
				"&at=2020-01-02T03:04:05Z&took=1s&note=n&parent.parent.name=p&ratio=0.5&ok=true&updateMask=a,b&small=4&nope=1",
			want: `{"big":"5","tags":["a","b"],"counts":{"x":3},"color":"RED","colors":["RED","BLUE"],"palette":{"k":"BLUE"},"blob":"+/8=",` +
				`"at":"2020-01-02T03:04:05Z","took":"1s","note":"n","parent":{"parent":{"name":"p"}},"ratio":0.5,"ok":true,"updateMask":"a,b","small":4}`,
		},
		{name: "mask in the query as in JSON", do: "GET /v1/search?update_mask=updateMask,parent.update_mask", want: `{"updateMask":"updateMask,parent.updateMask"}`},
		{name: "oneof in the query", do: "GET /v1/search?right=BLUE", want: `{"right":"BLUE"}`},
		{
			name: "a PATCH changes what its body has", do: "PATCH /v1/items/n", body: `{"big":"1","parent":{"ok":true},"tags":["x"]}`,
			want: `{"parent":{"name":"n","big":"1","tags":["x"],"parent":{"ok":true}},"updateMask":"big,parent.ok,tags"}`,
		},
		{
			name: "a PATCH that says what it changes", do: "PATCH /v1/items/n?updateMask=ok", body: `{"big":"1"}`,
			want: `{"parent":{"name":"n","big":"1"},"updateMask":"ok"}`,
		},
		{name: "response_body is a list", do: "POST /v1/show/tags", body: `{"tags":["a"]}`, want: `["a"]`},
		{name: "response_body is an empty list", do: "POST /v1/show/tags", want: `[]`},
		{name: "response_body is a message", do: "POST /v1/show/parent", body: `{"parent":{"ok":true}}`, want: `{"ok":true}`},
		{name: "response_body is no message", do: "POST /v1/show/parent", want: `null`},
		{name: "response_body is a number", do: "POST /v1/show/big", body: `{"big":"8"}`, want: `"8"`},
		{name: "a body as it is", do: "POST /v1/body", body: "\x00{\xff\n", headers: []string{"Content-Type: image/png"}, want: "\x00{\xff\n"},
		{name: "a field as it is", do: "POST /v1/file/n?ok=true", body: "\x00\xff", headers: []string{"Content-Type: image/png"}, want: "\x00\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do(t, c.do, c.body, c.headers...)
			assert.Equal(t, 200, a.status, a.body)
			assert.Equal(t, c.want, a.body)
			for _, h := range c.headers {
				assert.Equal(t, h, "Content-Type: "+a.header.Get("Content-Type"))
			}
		})
	}
}

func TestRequestsThatAreNotRight(t *testing.T) {
	s := start(t, Options{MaxBody: 100})
	deep := strings.Repeat("parent.", 200) + "ok=true"
	for _, c := range []struct {
		name, do, body string
		headers        []string
		status         int
		want           string
	}{
		{name: "no JSON", do: "POST /v1/echo:all", body: `{`, status: 400, want: `"code":3,"message":"the body: `},
		{name: "more than JSON", do: "POST /v1/echo:all", body: `{} x`, status: 400, want: `the body: `},
		{name: "wrong type", do: "POST /v1/echo:all", body: `{"big":"x"}`, status: 400, want: `big`},
		{name: "wrong value of a field", do: "PUT /v1/big", body: `"1","name":"x"`, status: 400, want: `it is no JSON value`},
		{name: "too large", do: "POST /v1/echo:all", body: `{"name":"` + strings.Repeat("x", 100) + `"}`, status: 413, want: `"code":8,"message":"the body is larger than 100 bytes"`},
		{name: "wrong number in the path", do: "GET /v1/by-color/RED/x", status: 400, want: `parent.parent.big in the path: `},
		{name: "wrong enum in the path", do: "GET /v1/by-color/PINK/1", status: 400, want: `color in the path: parsing field \"color\": \"PINK\" is not a valid value`},
		{name: "wrong enum in the query", do: "GET /v1/search?color=PINK", status: 400, want: `the query: `},
		{name: "wrong enum of a map", do: "GET /v1/search?palette[x]=PINK", status: 400, want: `palette`},
		{name: "twice", do: "GET /v1/search?big=1&big=2", status: 400, want: `too many values`},
		{name: "enum twice", do: "GET /v1/search?color=RED&color=RED", status: 400, want: `too many values`},
		{name: "both of a oneof", do: "GET /v1/search?left=x&right=RED", status: 400, want: `choice`},
		{name: "very deep", do: "GET /v1/search?" + deep, status: 400, want: `more than 100 messages`},
		{name: "no UTF-8 in the query", do: "GET /v1/search?name=%ff", status: 400, want: `it is not UTF-8`},
		{name: "no UTF-8 in the path", do: "GET /v1/deep/%ff", status: 400, want: `it is not UTF-8`},
		{name: "no query", do: "GET /v1/search?%zz", status: 400, want: `the query: `},
		{name: "no timeout", do: "GET /v1/search", headers: []string{"Grpc-Timeout: soon"}, status: 400, want: `grpc-timeout`},
		{name: "no base64", do: "GET /v1/search", headers: []string{"Grpc-Metadata-X-Bin: !"}, status: 400, want: `"code":3`},
		{name: "no such path", do: "GET /nope", status: 404, want: `"code":5`},
		{name: "no such method of the path", do: "DELETE /v1/search", status: 501, want: `"code":12`},
		{name: "GET of a method's name", do: "GET /shop.Shop/Plain", status: 501, want: `"code":12`},
		{name: "override", do: "POST /v1/search", headers: []string{"X-HTTP-Method-Override: GET", "Content-Type: application/x-www-form-urlencoded"}, status: 501, want: `"code":12`},
		{name: "deadline", do: "GET /v1/watch", headers: []string{"Grpc-Timeout: 1m", "Grpc-Metadata-Hold: x"}, status: 504, want: `"code":4`},
		{name: "unknown detail", do: "GET /v1/search", headers: []string{"Grpc-Metadata-Fail: 5", "Grpc-Metadata-Unknown-Detail: x"}, status: 404, want: `{"code":5,"message":"failed as asked","details":[]}`},
		{name: "known detail", do: "GET /v1/search", headers: []string{"Grpc-Metadata-Fail: 5", "Grpc-Metadata-Detail: x"}, status: 404, want: `{"code":5,"message":"failed as asked","details":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do(t, c.do, c.body, c.headers...)
			assert.Equal(t, c.status, a.status, a.body)
			assert.Contains(t, a.body, c.want)
			assert.Equal(t, "application/json", a.header.Get("Content-Type"))
		})
	}
}

// That a reply has no form in JSON is no fault of the request.
func TestRepliesThatCannotBeJSON(t *testing.T) {
	o := lean()
	s := start(t, o)
	o.Envelope = &Envelope{}
	for text, s := range map[string]*started{`{"code":13,"message":`: s, `{"errno":13,"msg":`: start(t, o)} {
		a := s.do(t, "GET /v1/search?update_mask=a__b", "")
		assert.Equal(t, 500, a.status)
		assert.Contains(t, a.body, text+`"what the backend has sent cannot be written in JSON: `)
	}
}

// The statuses of grpc-gateway.
func TestStatusesOfCodes(t *testing.T) {
	s := start(t, lean())
	for code, want := range map[string]int{
		"1": 499, "2": 500, "3": 400, "4": 504, "5": 404, "6": 409, "7": 403, "8": 429, "9": 400, "10": 409, "11": 400,
		"12": 501, "13": 500, "14": 503, "15": 500, "16": 401, "77": 500,
	} {
		a := s.do(t, "POST /shop.Shop/Plain", "", "Grpc-Metadata-Fail: "+code)
		assert.Equal(t, want, a.status, code)
		assert.Equal(t, `{"code":`+code+`,"message":"failed as asked"}`, a.body)
		assert.Equal(t, code == "16", a.header.Get("WWW-Authenticate") != "")
	}
}

func TestUnescapingOfPaths(t *testing.T) {
	for mode, want := range []string{`a/b c`, `a%2Fb c`, `a%2Fb c`, `a/b c`} {
		o := lean()
		o.UnescapingMode = runtime.UnescapingMode(mode)
		a := start(t, o).do(t, "GET /v1/deep/a%2Fb%20c", "")
		assert.Equal(t, `{"name":"`+want+`"}`, a.body, mode)
	}
}

func TestOpenAPIDocument(t *testing.T) {
	o := lean()
	o.OpenAPIPath, o.OpenAPI.Title = "/openapi.json", "The shop"
	a := start(t, o).do(t, "GET /openapi.json", "")
	require.Equal(t, 200, a.status)
	assert.Contains(t, a.body, `"The shop"`)
	assert.Contains(t, a.body, `/v1/search`)
}
