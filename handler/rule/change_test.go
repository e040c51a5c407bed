package rule

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// TestSet sets each kind of field, and compares the message with what it must
// have become.
func TestSet(t *testing.T) {
	const unchanged = "as it came"
	for _, test := range []struct {
		name, message string
		set           map[string]string
		want          string // as text, or a status
	}{
		{"bool", ``, map[string]string{"a_bool": "true"}, `a_bool:true`},
		{"string", ``, map[string]string{"a_string": `"x" + "y"`}, `a_string:"xy"`},
		{"bytes", ``, map[string]string{"a_bytes": `b"\xff"`}, `a_bytes:"\xff"`},
		{"double", ``, map[string]string{"a_double": "1.5"}, `a_double:1.5`},
		{"float", ``, map[string]string{"a_float": "1.5"}, `a_float:1.5`},
		{"int32", ``, map[string]string{"an_int32": "-7"}, `an_int32:-7`},
		{"int64", ``, map[string]string{"an_int64": "-9223372036854775808"}, `an_int64:-9223372036854775808`},
		{"uint32 of an int", ``, map[string]string{"a_uint32": "4294967295"}, `a_uint32:4294967295`},
		{"uint64", ``, map[string]string{"a_uint64": "18446744073709551615u"}, `a_uint64:18446744073709551615`},
		{"sint32", ``, map[string]string{"a_sint32": "-2147483648"}, `a_sint32:-2147483648`},
		{"sint64", ``, map[string]string{"a_sint64": "-3"}, `a_sint64:-3`},
		{"fixed32", ``, map[string]string{"a_fixed32": "3u"}, `a_fixed32:3`},
		{"fixed64", ``, map[string]string{"a_fixed64": "3"}, `a_fixed64:3`},
		{"sfixed32", ``, map[string]string{"a_sfixed32": "-3"}, `a_sfixed32:-3`},
		{"sfixed64 of a uint", ``, map[string]string{"a_sfixed64": "3u"}, `a_sfixed64:3`},
		{"enum by number", ``, map[string]string{"color": "1"}, `color:RED`},
		{"enum by a number without name", ``, map[string]string{"color": "9"}, `color:9`},
		{"enum by name", ``, map[string]string{"color": `"GREEN"`}, `color:GREEN`},
		{"enum by constant", ``, map[string]string{"color": "demo.v1.Color.GREEN"}, `color:GREEN`},
		{"enum by constant of the package", ``, map[string]string{"color": "Color.GREEN"}, `color:GREEN`},
		{"enum by a name of the message", `a_string:"RED"`, map[string]string{"color": "message.a_string"}, `a_string:"RED" color:RED`},
		{"closed enum", `legacy:{id:"x"}`, map[string]string{"legacy.closed": "3"}, `legacy:{id:"x" closed:YES}`},
		{"message", ``, map[string]string{"payload": `Payload{name: "x", count: 2}`}, `payload:{name:"x" count:2}`},
		{"message of the message", `both:{name:"x"}`, map[string]string{"payload": "message.both"}, `payload:{name:"x"} both:{name:"x"}`},
		{"null clears a message", `payload:{name:"x"}`, map[string]string{"payload": "null"}, ``},
		{"created on the way", ``, map[string]string{"payload.inner.inner.name": `"x"`}, `payload:{inner:{inner:{name:"x"}}}`},
		{"by JSON name", ``, map[string]string{"aString": `"x"`, "other": `"y"`}, `a_string:"x" renamed:"y"`},
		{"JSON names in the expression", `a_string:"x"`, map[string]string{"renamed": "message.aString"}, `a_string:"x" renamed:"x"`},
		{"optional to its default", ``, map[string]string{"maybe": `""`}, `maybe:""`},
		{"oneof", `right:4`, map[string]string{"left": `"x"`}, `left:"x"`},
		{"group", `legacy:{id:"i"}`, map[string]string{"legacy.extra.note": `"x"`}, `legacy:{id:"i" Extra:{note:"x"}}`},
		{"list of strings", ``, map[string]string{"strings": `["a", "b"]`}, `strings:"a" strings:"b"`},
		{"list of ints", ``, map[string]string{"ints": "[1, 2].map(i, i * 2)"}, `ints:2 ints:4`},
		{"list of enums", ``, map[string]string{"colors": `["RED", "GREEN"]`}, `colors:RED colors:GREEN`},
		{"list of messages", `payload:{name:"x"}`, map[string]string{"payloads": `[message.payload, Payload{count: 1}]`}, `payload:{name:"x"} payloads:{name:"x"} payloads:{count:1}`},
		{"empty list", `ints:1`, map[string]string{"ints": "[]"}, ``},
		{"map of strings", ``, map[string]string{"labels": `{"a": "b"}`}, `labels:{key:"a" value:"b"}`},
		{"map of ints", ``, map[string]string{"numbers": "{1: 2}"}, `numbers:{key:1 value:2}`},
		{"map of messages", ``, map[string]string{"by_name": `{"a": Payload{name: "x"}}`}, `by_name:{key:"a" value:{name:"x"}}`},
		{"map of the message", `labels:{key:"a" value:"b"}`, map[string]string{"anys": "{}", "labels": "message.labels"}, unchanged},
		{"wrappers", ``, map[string]string{
			"string_value": `"x"`, "int32_value": "3", "uint64_value": "4u", "bool_value": "false", "double_value": "1.5", "bytes_value": `b"y"`,
		}, `string_value:{value:"x"} int32_value:{value:3} uint64_value:{value:4} bool_value:{} double_value:{value:1.5} bytes_value:{value:"y"}`},
		{"null clears a wrapper", `string_value:{value:"x"}`, map[string]string{"string_value": "null"}, ``},
		{"list of wrappers", ``, map[string]string{"string_values": `["x", "y"]`}, `string_values:{value:"x"} string_values:{value:"y"}`},
		{"wrapper of a wrapper", `string_value:{value:"x"}`, map[string]string{"a_string": "message.string_value"}, `a_string:"x" string_value:{value:"x"}`},
		{"timestamp", ``, map[string]string{"time": `timestamp("1970-01-01T00:00:01.5Z")`}, `time:{seconds:1 nanos:500000000}`},
		{"timestamp before 1970", ``, map[string]string{"time": `timestamp("1969-12-31T23:59:59.5Z")`}, `time:{seconds:-1 nanos:500000000}`},
		{"duration", ``, map[string]string{"duration": `duration("-1.5s")`}, `duration:{seconds:-1 nanos:-500000000}`},
		{"time computed", `time:{seconds:1} duration:{seconds:5}`, map[string]string{"time": "message.time + message.duration"}, `time:{seconds:6} duration:{seconds:5}`},
		{"struct", ``, map[string]string{"struct": `{"a": 1.5}`}, `struct:{fields:{key:"a" value:{number_value:1.5}}}`},
		{"struct of a message", `payload:{name:"x"}`, map[string]string{"struct": `message.payload`}, `payload:{name:"x"} struct:{fields:{key:"name" value:{string_value:"x"}}}`},
		{"struct of a map", `labels:{key:"a" value:"b"}`, map[string]string{"struct": `message.labels`}, `labels:{key:"a" value:"b"} struct:{fields:{key:"a" value:{string_value:"b"}}}`},
		{"struct of what is not UTF-8", ``, map[string]string{"struct": `metadata`}, `INTERNAL: rule "test": set.struct: a message is broken`},
		{"value", ``, map[string]string{"value": `[true, null]`}, `value:{list_value:{values:{bool_value:true} values:{null_value:NULL_VALUE}}}`},
		{"null in a map of values", ``, map[string]string{"struct.fields": `{"a": null}`}, `struct:{fields:{key:"a" value:{null_value:NULL_VALUE}}}`},
		{"null as a value", ``, map[string]string{"value": `null`}, `value:{null_value:NULL_VALUE}`},
		{"list value", ``, map[string]string{"list_value": `["x"]`}, `list_value:{values:{string_value:"x"}}`},
		{"any", ``, map[string]string{"any": `Payload{name: "x"}`}, `any:{type_url:"type.googleapis.com/demo.v1.Payload" value:"\n\x01x"}`},
		{"any of no message", ``, map[string]string{"any": `"x"`}, `any:{[type.googleapis.com/google.protobuf.StringValue]:{value:"x"}}`},
		{"empty", ``, map[string]string{"empty": "google.protobuf.Empty{}"}, `empty:{}`},
		{"a name that is a word of CEL", ``, map[string]string{"in": "message.`in` + 'x'"}, `in:"x"`},
		{"all see the message as it was", `a_string:"x" renamed:"y"`, map[string]string{"a_string": "message.renamed", "renamed": "message.a_string"}, `a_string:"y" renamed:"x"`},

		{"the same value", `a_string:"x"`, map[string]string{"a_string": `"x"`}, unchanged},
		{"the same default", ``, map[string]string{"an_int32": "0"}, unchanged},
		{"the same list", `ints:1 ints:2`, map[string]string{"ints": "[1, 2]"}, unchanged},
		{"the same message", `payload:{name:"x"}`, map[string]string{"payload": `Payload{name: "x"}`}, unchanged},
		{"null where nothing is", ``, map[string]string{"payload": "null"}, unchanged},
		{"null below nothing", ``, map[string]string{"payload.inner": "null"}, unchanged},

		{"too large for int32", `an_int64:2147483648`, map[string]string{"an_int32": "message.an_int64"}, `INTERNAL: rule "test": set.an_int32: the value is out of the range of int32`},
		{"too small for sint32", `an_int64:-2147483649`, map[string]string{"a_sint32": "message.an_int64"}, `INTERNAL: rule "test": set.a_sint32: the value is out of the range of sint32`},
		{"negative for uint32", `an_int64:-1`, map[string]string{"a_uint32": "message.an_int64"}, `INTERNAL: rule "test": set.a_uint32: the value is out of the range of uint32`},
		{"negative for uint64", `an_int64:-1`, map[string]string{"a_uint64": "message.an_int64"}, `INTERNAL: rule "test": set.a_uint64: the value is out of the range of uint64`},
		{"too large for uint32", `a_uint64:4294967296`, map[string]string{"a_fixed32": "message.a_uint64"}, `INTERNAL: rule "test": set.a_fixed32: the value is out of the range of fixed32`},
		{"too large for int64", `a_uint64:9223372036854775808`, map[string]string{"an_int64": "message.a_uint64"}, `INTERNAL: rule "test": set.an_int64: the value is out of the range of int64`},
		{"too large for float", `a_double:1e300`, map[string]string{"a_float": "message.a_double"}, `INTERNAL: rule "test": set.a_float: the value is out of the range of float`},
		{"no enum value of that name", `a_string:"BLUE"`, map[string]string{"color": "message.a_string"}, `INTERNAL: rule "test": set.color: enum demo.v1.Color has no value of that name`},
		{"no value of a closed enum", `an_int32:1`, map[string]string{"legacy.closed": "message.an_int32"}, `INTERNAL: rule "test": set.legacy.closed: enum old.Closed has no value of that number`},
		{"too large for an enum", `an_int64:4294967297`, map[string]string{"color": "message.an_int64"}, `INTERNAL: rule "test": set.color: enum demo.v1.Color has no value of that number`},
		{"an element too large", `an_int64:4294967297`, map[string]string{"ints": "[1, message.an_int64]"}, `INTERNAL: rule "test": set.ints: the value is out of the range of int32`},
		{"enum of a uint", ``, map[string]string{"color": "2u"}, `color:GREEN`},
		{"enum of a large uint", `a_uint64:18446744073709551615`, map[string]string{"color": "message.a_uint64"}, `INTERNAL: rule "test": set.color: enum demo.v1.Color has no value of that number`},
		{"enum of a bool", `value:{bool_value:true}`, map[string]string{"color": "message.value"}, `INTERNAL: rule "test": set.color: the value is of type bool, not a value of enum demo.v1.Color`},
		{"int of a bool", `value:{bool_value:true}`, map[string]string{"an_int32": "message.value"}, `INTERNAL: rule "test": set.an_int32: the value is of type bool, not int32`},
		{"time of a bool", `value:{bool_value:true}`, map[string]string{"time": "message.value"}, `INTERNAL: rule "test": set.time: the value is of type bool, not a timestamp`},
		{"duration of a bool", `value:{bool_value:true}`, map[string]string{"duration": "message.value"}, `INTERNAL: rule "test": set.duration: the value is of type bool, not a duration`},
		{"struct of a bool", `value:{bool_value:true}`, map[string]string{"struct": "message.value"}, `INTERNAL: rule "test": set.struct: the value is of type bool, not a map`},
		{"list value of a bool", `value:{bool_value:true}`, map[string]string{"list_value": "message.value"}, `INTERNAL: rule "test": set.list_value: the value is of type bool, not a list`},
		{"map of a bool", `value:{bool_value:true}`, map[string]string{"labels": "message.value"}, `INTERNAL: rule "test": set.labels: the value is of type bool, not a map`},
		{"map of JSON", `value:{struct_value:{fields:{key:"a" value:{string_value:"b"}}}}`, map[string]string{"labels": "message.value", "value": "message.time"}, `labels:{key:"a" value:"b"} value:{string_value:"1970-01-01T00:00:00Z"}`},
		{"map of other JSON", `value:{struct_value:{fields:{key:"a" value:{number_value:1}}}}`, map[string]string{"labels": "message.value"}, `INTERNAL: rule "test": set.labels: the value is of type double, not string`},
		{"map of other keys", `an_int64:2147483648`, map[string]string{"numbers": "{message.an_int64: 1}"}, `INTERNAL: rule "test": set.numbers: the value is out of the range of int32`},
		{"message of an any", `any:{type_url:"x/demo.v1.Payload" value:"\n\x01x"}`, map[string]string{"payload": "message.any", "any": "null"}, `payload:{name:"x"}`},
		{"message of another any", `any:{type_url:"x/demo.v1.All"}`, map[string]string{"payload": "message.any"}, `INTERNAL: rule "test": set.payload: the value is of type demo.v1.All, not demo.v1.Payload`},
		{"a broken any in a list", `anys:{key:"a" value:{type_url:"x"}}`, map[string]string{"payloads": `message.anys.map(k, message.anys[k])`}, `INTERNAL: rule "test": set.payloads: column 33: a google.protobuf.Any holds a message that is not known, or broken`},
		{"a broken any in a map", `anys:{key:"a" value:{type_url:"x"}}`, map[string]string{"anys": `message.anys`}, `INTERNAL: rule "test": set.anys: a google.protobuf.Any holds a message that is not known, or broken`},
		{"an any in a map that package proto panics of", `anys:{key:"a" value:{type_url:"x/demo.v1.All" value:"\xc2\x02\x05\n\x01a\x08\x01"}}`, map[string]string{"anys": `message.anys`}, `INTERNAL: rule "test": set.anys: a google.protobuf.Any holds a message that is not known, or broken`},
		{"bytes in JSON", ``, map[string]string{"value": `duration("1s")`}, `value:{string_value:"1s"}`},
		{"no JSON", ``, map[string]string{"value": `dyn(string)`}, `INTERNAL: rule "test": set.value: the value has no form in JSON`},
		{"no any", ``, map[string]string{"any": `dyn(string)`}, `INTERNAL: rule "test": set.any: the value is of type type, not a message`},
		{"null in a list", `value:{null_value:NULL_VALUE}`, map[string]string{"strings": "[message.value]"}, `INTERNAL: rule "test": set.strings: null is no value of a list or a map`},
		{"another type than was known", `value:{number_value:1}`, map[string]string{"a_string": "message.value"}, `INTERNAL: rule "test": set.a_string: the value is of type double, not string`},
		{"no list", `value:{number_value:1}`, map[string]string{"strings": "message.value"}, `INTERNAL: rule "test": set.strings: the value is of type double, not a list`},
		{"not UTF-8", ``, map[string]string{"a_string": `metadata["x-bin"]`}, `INTERNAL: rule "test": set.a_string: the value is not valid UTF-8`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := begin(t, method("Unary"), metadata("x-bin", "/w", "user", "ann"), &Rule{Name: "test", On: filter.AtRequest, Set: test.set})
			got := c.pass(filter.Request, allMessage(t, test.message))
			if test.want != unchanged && test.want[:min(8, len(test.want))] != "INTERNAL" {
				test.want = text(allMessage(t, test.want))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestClear(t *testing.T) {
	for _, test := range []struct {
		name, message string
		clear         []string
		want          string
	}{
		{"scalar", `a_string:"x" an_int32:1`, []string{"a_string"}, `an_int32:1`},
		{"message", `payload:{name:"x"}`, []string{"payload"}, ``},
		{"below a message", `payload:{name:"x" count:1}`, []string{"payload.name"}, `payload:{count:1}`},
		{"list, map and oneof", `ints:1 labels:{key:"a" value:"b"} left:"x"`, []string{"ints", "labels", "left"}, ``},
		{"a default that is set", `maybe:""`, []string{"maybe"}, ``},
		{"group", `legacy:{id:"x" Extra:{level:1}}`, []string{"legacy.extra"}, `legacy:{id:"x"}`},
		{"nothing there", `a_string:"x"`, []string{"payload.inner.name", "ints", "left", "maybe"}, "as it came"},
		{"another of the oneof", `right:1`, []string{"left"}, "as it came"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, Clear: test.clear})
			got := c.pass(filter.Request, allMessage(t, test.message))
			if test.want != "as it came" {
				test.want = text(allMessage(t, test.want))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestRedact(t *testing.T) {
	for _, test := range []struct {
		name, message string
		redact        []string
		want          string
	}{
		{"string", `a_string:"x"`, []string{"a_string"}, `a_string:"***"`},
		{"bytes", `a_bytes:"x"`, []string{"a_bytes"}, `a_bytes:"***"`},
		{"optional and empty", `maybe:""`, []string{"maybe"}, `maybe:"***"`},
		{"list", `strings:"x" strings:""`, []string{"strings"}, `strings:"***" strings:"***"`},
		{"list of bytes", `blobs:"x" blobs:"***"`, []string{"blobs"}, `blobs:"***" blobs:"***"`},
		{"map", `labels:{key:"a" value:"b"} labels:{key:"c" value:"d"}`, []string{"labels"}, `labels:{key:"a" value:"***"} labels:{key:"c" value:"***"}`},
		{"map of bytes", `by_bool:{key:true value:"b"}`, []string{"by_bool"}, `by_bool:{key:true value:"***"}`},
		{"below a list", `payloads:{name:"x"} payloads:{count:1} payloads:{name:"y" count:2}`, []string{"payloads.name"}, `payloads:{name:"***"} payloads:{count:1} payloads:{name:"***" count:2}`},
		{"below a map", `by_name:{key:"a" value:{name:"x" count:1}}`, []string{"by_name.name"}, `by_name:{key:"a" value:{name:"***" count:1}}`},
		{"below lists of lists", `payloads:{items:{tags:"x" tags:"y"} items:{name:"z"}}`, []string{"payloads.items.tags"}, `payloads:{items:{tags:"***" tags:"***"} items:{name:"z"}}`},
		{"below messages", `payload:{inner:{data:"x"}}`, []string{"payload.inner.data"}, `payload:{inner:{data:"***"}}`},
		{"below groups", `legacy:{id:"x" Extra:{note:"y"} Line:{text:"z"} Line:{}}`, []string{"legacy.extra.note", "legacy.line.text"}, `legacy:{id:"x" Extra:{note:"***"} Line:{text:"***"} Line:{}}`},
		{"wrappers", `string_value:{value:"x"} bytes_value:{value:"y"} string_values:{value:"z"}`, []string{"string_value", "bytes_value", "string_values"}, `string_value:{value:"***"} bytes_value:{value:"***"} string_values:{value:"***"}`},
		{"oneof", `left:"x"`, []string{"left"}, `left:"***"`},
		{"required", `legacy:{id:"x"}`, []string{"legacy.id"}, `legacy:{id:"***"}`},
		{"nothing there", `an_int32:1 payload:{}`, []string{"a_string", "strings", "labels", "payload.name", "payloads.name", "left", "legacy.greeting"}, "as it came"},
		{"masked already", `a_string:"***" a_bytes:"***" strings:"***" labels:{key:"a" value:"***"}`, []string{"a_string", "a_bytes", "strings", "labels"}, "as it came"},
		{
			"below one entry of many", `by_name:{key:"a" value:{}} by_name:{key:"b" value:{}} by_name:{key:"c" value:{name:"x"}} by_name:{key:"d" value:{}} by_name:{key:"e" value:{}}`,
			[]string{"by_name.name"},
			`by_name:{key:"a" value:{}} by_name:{key:"b" value:{}} by_name:{key:"c" value:{name:"***"}} by_name:{key:"d" value:{}} by_name:{key:"e" value:{}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, Redact: test.redact})
			got := c.pass(filter.Request, allMessage(t, test.message))
			if test.want != "as it came" {
				test.want = text(allMessage(t, test.want))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

// TestPacked packs maps in the same way each time, so that what has not changed
// is seen to be the same.
func TestPacked(t *testing.T) {
	r := &Rule{Name: "test", On: filter.AtRequest, Set: map[string]string{"any": `All{labels: message.labels}`}}
	m := allMessage(t, `labels:{key:"a"} labels:{key:"b"} labels:{key:"c"} labels:{key:"d"} labels:{key:"e"}`)
	first := begin(t, method("Unary"), nil, r).pass(filter.Request, m)
	packed := allMessage(t, first)
	for range 20 {
		assert.Equal(t, "as it came", begin(t, method("Unary"), nil, r).pass(filter.Request, packed))
	}
}
