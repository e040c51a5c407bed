package rule

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb" // which all.proto does not import

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// What a condition may come to.
const (
	met    = "ABORTED: met"
	notMet = "as it came"
)

// TestConditions evaluates expressions on messages.
func TestConditions(t *testing.T) {
	for _, test := range []struct {
		message, condition string
		want               string // notMet, met, or why it cannot be evaluated
	}{
		{`a_string:"secret plan"`, `message.a_string.contains("secret")`, met},
		{`a_string:"plan"`, `message.a_string.contains("secret")`, notMet},
		{``, `message.a_string == "" && message.an_int32 == 0 && !message.a_bool && message.a_bytes == b""`, met},
		{`a_bool:true`, `message.a_bool`, met},
		{`an_int32:-3 an_int64:-4 a_sint32:-5 a_sint64:-6 a_sfixed32:-7 a_sfixed64:-8`, `message.an_int32 + message.an_int64 + message.a_sint32 + message.a_sint64 + message.a_sfixed32 + message.a_sfixed64 == -33`, met},
		{`a_uint32:3 a_uint64:4 a_fixed32:5 a_fixed64:6`, `message.a_uint32 + message.a_uint64 + message.a_fixed32 + message.a_fixed64 == 18u`, met},
		{`a_uint32:3`, `message.a_uint32 > 2 && message.a_uint32 < 3.5`, met},
		{`a_double:1.5 a_float:0.5`, `message.a_double + message.a_float == 2.0`, met},
		{`color:RED`, `message.color == demo.v1.Color.RED && message.color == Color.RED && message.color == 1`, met},
		{`payload:{inner:{name:"x"}}`, `message.payload.inner.name == "x" && has(message.payload.inner) && !has(message.payload.inner.inner)`, met},
		{``, `message.payload.inner.inner.name == ""`, met},
		{`maybe:""`, `has(message.maybe) && !has(message.maybe_int)`, met},
		{`left:""`, `has(message.left) && !has(message.right)`, met},
		{`strings:"x" strings:"y"`, `"y" in message.strings && message.strings[1] == "y" && message.strings.size() == 2`, met},
		{`payloads:{name:"x"} payloads:{name:"y"}`, `message.payloads.exists(p, p.name == "y") && !message.payloads.all(p, p.name == "y")`, met},
		{`colors:RED`, `message.colors == [1]`, met},
		{`labels:{key:"a" value:"b"}`, `message.labels["a"] == "b" && message.labels.a == "b" && "a" in message.labels && !("b" in message.labels)`, met},
		{`labels:{key:"b" value:"1"} labels:{key:"a" value:"2"} labels:{key:"c" value:"3"}`, `message.labels.map(k, k) == ["a", "b", "c"] && message.labels == {"c": "3", "a": "2", "b": "1"}`, met},
		{`numbers:{key:-5 value:2} numbers:{key:3 value:2}`, `message.numbers[-5] == 2 && message.numbers.map(k, k) == [-5, 3] && dyn(-5.0) in message.numbers`, met},
		{`by_uint:{key:7 value:RED}`, `message.by_uint[7u] == 1 && dyn(7) in message.by_uint && !(dyn(-7) in message.by_uint)`, met},
		{`by_uint:{key:9 value:RED} by_uint:{key:7 value:RED}`, `message.by_uint.map(k, k) == [7u, 9u] && dyn(9.0) in message.by_uint && !(dyn(9.5) in message.by_uint)`, met},
		{`by_uint:{key:18446744073709549568 value:RED}`, `dyn(18446744073709549568.0) in message.by_uint`, met},
		{`by_bool:{key:true value:"x"} by_bool:{key:false value:"y"}`, `message.by_bool[true] == b"x" && message.by_bool.map(k, k) == [false, true]`, met},
		{`labels:{key:"a" value:"b"}`, `type(message.labels) == map && dyn(message.labels) != dyn(1) && message.labels != {"a": "c"} && message.labels != {"c": "b"}`, met},
		{``, `!optional.ofNonZeroValue(message.labels).hasValue() && !optional.ofNonZeroValue(message.payload).hasValue() && optional.ofNonZeroValue(metadata).hasValue() == false`, met},
		{`payload:{name:"x"}`, `has(dyn(message).payload.name) && !has(dyn(message).payload.inner) && dyn(message).payload.name == "x"`, met},
		{`a_bool:true`, `(message.a_bool ? message.payload : null) == Payload{}`, met},
		{`by_name:{key:"a" value:{name:"x"}}`, `message.by_name["a"].name == "x"`, met},
		{`string_value:{value:"x"} int32_value:{value:3}`, `message.string_value == "x" && message.int32_value == 3 && message.uint64_value == null && !has(message.bool_value)`, met},
		{`string_values:{value:"x"}`, `message.string_values == ["x"]`, met},
		{`time:{seconds:1 nanos:5} duration:{seconds:-3 nanos:-1}`, `message.time == timestamp("1970-01-01T00:00:01.000000005Z") && message.duration < duration("-3s")`, met},
		{``, `message.time == timestamp(0) && message.duration == duration("0s")`, met},
		{`struct:{fields:{key:"a" value:{number_value:2}}}`, `message.struct.a == 2.0 && message.struct["a"] > 1`, met},
		{`value:{list_value:{values:{string_value:"x"}}}`, `message.value[0] == "x"`, met},
		{`list_value:{values:{bool_value:true}}`, `message.list_value[0]`, met},
		{``, `message.value == null && message.struct == {} && message.list_value == [] && message.any == null`, met},
		{`any:{type_url:"type.googleapis.com/demo.v1.Payload" value:"\n\x01x"}`, `message.any.name == "x" && message.any == Payload{name: "x"} && type(message.any) == Payload`, met},
		{`any:{type_url:"type.googleapis.com/google.protobuf.StringValue" value:"\n\x01x"}`, `message.any == "x"`, met},
		{`anys:{key:"a" value:{type_url:"x/demo.v1.Payload"}}`, `message.anys["a"] == Payload{}`, met},
		{`legacy:{id:"x" Extra:{note:"n"} Line:{text:"l"}}`, `message.legacy.extra.note == "n" && message.legacy.extra.level == 7 && message.legacy.line[0].text == "l" && message.legacy.greeting == "hello"`, met},
		{`any:{type_url:"x/google.protobuf.FieldMask" value:"\n\x01x"}`, `message.any.paths == ["x"]`, met},
		{``, `google.protobuf.StringValue{value: "x"} == "x" && google.protobuf.Timestamp{seconds: 1} == timestamp(1)`, met},
		{``, `All{left: "x", right: 1} == All{right: 1}`, met},
		{`legacy:{id:"x"}`, `message.legacy == old.Legacy{id: "x"} && message.legacy != old.Legacy{id: "y"}`, met},
		{`renamed:"x"`, `message.other == "x" && message.renamed == "x" && message.anInt32 == 0`, met},
		{``, `message == demo.v1.All{} && message == All{} && dyn(message).a_string == ""`, met},
		{`in:"x"`, "message.`in` == 'x'", met},
		{``, `message.?payload.?name.orValue("none") == "none" && message.?string_value.hasValue() == false`, met},
		{`a_string:"a,b"`, `message.a_string.split(",") == ["a", "b"] && message.a_string.upperAscii() == "A,B" && message.a_string.indexOf("b") == 2`, met},
		{`a_string:"abab"`, `message.a_string.replace("b", "c") == "acac" && message.a_string.replace("b", "c", 1) == "acab" && message.a_string.lastIndexOf("a") == 2`, met},
		{`strings:"x" strings:"y"`, `message.strings.join() == "xy" && message.strings.join("-") == "x-y" && sets.contains(message.strings, ["x"]) && sets.intersects(message.strings, ["y"]) && sets.equivalent(message.strings, ["y", "x"])`, met},
		{`a_bytes:"hi"`, `base64.encode(message.a_bytes) == "aGk="`, met},
		{`an_int32:5`, `math.greatest(message.an_int32, 3) == 5 && cel.bind(x, message.an_int32 * 2, x + x) == 20`, met},
		{`a_string:"abc"`, `message.a_string.matches("^a.c$") && matches(message.a_string, "b")`, met},
		{`a_string:"abc" left:"^a.c$"`, `message.a_string.matches(message.left)`, met},
		{``, `cidr("10.0.0.0/8").containsIP(peer_ip) && isIP(peer_ip)`, met},
		{`payload:{name:"x"}`, `type(message.payload) == Payload && message.payload != message.both`, met},

		{`a_string:"top secret"`, `message.labels[message.a_string] == "x"`, `if: column 15: no such key`},
		{``, `metadata["nothing"] == "x"`, `if: column 9: no such key`},
		{``, `1 / message.an_int32 == 1`, `if: column 3: division by zero`},
		{``, `1 % message.an_int32 == 1`, `if: column 3: modulus by zero`},
		{`an_int64:9223372036854775807`, `message.an_int64 + 1 > 0`, `if: column 18: integer overflow`},
		{``, `message.strings[2] == "x"`, `if: column 16: no element of that index`},
		{`a_string:"top secret"`, `int(message.a_string) == 1`, `if: column 4: a value cannot be converted`},
		{`a_string:"top secret"`, `timestamp(message.a_string) == timestamp(0)`, `if: column 10: it cannot be evaluated`},
		{`a_string:"(top secret"`, `"x".matches(message.a_string)`, `if: column 12: a regular expression is not valid`},
		{`value:{string_value:"top secret"}`, `message.value`, `if: the value is of type string, not bool`},
		{`value:{string_value:"top secret"}`, `message.value > 3`, `if: column 15: a value is of another type than it must be`},
		{`any:{type_url:"x/top.secret"}`, `message.any == null`, `if: column 8: a google.protobuf.Any holds a message that is not known, or broken`},
		{`any:{type_url:"x/demo.v1.Payload" value:"top secret"}`, `message.any == null`, `if: column 8: a google.protobuf.Any holds a message that is not known, or broken`},
		{`any:{type_url:"x/demo.v1.All" value:"\xc2\x02\x05\n\x01a\x08\x01"}`, `message.any == null`, `if: column 8: a google.protobuf.Any holds a message that is not known, or broken`},
		{`any:{type_url:"x/demo.v1.Payload"}`, `message.any.secret == "x"`, `if: column 12: no such field`},
		{``, `has(dyn(message).secret)`, `if: column 4: no such field`},
		{``, `dyn(message)[message.an_int32] == ""`, `if: column 13: no such field`},
		{``, `(message.a_bool ? message.payload : null).name == "x"`, `if: column 42: no such field`},
		{``, `dyn(message.labels)[1] == "x"`, `if: column 20: no such key`},
		{`time:{seconds:999999999999}`, `message.time > timestamp(0)`, `if: column 8: a time or duration is out of range`},
		{`duration:{seconds:999999999999}`, `message.duration > duration("0s")`, `if: column 8: a time or duration is out of range`},
		{``, `message.?string_value.value() == "x"`, `if: column 28: an optional value is not there`},
		{`an_int64:4294967296`, `Payload{count: message.an_int64}.count == 0`, `if: column 8: the value is out of the range of int32`},
		{``, "message.a_bool ||\n  1 / message.an_int32 == 1", `if: line 2, column 5: division by zero`},
	} {
		t.Run(test.condition, func(t *testing.T) {
			c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, If: test.condition, Reject: &Reject{Code: "ABORTED", Message: `"met"`}})
			got := c.pass(filter.Request, allMessage(t, test.message))
			if test.want != met && test.want != notMet {
				test.want = `INTERNAL: rule "test": ` + test.want
			}
			assert.Equal(t, test.want, got)
			assert.NotContains(t, got, "secret")
		})
	}
}

// TestCostOfMessages has steps that decode, compare or copy a message each time.
func TestCostOfMessages(t *testing.T) {
	m := allMessage(t, ``)
	field := func(name string) protoreflect.FieldDescriptor {
		return m.Descriptor().Fields().ByName(protoreflect.Name(name))
	}
	ints := m.Mutable(field("ints")).List()
	for i := range 2_000 {
		ints.Append(protoreflect.ValueOfInt32(int32(i)))
	}
	payload := m.Mutable(field("payload")).Message()
	tags := payload.Mutable(payload.Descriptor().Fields().ByName("tags")).List()
	for range 250 {
		tags.Append(protoreflect.ValueOfString(strings.Repeat("tag", 33)))
	}
	m.Mutable(field("payloads")).List().Append(protoreflect.ValueOfMessage(payload))
	packed, err := proto.Marshal(payload.Interface())
	require.NoError(t, err)
	any := m.Mutable(field("any")).Message()
	any.Set(number(any, 1), protoreflect.ValueOfString("x/demo.v1.Payload"))
	any.Set(number(any, 2), protoreflect.ValueOfBytes(packed))
	m.Mutable(field("anys")).Map().Set(protoreflect.ValueOfString("a").MapKey(), protoreflect.ValueOfMessage(any))
	json := m.Mutable(field("struct")).Message()
	for i := range 50 {
		value := json.NewField(number(json, 1)).Map().NewValue()
		value.Message().Set(number(value.Message(), 3), protoreflect.ValueOfString(strings.Repeat("x", 300)))
		json.Mutable(number(json, 1)).Map().Set(protoreflect.ValueOfString(strconv.Itoa(i)).MapKey(), value)
	}

	const tooLong = "it takes too long: cost limit exceeded"
	for condition, want := range map[string]string{
		`message.ints.all(i, message.any.count <= i)`:                                                   tooLong,
		`message.ints.all(i, message.anys.a.count <= i)`:                                                tooLong,
		`message.ints.all(i, message.anys.all(k, message.anys[k].count <= i))`:                          tooLong,
		`message.ints.all(i, dyn(message).any.count <= i)`:                                              tooLong,
		`message.ints.all(i, message.struct["1"] != string(i))`:                                         tooLong,
		`message.ints.all(i, message.payload == message.payloads[0])`:                                   tooLong,
		`message.ints.all(i, message.payloads == message.payloads)`:                                     tooLong,
		`message.ints.all(i, message.payload in message.payloads)`:                                      tooLong,
		`message.ints.all(i, Payload{inner: message.payload}.count == 0)`:                               tooLong,
		`message.ints.all(i, optional.ofNonZeroValue(message.payload).hasValue())`:                      tooLong,
		`message.ints.all(i, message.?payload == message.?payload)`:                                     tooLong,
		`message.ints.all(i, message.payloads.size() == 1 && message.payload.count == 0)`:               met,
		`message.ints.all(i, message.payloads.all(p, p.count <= i))`:                                    met,
		`cel.bind(a, message.any, message.ints.all(i, a.count <= i))`:                                   met,
		`message.any.count == 0 && message.struct["1"] != "" && message.payload == message.payloads[0]`: met,
	} {
		t.Run(condition, func(t *testing.T) {
			c := begin(t, method("Unary"), nil, rejects(filter.AtRequest, condition))
			got := c.pass(filter.Request, m)
			assert.Contains(t, got, want)
		})
	}
}

// TestTypesElsewhere finds messages by Types, and prefers a schema's own file to
// one of the same path that is linked into the program.
func TestTypesElsewhere(t *testing.T) {
	other := files["google/rpc/status.proto"].Messages().ByName("Other")
	in := dynamicpb.NewMessage(other)
	in.Set(other.Fields().ByName("secret"), protoreflect.ValueOfString("x"))
	packed, err := proto.Marshal(in)
	require.NoError(t, err)
	m := allMessage(t, `any:{type_url:"type.googleapis.com/elsewhere.Other"}`)
	any := m.Mutable(m.Descriptor().Fields().ByName("any")).Message()
	any.Set(any.Descriptor().Fields().ByName("value"), protoreflect.ValueOfBytes(packed))

	types := dynamicpb.NewTypes(registry(t))
	r := &Rule{Name: "test", On: filter.AtRequest, If: `message.any.secret == "x" && message.any == elsewhere.Other{secret: "x"}`, Set: map[string]string{"a_bool": "true"}}
	_, err = Compile(r, method("Unary"), nil)
	require.ErrorContains(t, err, `if: column 60: there is no message "elsewhere.Other"`)
	f, err := Compile(r, method("Unary"), types)
	require.NoError(t, err)
	c := beginWith(t, method("Unary"), nil, f)
	assert.Contains(t, c.pass(filter.Request, m), "a_bool:true")
}

// TestCost has messages that would take a rule minutes, or gigabytes.
func TestCost(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	m := allMessage(t, ``)
	set := func(name string, v protoreflect.Value) {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), v)
	}
	set("a_string", protoreflect.ValueOfString(long))
	set("left", protoreflect.ValueOfString(long))
	set("renamed", protoreflect.ValueOfString(strings.Repeat("a", 1000)))
	ints := m.Mutable(m.Descriptor().Fields().ByName("ints")).List()
	strs := m.Mutable(m.Descriptor().Fields().ByName("strings")).List()
	for i := range 50_000 {
		ints.Append(protoreflect.ValueOfInt32(int32(i)))
		strs.Append(protoreflect.ValueOfString("x"))
	}
	const tooLong = "it takes too long: cost limit exceeded"
	// Each expression has the whole limit to itself, if barely.
	costly := `message.ints.all(i, i >= 0) && message.ints.all(i, i >= 0)`
	c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, If: costly, Set: map[string]string{"a_bool": costly}, Clear: []string{"a_string", "left", "ints", "strings", "renamed"}})
	assert.Equal(t, "a_bool:true", c.pass(filter.Request, m))
	c = begin(t, method("Unary"), nil, rejects(filter.AtRequest, costly+" && "+costly))
	assert.Contains(t, c.pass(filter.Request, m), tooLong)

	for _, test := range []struct {
		condition string
		want      string // met, notMet or tooLong
	}{
		{`message.ints.all(i, i >= 0)`, met},
		{`message.ints.map(i, i + 1).size() == 50000`, met},
		{`message.ints.filter(i, i % 2 == 0).size() == 25000`, met},
		{`message.ints.exists_one(i, i == 7)`, met},
		{`message.a_string.contains("b" + message.renamed)`, notMet},
		{`message.a_string.indexOf("ab") == -1`, met},
		{`message.a_string.replace("a", "").size() == 0`, met},
		{`message.strings.join(", ").size() == 149998`, met},
		{`message.a_string.matches(message.renamed.substring(0, 10))`, met},

		{`message.ints.all(i, message.ints.all(j, i + j >= 0))`, tooLong},
		{`message.ints.all(i, i in message.ints)`, tooLong},
		{`message.ints.all(i, !message.a_string.contains("b"))`, tooLong},
		{`message.ints.all(i, (message.left + "x").size() > 0)`, tooLong},
		{`message.ints.map(i, message.a_string).join().size() > 0`, tooLong},
		{`message.ints.all(i, message.ints.map(j, j) != [])`, tooLong},
		{`message.ints.all(i, message.ints == message.ints)`, tooLong},
		{`message.ints.all(i, message.a_string.replace("b", "c") != "")`, tooLong},
		{`message.ints.all(i, has(message.payload) || message.labels == {} && i < 40000)`, notMet},
		{`message.ints.all(i, "aaaaaaaaaa".replace("a", "aaaaaaaaaa").replace("a", "aaaaaaaaaa").replace("a", "aaaaaaaaaa").replace("a", "aaaaaaaaaa") != "")`, tooLong},
		{`sets.contains(message.ints, message.ints)`, tooLong},
		{`sets.equivalent(message.ints, message.ints)`, tooLong},
		{`sets.intersects(message.ints, message.ints.map(i, -1))`, tooLong},
		{`message.a_string.replace("a", message.left).size() > 0`, tooLong},
		{`message.a_string.replace("", message.renamed).size() > 0`, tooLong},
		{`message.strings.join(message.renamed).size() > 0`, tooLong},
		{`message.a_string.indexOf(message.renamed + "b") < 0`, tooLong},
		{`message.a_string.lastIndexOf("b" + message.renamed) < 0`, tooLong},
		{`message.a_string.matches(message.renamed)`, tooLong},
		{`message.a_string.matches("(" + message.renamed.substring(0, 10) + "?){50}b")`, tooLong},
		{`matches("x", message.a_string)`, tooLong},
		{`cel.bind(a, message.a_string + message.a_string, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, cel.bind(e, d + d, e.size() > 0)))))`, tooLong},
		{`cel.bind(a, message.ints + message.ints, cel.bind(b, a + a + a + a, cel.bind(c, b + b + b + b, cel.bind(d, c + c + c + c, cel.bind(e, d + d + d + d, -1 in e)))))`, tooLong},
	} {
		t.Run(test.condition, func(t *testing.T) {
			c := begin(t, method("Unary"), nil, &Rule{Name: "test", On: filter.AtRequest, If: test.condition, Reject: &Reject{Code: "ABORTED", Message: `"met"`}})
			got := c.pass(filter.Request, m)
			if test.want == tooLong {
				assert.Contains(t, got, tooLong)
				return
			}
			assert.Equal(t, test.want, got)
		})
	}
}
