package openapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
)

func TestNothing(t *testing.T) {
	w := write(t, Info{}, nil)
	assert.Equal(t, "3.0.3", w.at("openapi"))
	assert.Equal(t, "gRPC services", w.at("info", "title"))
	assert.Equal(t, "1", w.at("info", "version"))
	assert.Equal(t, map[string]any{}, w.at("paths"))
	assert.Equal(t, []string{"google.protobuf.Any", "google.rpc.Status"}, w.schemas())
}

func TestTheSameForTheSame(t *testing.T) {
	source := `
// It is <the> same & always is.
service S { rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1/{a}"}; } }
message Q { string a = 1; R r = 2; map<string, R> m = 3; E e = 4; oneof o { int32 x = 5; int32 y = 6; } }
message R { Q q = 1; string z = 2; string b = 3; }
enum E { ONE = 0; TWO = 1; }`
	first, _, err := Document(Info{}, compile(t, source))
	require.NoError(t, err)
	for range 10 {
		again, _, err := Document(Info{}, compile(t, source))
		require.NoError(t, err)
		require.Equal(t, string(first), string(again))
	}
	assert.Contains(t, string(first), "<the> same & always")
	z, b := strings.Index(string(first), `"z"`), strings.Index(string(first), `"b"`)
	assert.Less(t, z, b, "fields are in the order of the source")
}

func TestPaths(t *testing.T) {
	const source = `
service S { rpc M(Q) returns (Q) { option (google.api.http) = {%s}; } }
message Q { string name = 1; string id = 2; P p = 3; repeated string many = 4; }
message P { string name = 1; }`
	for rule, want := range map[string]string{
		`get: "/"`:                                      "GET /: name id many p.name",
		`get: "/v1/{name}"`:                             "GET /v1/{name}: name id many p.name",
		`get: "/v1/{name=*}"`:                           "GET /v1/{name}: name id many p.name",
		`get: "/v1/{name=**}"`:                          "GET /v1/{name}: name id many p.name",
		`get: "/v1/{p.name}/x"`:                         "GET /v1/{p.name}/x: p.name name id many",
		`get: "/v1/{name=shelves/*}"`:                   "GET /v1/shelves/{name}: name id many p.name",
		`get: "/v1/{name=shelves/*/books/*}"`:           "GET /v1/shelves/{name}/books/{name_2}: name name_2 id many p.name",
		`get: "/v1/{name=shelves/*}/{id=a/**}"`:         "GET /v1/shelves/{name}/a/{id}: name id many p.name",
		`get: "/v1/{name=fixed}"`:                       "GET /v1/fixed: id many p.name",
		`get: "/v1/*/{name}"`:                           "GET /v1/{wildcard}/{name}: wildcard name id many p.name",
		`post: "/v1/{name}:do" body: "*"`:               "POST /v1/{name}:do: name",
		`post: "/v1/do" body: "p"`:                      "POST /v1/do: name id many",
		`post: "/v1/{p.name}:do" body: "p"`:             "POST /v1/{p.name}:do: p.name name id many",
		`delete: "/v1/{many}"`:                          "DELETE /v1/{many}: many name id p.name",
		`custom {kind: "HEAD" path: "/v1/{name=a/b/*}"`: "HEAD /v1/a/b/{name}: name id many p.name",
	} {
		if strings.HasPrefix(rule, "custom") {
			rule += "}"
		}
		w := write(t, Info{NoDefaultPOST: true}, compile(t, fmt.Sprintf(source, rule)))
		require.Len(t, w.operations(), 1, rule)
		verb, path, _ := strings.Cut(w.operations()[0], " ")
		names := w.names(path, strings.ToLower(verb))
		assert.Equal(t, want, w.operations()[0]+": "+strings.Join(names, " "), rule)
	}
}

func TestPartsOfAVariable(t *testing.T) {
	w := write(t, Info{}, compile(t, `
service S { rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1/{name=shelves/*/files/**}"}; } }
message Q { string name = 1; }`))
	parameters := []string{"paths", "/v1/shelves/{name}/files/{name_2}", "get", "parameters"}
	first := w.at(append(parameters, "name")...)
	assert.Equal(t, map[string]any{
		"name": "name", "in": "path", "required": true, "schema": map[string]any{"type": "string", "pattern": "^[^/]+$"},
		"description": "A part of `name`, which is `shelves/*/files/**`.",
	}, first)
	second := w.at(append(parameters, "name_2")...).(map[string]any)
	assert.Equal(t, map[string]any{"type": "string"}, second["schema"])
	assert.Contains(t, second["description"], "may have slashes")
}

func TestMethodsInEachOthersWay(t *testing.T) {
	w := write(t, Info{Description: "Ours."}, compile(t, `
service First {
  rpc A(Q) returns (Q) {
    option (google.api.http) = {get: "/v1/{name}" additional_bindings {post: "/a.b.First/A" body: "*"}};
  }
  rpc B(Q) returns (Q) { option (google.api.http) = {get: "/v1/{id}" additional_bindings {delete: "/v1/{id}"}}; }
}
service Second { rpc A(Q) returns (Q) { option (google.api.http) = {custom {kind: "LINK" path: "/v1/{id}"}}; } }
message Q { string name = 1; string id = 2; }`))
	assert.Equal(t, []string{
		"DELETE /v1/{name}", "GET /v1/{name}", "POST /a.b.First/A", "POST /a.b.First/B", "POST /a.b.Second/A",
	}, w.operations())
	assert.Equal(t, "a_b_First_A", w.at("paths", "/v1/{name}", "get", "operationId"))
	assert.Equal(t, "a_b_First_A_2", w.at("paths", "/a.b.First/A", "post", "operationId"))
	assert.Equal(t, "It is the field `id`.", w.at("paths", "/v1/{name}", "delete", "parameters", "name", "description"))
	assert.Equal(t, "Ours.\n\nNot in this document:\n\n"+
		"- `GET /v1/{id}` (a.b.First.B): a.b.First.A has the same verb and path\n"+
		"- `LINK /v1/{id}` (a.b.Second.A): OpenAPI has no such verb", w.at("info", "description"))
}

func TestEveryVerb(t *testing.T) {
	w := write(t, Info{NoDefaultPOST: true}, compile(t, `
service S { rpc M(Q) returns (Q) { option (google.api.http) = {custom {kind: "*" path: "/v1"} body: "*"}; } }
message Q {}`))
	assert.Len(t, w.operations(), 7)
	assert.Nil(t, w.at("paths", "/v1", "get", "requestBody"))
	assert.NotNil(t, w.at("paths", "/v1", "put", "requestBody"))
}

func TestOperationIDsAreUnique(t *testing.T) {
	w := write(t, Info{}, compile(t, `
service S { rpc M(Q) returns (Q); rpc M_M(Q) returns (Q); }
service S_M { rpc M(Q) returns (Q); }
message Q {}`))
	var ids []string
	for _, item := range w.at("paths").(map[string]any) {
		ids = append(ids, item.(map[string]any)["post"].(map[string]any)["operationId"].(string))
	}
	slices.Sort(ids)
	assert.Equal(t, []string{"a_b_S_M", "a_b_S_M_M", "a_b_S_M_M_2"}, ids)
}

func TestWhatTheSourceSays(t *testing.T) {
	w := write(t, Info{}, compile(t, `
// The service.
service S {
  // M does
  // something.
  //
  // In a <way>.
  rpc M(Q) returns (Q) { option deprecated = true; }
}
// A question.
message Q {
  // Its name.
  string name = 1 [deprecated = true];
  Q inner = 2; // behind it
  string key = 3 [(google.api.field_behavior) = OUTPUT_ONLY];
  string must = 4 [(google.api.field_behavior) = REQUIRED];
  // Which of them?
  oneof one { string a = 5; string b_c = 6; }
  optional string alone = 7;
  E e = 8;
}
enum E {
  // None.
  NONE = 0;
  OLD = 1 [deprecated = true];
}`))
	tags := w.at("tags").([]any)
	assert.Equal(t, []any{map[string]any{"name": "a.b.S", "description": "The service."}}, tags)
	const path = "/a.b.S/M"
	assert.Equal(t, "M does something.", w.at("paths", path, "post", "summary"))
	assert.Equal(t, "In a <way>.", w.at("paths", path, "post", "description"))
	assert.Equal(t, true, w.at("paths", path, "post", "deprecated"))
	q := w.at("components", "schemas", "a.b.Q").(map[string]any)
	assert.Equal(t, "A question.\n\nAt most one of `a`, `bC` (`one`).\n\nWhich of them?", q["description"])
	assert.Equal(t, []any{"must"}, q["required"])
	fields := q["properties"].(map[string]any)
	assert.Equal(t, map[string]any{"type": "string", "description": "Its name.", "deprecated": true}, fields["name"])
	ref := map[string]any{"$ref": "#/components/schemas/a.b.Q"}
	assert.Equal(t, map[string]any{"description": "behind it", "allOf": []any{ref}}, fields["inner"])
	assert.Equal(t, map[string]any{"type": "string", "readOnly": true}, fields["key"])
	assert.Equal(t, "- `NONE`: None.\n- `OLD`: (deprecated)", w.at("components", "schemas", "a.b.E", "description"))
}

func TestStreams(t *testing.T) {
	w := write(t, Info{}, compile(t, `
service S {
  rpc Up(stream Q) returns (Q);
  rpc Down(Q) returns (stream Q) { option (google.api.http) = {post: "/down" body: "*"}; }
}
message Q {}`))
	assert.NotNil(t, w.at("paths", "/a.b.S/Up", "post", "requestBody", "content", "application/x-ndjson"))
	assert.NotNil(t, w.at("paths", "/a.b.S/Up", "post", "responses", "200", "content", "application/json"))
	down := w.at("paths", "/a.b.S/Down", "post", "responses", "200", "content").(map[string]any)
	assert.Len(t, down, 2)
	assert.Contains(t, down, "application/x-ndjson")
	assert.Contains(t, down, "text/event-stream")
	assert.Contains(t, w.at("paths", "/a.b.S/Down", "post", "description"), "WebSocket")
	assert.NotContains(t, w.at("paths", "/down", "post", "description"), "WebSocket")
}

// TestEnvelope: where an error may be in the reply's place, what is in the envelope may be
// what it has of an error.
func TestEnvelope(t *testing.T) {
	reply := map[string]any{"$ref": "#/components/schemas/a.b.Q"}
	for _, alwaysOK := range []bool{false, true} {
		w := write(t, Info{Envelope: &Envelope{Data: "payload", AlwaysOK: alwaysOK}}, compile(t, `
service S { rpc M(Q) returns (Q); rpc N(Q) returns (stream Q); }
message Q {}`))
		payload := func(s any) map[string]any {
			properties := s.(map[string]any)["properties"].(map[string]any)
			assert.Contains(t, properties, "errno")
			assert.Contains(t, properties, "msg")
			return properties["payload"].(map[string]any)
		}
		ok := payload(w.at("paths", "/a.b.S/M", "post", "responses", "200", "content", "application/json", "schema"))
		line := payload(w.at("paths", "/a.b.S/N", "post", "responses", "200", "content", "application/x-ndjson", "schema"))
		failure := payload(w.at("components", "responses", "Error", "content", "application/json", "schema"))
		assert.Equal(t, reply, line["anyOf"].([]any)[0])
		assert.Equal(t, true, line["anyOf"].([]any)[1].(map[string]any)["nullable"])
		if alwaysOK {
			assert.Equal(t, line, ok)
		} else {
			assert.Equal(t, reply, ok)
		}
		assert.Equal(t, map[string]any{"nullable": true}, failure)
	}
}

func TestAsTheGatewayWrites(t *testing.T) {
	const source = `
service S { rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1"}; } }
message Q { string long_name = 1; E e = 2; Q in_ner = 3; }
enum E { option allow_alias = true; A = 0; B = 0; C = -1; }`
	marshal := protojson.MarshalOptions{UseProtoNames: true, UseEnumNumbers: true, EmitUnpopulated: true}
	w := write(t, Info{Marshal: marshal}, compile(t, source))
	assert.Equal(t, []any{0.0, -1.0}, w.at("components", "schemas", "a.b.E", "enum"))
	assert.Equal(t, true, w.at("components", "schemas", "a.b.Q", "properties", "in_ner", "nullable"))
	assert.Nil(t, w.at("components", "schemas", "a.b.Q", "properties", "long_name", "nullable"))
	assert.Equal(t, []string{"long_name", "e"}, w.names("/v1", "get"))
}

// TestNumbersThatAreNone: JSON has NaN and the infinities as strings.
func TestNumbersThatAreNone(t *testing.T) {
	w := write(t, Info{}, compile(t, `
import "google/protobuf/wrappers.proto";
service S { rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1/{p}"}; } }
message Q {
  float p = 1; float f = 2; double d = 3; google.protobuf.DoubleValue w = 4; repeated google.protobuf.FloatValue ws = 5;
}`))
	none := map[string]any{"type": "string", "enum": []any{"NaN", "Infinity", "-Infinity"}}
	either := func(format string) any {
		return []any{map[string]any{"type": "number", "format": format}, none}
	}
	fields := []string{"components", "schemas", "a.b.Q", "properties"}
	assert.Equal(t, either("float"), w.at(append(fields, "f", "anyOf")...))
	assert.Equal(t, either("double"), w.at(append(fields, "w", "anyOf")...))
	assert.Equal(t, []string{"p", "f", "d", "w", "ws"}, w.names("/v1/{p}", "get"))
	assert.Equal(t, either("double"), w.at("paths", "/v1/{p}", "get", "parameters", "d", "schema", "anyOf"))
}

// TestQueries: recursion ends, however a message contains itself, and what cannot stand
// in a URL has no parameter.
func TestQueries(t *testing.T) {
	w := write(t, Info{}, compile(t, `
service S { rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1"}; } }
message Q {
  Q q = 1; R r = 2; repeated R rs = 3; map<string, string> m = 4; map<string, R> mr = 5;
  google.protobuf.Any any = 6; google.protobuf.Struct struct = 7; google.protobuf.ListValue list = 8;
  google.protobuf.Timestamp time = 9; repeated google.protobuf.Timestamp times = 10; google.protobuf.Empty empty = 11;
  string out = 12 [(google.api.field_behavior) = OUTPUT_ONLY];
}
message R { string name = 1; Q q = 2; T t = 3; }
message T { R r = 1; int64 id = 2; }`))
	assert.Equal(t, []string{"m", "struct", "time", "times", "r.name", "r.t.id"}, w.names("/v1", "get"))
	parameters := []string{"paths", "/v1", "get", "parameters"}
	assert.Equal(t, "deepObject", w.at(append(parameters, "m", "style")...))
	assert.NotNil(t, w.at(append(parameters, "struct", "content", "application/json")...))
	assert.Equal(t, true, w.at(append(parameters, "times", "explode")...))
}

// TestMessagesThatLeadEverywhere: without a bound, there would be 10^20 parameters.
func TestMessagesThatLeadEverywhere(t *testing.T) {
	var source strings.Builder
	source.WriteString(`service S { rpc M(M0) returns (M0) { option (google.api.http) = {get: "/v1"}; } }` + "\n")
	const depth, width = 20, 10
	for i := range depth {
		fmt.Fprintf(&source, "message M%d { string name = 100;", i)
		for j := range width {
			fmt.Fprintf(&source, " M%d f%d = %d;", i+1, j, j+1)
		}
		source.WriteString("}\n")
	}
	fmt.Fprintf(&source, "message M%d { string name = 1; }\n", depth)
	w := write(t, Info{}, compile(t, source.String()))
	assert.Len(t, w.names("/v1", "get"), maxQuery)
}

// TestDocumentsThatWouldBeTooLarge: they have the services that they have room for.
func TestDocumentsThatWouldBeTooLarge(t *testing.T) {
	var source strings.Builder
	source.WriteString("service First { rpc M(Q) returns (Q); }\nservice Large {\n")
	for i := range maxParts/maxQuery + 1 {
		fmt.Fprintf(&source, "rpc M%d(Q) returns (Q) { option (google.api.http) = {get: \"/v1/%d\"}; }\n", i, i)
	}
	source.WriteString("}\nservice Last { rpc M(R) returns (R); }\nmessage R { string in_last = 1; }\nmessage Q {\n")
	for i := range maxQuery {
		fmt.Fprintf(&source, "string f%d = %d;\n", i, i+1)
	}
	source.WriteString("}\n")
	services := compile(t, source.String())
	document, left, err := Document(Info{}, services)
	require.NoError(t, err)
	assert.Equal(t, []string{"a.b.Large", "a.b.Last"}, left)
	w := parse(t, document)
	assert.Equal(t, []string{"POST /a.b.First/M"}, w.operations())
	assert.Equal(t, []string{"a.b.Q", "google.protobuf.Any", "google.rpc.Status"}, w.schemas())
	assert.Contains(t, w.at("info", "description"), "- a.b.Large: with it there would be more than 100000 fields and parameters\n- a.b.Last")

	_, left, err = Document(Info{}, services[1:])
	require.NoError(t, err)
	assert.Len(t, left, 2)
}

func TestAnnotationsThatAreWrong(t *testing.T) {
	_, _, err := Document(Info{}, compile(t, `
service S {
  rpc M(Q) returns (Q) { option (google.api.http) = {get: "/v1/{nobody}"}; }
  rpc N(Q) returns (Q) { option (google.api.http) = {post: "/v1" body: "nothing"}; }
}
message Q {}`))
	assert.ErrorContains(t, err, "OpenAPI document: method a.b.S.M")
	assert.ErrorContains(t, err, "nobody")
	assert.ErrorContains(t, err, "OpenAPI document: method a.b.S.N")
}
