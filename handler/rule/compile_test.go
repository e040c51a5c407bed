package rule

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// wrongs returns the errors that err joins, one a line.
func wrongs(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok, "%T: %v", err, err)
	var texts []string
	for _, err := range joined.Unwrap() {
		var e *Error
		require.True(t, errors.As(err, &e) && error(e) == err, "%T: %v", err, err)
		require.NotEmpty(t, e.Problem)
		require.NotContains(t, e.Error(), "\n")
		texts = append(texts, e.Error())
	}
	return texts
}

// TestWrongRules has rules that are wrong whatever the messages are, so that
// Check and Compile must say the same.
func TestWrongRules(t *testing.T) {
	const fields = "they are CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, " +
		"FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED"
	for _, test := range []struct {
		name string
		rule Rule
		want []string
	}{
		{"no name", Rule{Drop: true, On: filter.AtRequest}, []string{`name: it is missing`}},
		{"nothing to do", Rule{Name: "x", If: "true"}, []string{`the rule does nothing; give it metadata, cluster, set, clear, redact, drop or reject`}},
		{"no such point", Rule{Name: "x", On: 9, Drop: true}, []string{`on: there is no such point in a call`}},
		{"drop and reject", Rule{Name: "x", On: filter.AtRequest, Drop: true, Reject: &Reject{Code: "ABORTED"}}, []string{`drop: a rule cannot drop and reject as well`}},
		{"drop what is changed", Rule{Name: "x", On: filter.AtRequest, Drop: true, Clear: []string{"a_string"}}, []string{`the rule changes a message that it does not let through`}},
		{"reject what is changed", Rule{Name: "x", On: filter.AtRequest, Reject: &Reject{Code: "ABORTED"}, Redact: []string{"a_string"}}, []string{`the rule changes a message that it does not let through`}},
		{"metadata of what is rejected", Rule{Name: "x", On: filter.AtRequest, Reject: &Reject{Code: "ABORTED"}, Metadata: Metadata{Remove: []string{"a"}}}, []string{`the rule changes a call that it rejects`}},
		{"cluster of what is rejected", Rule{Name: "x", Reject: &Reject{Code: "ABORTED"}, Cluster: `"a"`}, []string{`the rule changes a call that it rejects`}},
		{
			"messages at start",
			Rule{Name: "x", Set: map[string]string{"a": "1"}, Clear: []string{"b"}, Redact: []string{"c"}, Drop: true},
			[]string{
				`set: there is no message at start; there is at request and response`,
				`clear: there is no message at start; there is at request and response`,
				`redact: there is no message at start; there is at request and response`,
				`drop: there is no message at start; there is at request and response`,
			},
		},
		{"drop at header", Rule{Name: "x", On: filter.AtHeader, Drop: true}, []string{`drop: there is no message at header; there is at request and response`}},
		{"drop at end", Rule{Name: "x", On: filter.AtEnd, Drop: true}, []string{`drop: there is no message at end; there is at request and response`}},
		{"cluster at header", Rule{Name: "x", On: filter.AtHeader, Cluster: `"a"`}, []string{`cluster: the call has its cluster already at header; it can be chosen at start and request`}},
		{"cluster at end", Rule{Name: "x", On: filter.AtEnd, Cluster: `"a"`}, []string{`cluster: the call has its cluster already at end; it can be chosen at start and request`}},
		{
			"metadata at response",
			Rule{Name: "x", On: filter.AtResponse, Metadata: Metadata{Remove: []string{"a"}}},
			[]string{`metadata: the response's header has been sent already at response; change it at header, or the trailer at end`},
		},
		{"no code", Rule{Name: "x", Reject: &Reject{}}, []string{`reject.code: it is missing; give the name of a gRPC code, such as PERMISSION_DENIED`}},
		{"OK", Rule{Name: "x", Reject: &Reject{Code: "OK"}}, []string{`reject.code: a call cannot be rejected with OK`}},
		{"code in lower case", Rule{Name: "x", Reject: &Reject{Code: "permission_denied"}}, []string{`reject.code: "permission_denied" is no gRPC code; did you mean "PERMISSION_DENIED"?`}},
		{"code in American", Rule{Name: "x", Reject: &Reject{Code: "CANCELED"}}, []string{`reject.code: "CANCELED" is no gRPC code; did you mean "CANCELLED"?`}},
		{"unknown code", Rule{Name: "x", Reject: &Reject{Code: "403"}}, []string{`reject.code: "403" is no gRPC code; ` + fields}},
		{"message of a rejection", Rule{Name: "x", Reject: &Reject{Code: "ABORTED", Message: "3"}}, []string{`reject.message: it must be of type string, and is int`}},
		{"if is no bool", Rule{Name: "x", On: filter.AtRequest, Drop: true, If: `"yes"`}, []string{`if: it must be of type bool, and is string`}},
		{"if is a map", Rule{Name: "x", Reject: &Reject{Code: "ABORTED"}, If: `metadata`}, []string{`if: it must be of type bool, and is map(string, string)`}},
		{"cluster is an int", Rule{Name: "x", Cluster: "3"}, []string{`cluster: it must be of type string, and is int`}},
		{"metadata is an int", Rule{Name: "x", Metadata: Metadata{Set: map[string]string{"a": "number"}}}, []string{`metadata.set.a: it must be of type string, and is int`}},
		{"metadata is bytes", Rule{Name: "x", Metadata: Metadata{Set: map[string]string{"a": `b"x"`}}}, []string{`metadata.set.a: it must be of type string, and is bytes`}},
		{"binary metadata is an int", Rule{Name: "x", Metadata: Metadata{Add: map[string]string{"a-bin": `3`}}}, []string{`metadata.add.a-bin: it must be of type string or bytes, and is int`}},
		{
			"reserved keys",
			Rule{Name: "x", Metadata: Metadata{Set: map[string]string{"grpc-status": `"3"`}, Add: map[string]string{"TE": `"x"`}, Remove: []string{"a", "content-type"}}},
			[]string{
				`metadata.remove[1]: metadata "content-type" is the protocol's, and not to be changed`,
				`metadata.set.grpc-status: metadata "grpc-status" is the protocol's, and not to be changed`,
				`metadata.add.TE: metadata "te" is the protocol's, and not to be changed`,
			},
		},
		{"no key", Rule{Name: "x", Metadata: Metadata{Remove: []string{"a b"}}}, []string{`metadata.remove[0]: "a b" is no key for metadata; use letters, digits, "-", "_" and "."`}},
		{"key of two lines", Rule{Name: "x", Metadata: Metadata{Set: map[string]string{"a\nb": `"x"`}}}, []string{`metadata.set.a b: "a\nb" is no key for metadata; use letters, digits, "-", "_" and "."`}},
		{"the same key", Rule{Name: "x", Metadata: Metadata{Set: map[string]string{"X-A": `"1"`, "x-a": `"2"`}}}, []string{`metadata.set.x-a: is the same key as "X-A"`}},
		{"paths", Rule{Name: "x", On: filter.AtRequest, Set: map[string]string{"a..b": "1"}, Clear: []string{""}, Redact: []string{"a_string", "b[0]"}}, []string{
			`set.a..b: "a..b" is no path of fields; a path is one or more names of fields, "a.b.c"`,
			`clear[0]: "" is no path of fields; a path is one or more names of fields, "a.b.c"`,
			`redact[1]: "b[0]" is no path of fields; a path is one or more names of fields, "a.b.c"`,
		}},

		{"syntax", Rule{Name: "x", Cluster: `"a" +`}, []string{`cluster: column 6: syntax error: mismatched input 'end'`}},
		{"syntax again", Rule{Name: "x", Cluster: `"a`}, []string{`cluster: column 1: syntax error: token recognition error at: '"a'`}},
		{"syntax in several lines", Rule{Name: "x", Cluster: "\"a\" +\n  \"b\" \"c\"\n"}, []string{`cluster: line 2, column 7: syntax error: extraneous input '"c"'`}},
		{"assignment", Rule{Name: "x", If: "cluster = 'a'", Drop: true, On: filter.AtRequest}, []string{`if: column 9: syntax error: token recognition error at: '= '`}},
		{"variable of another point", Rule{Name: "x", If: `message.a == 1 || trailer.b == "x" || code == 3`, Cluster: "cluster"}, []string{
			`if: column 1: there is no variable "message" at start; there is at request, response`,
			`if: column 19: there is no variable "trailer" at start; there is at end`,
			`if: column 39: there is no variable "code" at start; there is at end`,
		}},
		{"header at request", Rule{Name: "x", On: filter.AtRequest, Drop: true, If: `has(header.x)`}, []string{`if: column 5: there is no variable "header" at request; there is at header, response, end`}},
		{"variable misspelt", Rule{Name: "x", If: `metdata.a == ""`, Cluster: "cluster"}, []string{`if: column 1: there is no variable "metdata"; did you mean "metadata"?`}},
		{"function misspelt", Rule{Name: "x", If: `cluster.startWith("a")`, Cluster: "cluster"}, []string{`if: column 18: there is no function "startWith"; did you mean "startsWith"?`}},
		{"function not there", Rule{Name: "x", If: `now() > timestamp(0)`, Cluster: "cluster"}, []string{`if: column 4: there is no function "now"`}},
		{"operator", Rule{Name: "x", If: `cluster == 3 || number + "x" == "y" || !cluster`, Cluster: "cluster"}, []string{
			`if: column 9: == cannot be applied to (string, int); an enum is an int, and its values are written Enum.NAME`,
			`if: column 24: + cannot be applied to (int, string)`,
			`if: column 40: ! cannot be applied to (string)`,
		}},
		{"method", Rule{Name: "x", If: `cluster.contains(3)`, Cluster: "cluster"}, []string{`if: column 17: contains cannot be applied to string.(int)`}},
		{"numbers", Rule{Name: "x", If: `number == 3u || 1.5 == number`, Cluster: "cluster"}, []string{
			`if: column 8: == cannot be applied to (int, uint); an unsigned number is written 5u, and int(x) and uint(x) convert`,
			`if: column 21: == cannot be applied to (double, int); a double is written 5.0, and int(x) and double(x) convert`,
		}},
		{"field of a string", Rule{Name: "x", If: `cluster.name == "x"`, Cluster: "cluster"}, []string{`if: column 8: type 'string' does not support field selection`}},
		{"loop over a string", Rule{Name: "x", If: `cluster.all(c, true)`, Cluster: "cluster"}, []string{`if: column 1: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)`}},
		{"no number", Rule{Name: "x", If: `int("x") == 1`, Cluster: "cluster"}, []string{`if: type conversion error from 'string' to 'int'`}},
		{"field of CEL's own message", Rule{Name: "x", If: `google.protobuf.Timestamp{secs: 1} > timestamp(0)`, Cluster: "cluster"}, []string{`if: column 31: there is no field "secs"`}},
		{"pattern", Rule{Name: "x", If: `cluster.matches("(a")`, Cluster: "cluster"}, []string{`if: column 17: invalid matches argument`}},
		{"time", Rule{Name: "x", If: `timestamp("today") > timestamp(0) && duration("1 day") > duration("1s")`, Cluster: "cluster"}, []string{
			`if: column 11: invalid timestamp argument`, `if: column 47: invalid duration argument`,
		}},
		{"address", Rule{Name: "x", If: `cidr("10.0.0.0").containsIP(peer_ip)`, Cluster: "cluster"}, []string{`if: column 6: invalid cidr argument: CIDR "10.0.0.0" parse error during conversion from string: netip.ParsePrefix("10.0.0.0"): no '/'`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, wrongs(t, Check(&test.rule)), "Check")
			f, err := Compile(&test.rule, method("Bidi"), nil)
			assert.Equal(t, test.want, wrongs(t, err), "Compile")
			assert.Nil(t, f)
		})
	}
}

// TestWrongForMethod has rules that are fine until the messages are known.
func TestWrongForMethod(t *testing.T) {
	request := func(r Rule) Rule {
		r.Name, r.On = "x", filter.AtRequest
		return r
	}
	when := func(condition string) Rule { return request(Rule{If: condition, Clear: []string{"a_string"}}) }
	set := func(path, value string) Rule { return request(Rule{Set: map[string]string{path: value}}) }
	for _, test := range []struct {
		name   string
		method string
		rule   Rule
		want   []string
	}{
		{"unknown field", "", when(`message.a_sting == ""`), []string{`if: column 8: message demo.v1.All has no field "a_sting"; did you mean "a_string"?`}},
		{"unknown field below", "", when(`message.payload.inner.nam == ""`), []string{`if: column 22: message demo.v1.Payload has no field "nam"; did you mean "name"?`}},
		{"unknown field in a loop", "", when(`message.payloads.exists(p, p.conut == 1)`), []string{`if: column 29: message demo.v1.Payload has no field "conut"; did you mean "count"?`}},
		{"unknown field and nothing near", "", when(`message.payload.zzzzzzzz == ""`), []string{`if: column 16: message demo.v1.Payload has no field "zzzzzzzz"; it has name, data, count, inner, tags, color, items`}},
		{"two unknown fields", "", when(`message.a == 1 && message.b == 2`), []string{
			`if: column 8: message demo.v1.All has no field "a"`, `if: column 26: message demo.v1.All has no field "b"`,
		}},
		{
			"the same field of two messages", "", request(Rule{
				If:  `message.payload.foo == "" && message.foo == "" && message.payload.inner.foo == ""`,
				Set: map[string]string{"a_string": "message.foo", "left": "message.payload.foo"},
			}), []string{
				`if: column 16: message demo.v1.Payload has no field "foo"; it has name, data, count, inner, tags, color, items`,
				`if: column 37: message demo.v1.All has no field "foo"`,
				`if: column 72: message demo.v1.Payload has no field "foo"; it has name, data, count, inner, tags, color, items`,
				`set.a_string: column 8: message demo.v1.All has no field "foo"`,
				`set.left: column 16: message demo.v1.Payload has no field "foo"; it has name, data, count, inner, tags, color, items`,
			},
		},
		{"oneof as a field", "", when(`has(message.choice)`), []string{`if: column 4: message demo.v1.All has no field "choice"; that is a oneof; name one of its fields`}},
		{"unknown message", "", when(`message.payload == Paylod{}`), []string{`if: column 26: there is no message "Paylod"`}},
		{"unknown field of a message made", "", when(`message.payload == Payload{nme: ""}`), []string{`if: column 31: message demo.v1.Payload has no field "nme"; did you mean "name"?`}},
		{"unknown enum value", "", when(`message.color == Color.GREN`), []string{`if: column 18: enum demo.v1.Color has no value "GREN"; did you mean "GREEN"?`}},
		{"unknown enum value in full", "", when(`message.color in [demo.v1.Color.BLUE]`), []string{`if: column 19: enum demo.v1.Color has no value "BLUE"`}},
		{"unknown enum", "", when(`message.color == Colour.RED`), []string{`if: column 18: there is no variable "Colour"`}},
		{"no bool", "", when(`message.a_string`), []string{`if: it must be of type bool, and is string`}},
		{"a wrapper is a bool", "", when(`message.bool_value`), nil},
		{"types", "", when(`message.an_int32 == "x"`), []string{`if: column 18: == cannot be applied to (int, string); an enum is an int, and its values are written Enum.NAME`}},
		{"uint and int", "", when(`message.a_uint32 == 3`), []string{`if: column 18: == cannot be applied to (uint, int); an unsigned number is written 5u, and int(x) and uint(x) convert`}},
		{"the response's message", "", Rule{Name: "x", On: filter.AtResponse, If: `message.name == ""`, Reject: &Reject{Code: "ABORTED"}}, []string{`if: column 8: message demo.v1.All has no field "name"`}},
		{"another response's message", "Client", Rule{Name: "x", On: filter.AtResponse, If: `message.name == ""`, Reject: &Reject{Code: "ABORTED"}}, nil},

		{"unknown path", "", set("payload.nmae", `"x"`), []string{`set.payload.nmae: message demo.v1.Payload has no field "nmae"; did you mean "name"?`}},
		{"through a scalar", "", set("payload.name.x", `"x"`), []string{`set.payload.name.x: payload.name is of type string, and has no fields`}},
		{"through an enum", "", set("color.x", `"x"`), []string{`set.color.x: color is of type demo.v1.Color, and has no fields`}},
		{"through a list", "", set("payloads.name", `"x"`), []string{`set.payloads.name: payloads is of type repeated demo.v1.Payload, and the path does not say which element is meant; only redact goes through all elements; otherwise end the path here`}},
		{"through a map", "", set("by_name.name", `"x"`), []string{`set.by_name.name: by_name is of type map<string, demo.v1.Payload>, and the path does not say which element is meant; only redact goes through all elements; otherwise end the path here`}},
		{"through a map of strings", "", set("labels.x", `"x"`), []string{`set.labels.x: labels is of type map<string, string>, and has no fields`}},
		{"a oneof", "", set("choice", `"x"`), []string{`set.choice: message demo.v1.All has no field "choice"; that is a oneof; name one of its fields`}},
		{"string of an int", "", set("a_string", "3"), []string{`set.a_string: the field is of type string, and the expression int`}},
		{"int of a string", "", set("an_int32", "message.a_string"), []string{`set.an_int32: the field is of type int32, and the expression string`}},
		{"double of an int", "", set("a_double", "3"), []string{`set.a_double: the field is of type double, and the expression int; a double is written 5.0, and double(x) converts`}},
		{"int of a double", "", set("a_uint64", "3.0"), []string{`set.a_uint64: the field is of type uint64, and the expression double`}},
		{"bytes of a string", "", set("a_bytes", `"x"`), []string{`set.a_bytes: the field is of type bytes, and the expression string`}},
		{"bool of an int", "", set("a_bool", `1`), []string{`set.a_bool: the field is of type bool, and the expression int`}},
		{"scalar of null", "", set("a_string", `null`), []string{`set.a_string: the field is of type string, and the expression null`}},
		{"message of another", "", set("payload", `message`), []string{`set.payload: the field is of type demo.v1.Payload, and the expression demo.v1.All`}},
		{"message of a string", "", set("payload", `"x"`), []string{`set.payload: the field is of type demo.v1.Payload, and the expression string`}},
		{"list of a scalar", "", set("strings", `"x"`), []string{`set.strings: the field is of type repeated string, and the expression string`}},
		{"list of others", "", set("strings", `[1]`), []string{`set.strings: the field is of type repeated string, and the expression list(int)`}},
		{"map of others", "", set("labels", `{"x": 1}`), []string{`set.labels: the field is of type map<string, string>, and the expression map(string, int)`}},
		{"map of a list", "", set("labels", `["x"]`), []string{`set.labels: the field is of type map<string, string>, and the expression list(string)`}},
		{"wrapper of another", "", set("string_value", `3`), []string{`set.string_value: the field is of type google.protobuf.StringValue, and the expression int`}},
		{"time of a string", "", set("time", `"now"`), []string{`set.time: the field is of type google.protobuf.Timestamp, and the expression string`}},
		{"duration of a time", "", set("duration", `message.time`), []string{`set.duration: the field is of type google.protobuf.Duration, and the expression timestamp`}},
		{"struct of a list", "", set("struct", `[1]`), []string{`set.struct: the field is of type google.protobuf.Struct, and the expression list(int)`}},
		{"list value of a map", "", set("list_value", `{"a": 1}`), []string{`set.list_value: the field is of type google.protobuf.ListValue, and the expression map(string, int)`}},
		{"any of a type", "", set("any", `type(1)`), []string{`set.any: the field is of type google.protobuf.Any, and the expression type(int)`}},
		{"optional value", "", set("a_string", `message.payload.?name`), []string{`set.a_string: the field is of type string, and the expression optional_type(string); use .orValue(...)`}},
		{"int too large", "", set("an_int32", "2147483648"), []string{`set.an_int32: the value is out of the range of int32`}},
		{"negative", "", set("a_uint32", "-1"), []string{`set.a_uint32: the value is out of the range of uint32`}},
		{"unknown name of an enum", "", set("color", `"GREN"`), []string{`set.color: enum demo.v1.Color has no value of that name; did you mean "GREEN"?`}},
		{"unknown number of a closed enum", "", set("legacy.closed", `1`), []string{`set.legacy.closed: enum old.Closed has no value of that number`}},
		{"no variable", "", Rule{Name: "x", Cluster: "eu"}, []string{`cluster: column 1: there is no variable "eu"`}},
		{"path and value", "", set("a", "b"), []string{`set.a: message demo.v1.All has no field "a"`, `set.a: column 1: there is no variable "b"`}},
		{"the same field", "", request(Rule{Set: map[string]string{"a_string": `"x"`, "aString": `"y"`}}), []string{`set.a_string: is the same field as a_string`}},
		{"within another", "", request(Rule{Set: map[string]string{"payload": `Payload{}`, "payload.name": `"y"`}}), []string{`set.payload.name: overlaps with payload`}},
		{"of one oneof", "", request(Rule{Set: map[string]string{"left": `"x"`, "both.name": `"y"`}}), []string{`set.left: is in the same oneof as both.name, and only one of them can have a value`}},
		{"not of one oneof", "", request(Rule{Set: map[string]string{"maybe": `"x"`, "maybe_int": `1`, "payload.name": `""`, "payload.count": "1", "both.name": `"y"`}}), nil},

		{"clear what is set", "", request(Rule{Set: map[string]string{"payload.name": `"x"`}, Clear: []string{"a_string", "payload"}}), []string{`clear[1]: payload.name is set as well`}},
		{"clear a part of what is set", "", request(Rule{Set: map[string]string{"payload": `Payload{name: "x"}`}, Clear: []string{"payload.inner"}}), []string{`clear[0]: payload is set as well`}},
		{"clear required", "", request(Rule{Clear: []string{"legacy.id"}}), []string{`clear[0]: legacy.id is required, and cannot be cleared`}},
		{"clear in a list", "", request(Rule{Clear: []string{"a_string", "payloads.name"}}), []string{`clear[1]: payloads is of type repeated demo.v1.Payload, and the path does not say which element is meant; only redact goes through all elements; otherwise end the path here`}},
		{"clear unknown", "", request(Rule{Clear: []string{"string"}}), []string{`clear[0]: message demo.v1.All has no field "string"; did you mean "a_string"?`}},
		{"redact numbers", "", request(Rule{Redact: []string{"ints"}}), []string{`redact[0]: ints is of type repeated int32, and only strings and bytes can be redacted; use clear`}},
		{"redact a message", "", request(Rule{Redact: []string{"a_string", "payload"}}), []string{`redact[1]: payload is of type demo.v1.Payload, and only strings and bytes can be redacted; use clear`}},
		{"redact a map of messages", "", request(Rule{Redact: []string{"by_name"}}), []string{`redact[0]: by_name is of type map<string, demo.v1.Payload>, and only strings and bytes can be redacted; use clear`}},
		{"redact a wrapper of a number", "", request(Rule{Redact: []string{"int32_value"}}), []string{`redact[0]: int32_value is of type google.protobuf.Int32Value, and only strings and bytes can be redacted; use clear`}},
		{"redact through a scalar", "", request(Rule{Redact: []string{"payloads.tags.x"}}), []string{`redact[0]: payloads.tags is of type repeated string, and has no fields`}},

		{"drop the only request", "Server", request(Rule{Drop: true}), []string{`drop: demo.v1.Demo.Server has one request only, and a call without it fails; use reject`}},
		{"drop one of many responses", "Server", Rule{Name: "x", On: filter.AtResponse, Drop: true}, nil},
		{"drop the only response", "Client", Rule{Name: "x", On: filter.AtResponse, Drop: true}, []string{`drop: demo.v1.Demo.Client has one response only, and a call without it fails; use reject`}},
		{"drop one of many requests", "Client", request(Rule{Drop: true}), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Empty(t, wrongs(t, Check(&test.rule)), "Check")
			if test.method == "" {
				test.method = "Unary"
			}
			f, err := Compile(&test.rule, method(test.method), nil)
			assert.Equal(t, test.want, wrongs(t, err), "Compile")
			assert.Equal(t, test.want == nil, f != nil)
		})
	}
}

// TestFakes has schemas with messages that go by a name that CEL knows.
func TestFakes(t *testing.T) {
	for message, fine := range map[string]bool{
		`message StringValue {}`:                                         false,
		`message StringValue { int32 value = 1; }`:                       false,
		`message StringValue { repeated string value = 1; }`:             false,
		`message StringValue { optional string value = 1; }`:             false,
		`message Timestamp { int64 seconds = 1; }`:                       false,
		`message Any { string type_url = 1; string value = 2; }`:         false,
		`message StringValue { string value = 1; }`:                      true,
		`message Duration { int64 s = 1; int32 n = 2; string more = 3;}`: true,
		`message Other { int32 value = 7; }`:                             true,
	} {
		name := strings.Fields(message)[1]
		c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
			"fake.proto":    `syntax = "proto3"; package google.protobuf; ` + message,
			"service.proto": `syntax = "proto3"; import "fake.proto"; message M { google.protobuf.` + name + ` f = 1; } service S { rpc Do(M) returns (M); }`,
		})}}
		compiled, err := c.Compile(t.Context(), "service.proto")
		require.NoError(t, err)
		do := compiled[0].Services().ByName("S").Methods().ByName("Do")
		_, err = Compile(&Rule{Name: "x", On: filter.AtRequest, If: `has(message.f)`, Set: map[string]string{"f": "null"}}, do, nil)
		if fine {
			assert.NoError(t, err, message)
			continue
		}
		assert.Equal(t, []string{"the schema has another google.protobuf." + name + " (fake.proto) than there is"}, wrongs(t, err), message)
	}
}

// TestErrorFields has the parts of an error apart.
func TestErrorFields(t *testing.T) {
	err := Check(&Rule{Name: "x", Reject: &Reject{Code: "ABORT"}})
	assert.Equal(t, &Error{Field: "reject.code", Problem: `"ABORT" is no gRPC code`, Hint: `did you mean "ABORTED"?`}, err.(interface{ Unwrap() []error }).Unwrap()[0])
	assert.Equal(t, "problem", (&Error{Problem: "problem"}).Error())
	assert.Equal(t, "a.b: problem; hint", (&Error{Field: "a.b", Problem: "problem", Hint: "hint"}).Error())
}

// TestLongErrors has CEL say a lot.
func TestLongErrors(t *testing.T) {
	for _, condition := range []string{strings.Repeat("(", 1000) + "é", strings.Repeat("é", 1000), strings.Repeat("a", 1000) + "(1)"} {
		all := wrongs(t, Check(&Rule{Name: "x", Reject: &Reject{Code: "ABORTED"}, If: condition}))
		require.NotEmpty(t, all)
		for _, text := range all {
			assert.Less(t, len(text), 300)
			assert.True(t, utf8.ValidString(text))
		}
	}
}

func TestFilter(t *testing.T) {
	f, err := Compile(&Rule{Name: "x", On: filter.AtResponse, Reject: &Reject{Code: "ABORTED"}}, method("Unary"), nil)
	require.NoError(t, err)
	assert.Equal(t, filter.AtResponse, f.Point())
	assert.Equal(t, "/demo.v1.Demo/Unary", f.Method())
	assert.Equal(t, `rule "x"`, f.String())
}

func TestNearest(t *testing.T) {
	for _, test := range []struct {
		name  string
		names []string
		want  string
	}{
		{"nmae", []string{"count", "name"}, "name"},
		{"userName", []string{"user_id", "user_name"}, "user_name"},
		{"colour", []string{"color"}, "color"},
		{"x", []string{"y"}, ""},
		{"name", []string{"color", "payload"}, ""},
		{"name", nil, ""},
		{strings.Repeat("a", 1000), []string{strings.Repeat("a", 999)}, ""},
		{"aaaa", []string{strings.Repeat("a", 1000)}, ""},
	} {
		assert.Equal(t, test.want, nearest(test.name, test.names), test.name)
	}
	assert.Equal(t, 3, distance("kitten", "sitting"))
	assert.Equal(t, 3, distance("", "abc"))
	assert.Equal(t, 1, distance("nmae", "name"))
	assert.Equal(t, 0, distance("abc", "abc"))
}
