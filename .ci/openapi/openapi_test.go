package openapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/gateway/openapi"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/idl"
)

// gateways are settings of the gateway that documents show.
var gateways = map[string]openapi.Info{
	"defaults":    {},
	"envelope":    {Envelope: &openapi.Envelope{Msg: "message"}},
	"proto names": {Marshal: protojson.MarshalOptions{UseProtoNames: true}},
	"numbers":     {Marshal: protojson.MarshalOptions{UseEnumNumbers: true}},
	"unpopulated": {Marshal: protojson.MarshalOptions{EmitUnpopulated: true}},
	"annotated": {
		NoDefaultPOST: true, Title: "T", Version: "2", Description: "D", Servers: []string{"http://localhost:8080", "/api"},
	},
}

var sources = []string{"echo.proto", "bookstore.proto", "types.proto"}

// compile returns the schema of a file of ours.
func compile(t testing.TB, name string) *schema.Schema {
	t.Helper()
	path, folders := filepath.Join("testdata", name), []string{"testdata"}
	if name == "echo.proto" {
		folders = []string{t.TempDir()}
		path = filepath.Join(folders[0], name)
		require.NoError(t, os.WriteFile(path, idl.Echo, 0o600))
	}
	s, err := schema.Compile(t.Context(), []string{path}, folders)
	require.NoError(t, err)
	return s
}

// document returns the document of a schema, which is valid.
func document(t testing.TB, info openapi.Info, services ...protoreflect.ServiceDescriptor) *openapi3.T {
	t.Helper()
	b, _, err := openapi.Document(info, services)
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(b)
	require.NoError(t, err, "%s", b)
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableSchemaPatternValidation()), "%s", b)
	return doc
}

func TestDocumentsAreValid(t *testing.T) {
	for name, info := range gateways {
		t.Run(name, func(t *testing.T) {
			var all []protoreflect.ServiceDescriptor
			for _, source := range sources {
				services := slices.Collect(compile(t, source).Services())
				document(t, info, services...)
				all = append(all, services...)
			}
			document(t, info, all...)
			document(t, info)
		})
	}
}

// api is a document that requests and responses are held against.
type api struct{ router routers.Router }

func newAPI(t testing.TB, doc *openapi3.T) *api {
	t.Helper()
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return &api{router}
}

// request returns what the validator makes of a request; body may be "".
func (a *api) request(t testing.TB, verb, url, body string) (*openapi3filter.RequestValidationInput, error) {
	t.Helper()
	r := httptest.NewRequest(verb, url, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Type", "application/json")
	route, parameters, err := a.router.FindRoute(r)
	if err != nil {
		return nil, err
	}
	input := &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: parameters}
	return input, openapi3filter.ValidateRequest(t.Context(), input)
}

// response returns what the validator makes of a response to a request.
func (a *api) response(t testing.TB, to *openapi3filter.RequestValidationInput, status int, body string) error {
	t.Helper()
	return openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: to, Status: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)),
	})
}

func TestRequests(t *testing.T) {
	doc := document(t, openapi.Info{}, slices.Collect(compile(t, "bookstore.proto").Services())...)
	a := newAPI(t, doc)
	const book = `{"title":"A","text":"B","written":"2024-01-02T03:04:05.6Z","pages":7}`
	for _, c := range []struct{ verb, url, body, bad string }{
		{"GET", "/v1/shelves", "", ""},
		{"GET", "/v1/shelves?pageSize=3&filter.theme=HISTORY&themes=OLD&themes=HISTORY", "", ""},
		{"GET", "/v1/shelves?labels[a]=1&labels[b]=2&since=2024-01-02T03:04:05Z&fields=a,b&token=AAE=&all=true&skip=7", "", ""},
		{"GET", "/v1/shelves?filter.minBooks=9007199254740993", "", ""},
		{"GET", "/v1/shelves?pageSize=many", "", "pageSize"},
		{"GET", "/v1/shelves?all=perhaps", "", "all"},
		{"GET", "/v1/shelves?skip=-1", "", "skip"},
		{"GET", "/v1/shelves?filter.theme=NONE", "", "filter.theme"},
		{"GET", "/v1/themes/HISTORY/shelves", "", ""},
		{"GET", "/v1/themes/PHYSICS/shelves", "", "theme"},
		{"GET", "/v1/shelves/1", "", ""},
		{"GET", "/v1/books/1", "", "no matching operation"},
		{"DELETE", "/v1/shelves/1", "", ""},
		{"GET", "/v1/shelves/1/books/2", "", ""},
		{"GET", "/v1/shelves/1:watch", "", ""},
		{"POST", "/v1/shelves?requestId=1", `{"theme":"HISTORY"}`, ""},
		{"POST", "/v1/shelves", `{"theme":"HISTORIC"}`, "theme"},
		{"POST", "/v1/shelves", `{"books":7}`, "books"},
		{"POST", "/v1/shelves/1/books/2:borrow", `{"reader":"Ann"}`, ""},
		{"POST", "/v1/shelves/1/books/2:borrow", `{"reader":7}`, "reader"},
		{"PUT", "/v1/shelves/1/books/2", `{"book":` + book + `,"updateMask":"title"}`, ""},
		{"PUT", "/v1/shelves/1/books/2", `{"book":{"text":"no title"}}`, "title"},
		{"PATCH", "/v1/shelves/1/books/2?updateMask=title", book, ""},
		{"PATCH", "/v1/shelves/1/books/2", `{"pages":7}`, ""},
		{"PATCH", "/v1/shelves/1/books/2", `{"title":"A","pages":"many"}`, "pages"},
		{"POST", "/bookstore.v1.Bookstore/GetShelf", `{"name":"shelves/1"}`, ""},
		{"POST", "/bookstore.v1.Bookstore/CreateShelf", `{}`, "shelf"},
	} {
		_, err := a.request(t, c.verb, c.url, c.body)
		if c.bad == "" {
			assert.NoError(t, err, "%s %s %s", c.verb, c.url, c.body)
			continue
		}
		assert.ErrorContains(t, err, c.bad, "%s %s %s", c.verb, c.url, c.body)
	}
}

// everything is a types.v1.All with a value in each field.
const everything = `{
	"bool": true, "int32": -1, "sint32": -2, "sfixed32": -3, "uint32": 4294967295, "fixed32": 5, "int64": "-6",
	"sint64": "-7", "sfixed64": "-8", "uint64": "18446744073709551615", "fixed64": "10", "float": 1.5, "double": 1e300,
	"string": "s", "bytes": "AAE=", "color": "GREEN", "numbers": ["1"], "colors": ["RED", "GREEN"],
	"byNumber": {"-1": "a"}, "byBool": {"true": "AA=="}, "byName": {"a": "GREEN"},
	"timestamp": "2024-01-02T03:04:05.000000006Z", "duration": "-1.500s", "fieldMask": "a,b.c",
	"struct": {"a": [1, null]}, "value": null, "listValue": [1, "a", null, {}],
	"any": {"@type": "type.googleapis.com/types.v1.Other", "node": {"name": "a"}}, "empty": {}, "nullValue": null,
	"doubleValue": 1, "floatValue": 2, "int64Value": "3", "uint64Value": "4", "int32Value": 5, "uint32Value": 6,
	"boolValue": false, "stringValue": "", "bytesValue": "",
	"values": [1, null, {"a": 1}], "timestamps": ["2024-01-02T03:04:05Z"], "maybe": "",
	"node": {"left": {"left": {"name": "x"}}, "children": [{"named": {"a": {"other": {"node": {}}}}}]},
	"nothing": null}`

// TestMessagesAsProtojsonWritesThem holds what protojson writes, by all settings, of a
// message with everything in it against the document, as a request and as a response.
func TestMessagesAsProtojsonWritesThem(t *testing.T) {
	s := compile(t, "types.proto")
	d := s.Method("/types.v1.Types/Echo").Input()
	full := dynamicpb.NewMessage(d)
	require.NoError(t, protojson.UnmarshalOptions{Resolver: s.Types()}.Unmarshal([]byte(everything), full))
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		require.True(t, full.Has(f) || f.Name() == "something" || f.Name() == "null_value", "%s is not set", f.FullName())
	}
	for name, info := range gateways {
		if info.NoDefaultPOST {
			continue
		}
		info.Servers = nil
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, document(t, info, slices.Collect(s.Services())...))
			info.Marshal.Resolver = s.Types()
			for _, m := range []*dynamicpb.Message{full, dynamicpb.NewMessage(d)} {
				b, err := info.Marshal.Marshal(m)
				require.NoError(t, err)
				input, err := a.request(t, "POST", "/types.v1.Types/Echo", string(b))
				require.NoError(t, err, "%s", b)
				require.NoError(t, a.response(t, input, 200, around(info, string(b))), "%s", b)
			}
		})
	}
}

// around returns JSON as the gateway writes it.
func around(info openapi.Info, data string) string {
	if info.Envelope == nil {
		return data
	}
	return `{"errno":0,"message":"","data":` + data + `}`
}

// TestNoFieldTakesEverything: a document in which all schemas are {} would be valid, too.
func TestNoFieldTakesEverything(t *testing.T) {
	s := compile(t, "types.proto")
	a := newAPI(t, document(t, openapi.Info{}, slices.Collect(s.Services())...))
	d := s.Method("/types.v1.Types/Echo").Input()
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		wrong := `{"` + f.JSONName() + `":[{"a":[]}]}`
		if f.Name() == "value" || f.Name() == "values" || f.Name() == "list_value" {
			wrong = strings.NewReplacer("[{", "[{", "value\"", "values\"").Replace(`{"values":{}}`)
		}
		_, err := a.request(t, "POST", "/types.v1.Types/Echo", wrong)
		assert.Error(t, err, wrong)
	}
}

func TestResponses(t *testing.T) {
	services := slices.Collect(compile(t, "bookstore.proto").Services())
	plain := newAPI(t, document(t, openapi.Info{}, services...))
	wrapped := newAPI(t, document(t, openapi.Info{Envelope: new(openapi.Envelope)}, services...))
	for _, c := range []struct {
		api    *api
		url    string
		status int
		body   string
		bad    string
	}{
		{plain, "/v1/shelves/1", 200, `{"name":"shelves/1","theme":"HISTORY","books":"7"}`, ""},
		{plain, "/v1/shelves/1", 200, `{"name":"shelves/1","books":7}`, "books"},
		{plain, "/v1/shelves/1", 404, `{"code":5,"message":"no","details":[{"@type":"x/y","a":1}]}`, ""},
		{plain, "/v1/shelves/1", 404, `{"code":"NOT_FOUND"}`, "code"},
		{plain, "/v1/themes/OLD/shelves", 200, `[{"name":"shelves/1"}]`, ""},
		{plain, "/v1/themes/OLD/shelves", 200, `{"shelves":[]}`, "array"},
		{wrapped, "/v1/shelves/1", 200, `{"errno":0,"msg":"","data":{"name":"shelves/1"}}`, ""},
		{wrapped, "/v1/shelves/1", 200, `{"errno":0,"msg":"","data":{"name":1}}`, "name"},
		{wrapped, "/v1/shelves/1", 200, `{"name":"shelves/1"}`, "errno"},
		{wrapped, "/v1/shelves/1", 404, `{"errno":5,"msg":"no","data":null}`, ""},
	} {
		input, err := c.api.request(t, "GET", c.url, "")
		require.NoError(t, err)
		err = c.api.response(t, input, c.status, c.body)
		if c.bad == "" {
			assert.NoError(t, err, "%s: %s", c.url, c.body)
			continue
		}
		assert.ErrorContains(t, err, c.bad, "%s: %s", c.url, c.body)
	}
}

// TestStreamsLineByLine holds the lines of a stream against the schema of a line.
func TestStreamsLineByLine(t *testing.T) {
	doc := document(t, openapi.Info{}, slices.Collect(compile(t, "bookstore.proto").Services())...)
	content := doc.Paths.Find("/v1/shelves/{name}:watch").Get.Responses.Value("200").Value.Content
	line := content["application/x-ndjson"].Schema.Value
	for text, good := range map[string]bool{
		`{"result":{"name":"a","title":"b"}}`: true,
		`{"error":{"code":5,"message":"no"}}`: true,
		`{"result":{"name":1}}`:               false,
		`{"error":{"code":"5"}}`:              false,
	} {
		var value any
		require.NoError(t, json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&value))
		assert.Equal(t, good, line.VisitJSON(value) == nil, text)
	}
	assert.Contains(t, content, "text/event-stream")
}
