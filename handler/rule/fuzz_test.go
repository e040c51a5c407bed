package rule

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// FuzzCompile compiles rules of any text. Nothing may panic; errors must be of
// type *Error and of one line; what Compile takes must be fine for Check; and what
// compiles must run.
func FuzzCompile(f *testing.F) {
	f.Add(uint8(1), `message.a_string.contains("x")`, "a_string", `"x"`, "", "", "", "", "")
	f.Add(uint8(1), `message.payloads.exists(p, p.name == "x")`, "payload.name", `message.a_string + "x"`, "payload.inner", "strings", "", "", "")
	f.Add(uint8(3), `header["x"] == "y" || number > 3`, "by_name", `{"a": Payload{count: message.an_int32}}`, "labels", "by_name.name", "", "", "")
	f.Add(uint8(0), `metadata["user"] == "ann"`, "", "", "", "", "x-user", `metadata_all["user"].join(",")`, "PERMISSION_DENIED")
	f.Add(uint8(2), `cidr("10.0.0.0/8").containsIP(peer_ip)`, "", "", "", "", "x-bin", `b"\xff"`, "")
	f.Add(uint8(4), `code == 14 && status_message.matches("^x")`, "", "", "", "", "x", `code_name`, "UNAVAILABLE")
	f.Add(uint8(1), `message.color == Color.RED`, "any", `Payload{}`, "choice", "legacy.extra.note", "", "", "")
	f.Add(uint8(1), "message.`in` == ''", "time", `message.time + duration("1s")`, "", "", "", "", "")
	f.Add(uint8(1), `cel.bind(x, message.?payload.?name, x.orValue("") == "")`, "value", `[1, null, {"a": message.payload}]`, "", "", "grpc-x", "1", "OK")
	f.Fuzz(func(t *testing.T, on uint8, condition, path, value, clear, redact, key, text, code string) {
		r := &Rule{Name: "fuzz", On: filter.Point(on % 6), If: condition}
		if path+value != "" {
			r.Set = map[string]string{path: value}
		}
		if clear != "" {
			r.Clear = []string{clear}
		}
		if redact != "" {
			r.Redact = []string{redact}
		}
		if key != "" {
			r.Metadata.Set = map[string]string{key: text}
		}
		if code != "" {
			r.Reject = &Reject{Code: code, Message: text}
		}
		checked := wrongs(t, Check(r))
		compiled, err := Compile(r, method("Bidi"), nil)
		if err != nil {
			require.NotEmpty(t, wrongs(t, err))
			require.Nil(t, compiled)
			return
		}
		require.Empty(t, checked, "Compile takes it")
		c := beginWith(t, method("Bidi"), metadata("user", "ann"), compiled)
		switch r.On {
		case filter.AtStart:
			require.NotContains(t, c.start(), "panicked")
		case filter.AtRequest, filter.AtResponse:
			d := filter.Request
			if r.On == filter.AtResponse {
				d = filter.Response
			}
			for _, m := range []string{``, `a_string:"x" an_int32:3 strings:"y" payload:{name:"z" inner:{}} by_name:{key:"k" value:{name:"v"}} labels:{key:"l"}`} {
				b, err := proto.Marshal(allMessage(t, m))
				require.NoError(t, err)
				if _, err = c.Messages(t.Context(), d, b, nil); err != nil {
					require.NotContains(t, c.ended(err), "panicked")
				}
			}
		case filter.AtHeader:
			if _, err := c.Header(t.Context(), &stream.Header{}); err != nil {
				require.NotContains(t, c.ended(err), "panicked")
			}
		case filter.AtEnd:
			require.NotContains(t, c.End(t.Context(), &stream.Trailer{}).Status.Message, "panicked")
		}
	})
}

// FuzzEvaluate takes any messages through fixed rules, and does by hand what the
// rules say.
func FuzzEvaluate(f *testing.F) {
	for _, seed := range []string{
		``, `a_string:"secret"`, `an_int64:2147483648`, `an_int64:-5 ints:1 ints:2`, `strings:"a" strings:"***"`,
		`payloads:{name:"x" tags:"y"} payloads:{}`, `labels:{key:"a" value:"b"} labels:{key:"c" value:"***"}`,
		`numbers:{key:1 value:2} numbers:{key:-3 value:9223372036854775807}`, `payload:{inner:{name:"x" count:7}}`,
		`left:"x"`, `right:5`, `maybe:""`, `string_value:{value:"x"}`, `string_value:{}`, `a_double:nan`, `legacy:{id:"x" Extra:{level:3}}`,
		`time:{seconds:1 nanos:2}`, `a_uint64:18446744073709551615`,
	} {
		b, err := proto.Marshal(allMessage(f, seed))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte("\xc2\x02\x05\n\x01a\x08\x01")) // makes package proto panic
	rules := []struct {
		rule Rule
		hand func(m byHand) (fails, changed bool)
	}{
		{
			Rule{If: `message.a_string.contains("secret") || message.an_int64 > 100 && !message.a_bool`, Reject: &Reject{Code: "ABORTED"}},
			func(m byHand) (bool, bool) {
				return strings.Contains(m.string("a_string"), "secret") || m.get("an_int64").Int() > 100 && !m.get("a_bool").Bool(), false
			},
		},
		{
			Rule{If: `message.ints.exists(i, i < 0) || message.labels.all(k, k.size() > 3) && has(message.payload.inner)`, Reject: &Reject{Code: "ABORTED"}},
			func(m byHand) (bool, bool) {
				negative, long := false, true
				for i := range m.get("ints").List().Len() {
					negative = negative || m.get("ints").List().Get(i).Int() < 0
				}
				m.get("labels").Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
					long = long && len([]rune(k.String())) > 3
					return true
				})
				return negative || long && byHand{m.get("payload").Message()}.has("inner"), false
			},
		},
		{
			Rule{Set: map[string]string{"an_int32": "message.an_int64", "a_uint64": "message.a_uint32", "maybe": "message.a_string"}},
			func(m byHand) (bool, bool) {
				n := m.get("an_int64").Int()
				if n < math.MinInt32 || n > math.MaxInt32 {
					return true, false
				}
				changed := m.get("an_int32").Int() != n || m.get("a_uint64").Uint() != m.get("a_uint32").Uint() ||
					!m.has("maybe") || m.string("maybe") != m.string("a_string")
				m.set("an_int32", protoreflect.ValueOfInt32(int32(n)))
				m.set("a_uint64", protoreflect.ValueOfUint64(m.get("a_uint32").Uint()))
				m.set("maybe", protoreflect.ValueOfString(m.string("a_string")))
				return false, changed
			},
		},
		{
			Rule{Set: map[string]string{"string_value": "message.string_value", "payload.inner.count": "message.ints.size()", "strings": "message.strings + message.payload.tags"}},
			func(m byHand) (bool, bool) {
				changed := !m.has("payload") || !byHand{m.get("payload").Message()}.has("inner")
				payload := byHand{m.Mutable(m.field("payload")).Message()}
				inner := byHand{payload.Mutable(payload.field("inner")).Message()}
				n := int64(m.get("ints").List().Len())
				changed = changed || inner.get("count").Int() != n || payload.get("tags").List().Len() > 0
				inner.set("count", protoreflect.ValueOfInt32(int32(n)))
				all := m.Mutable(m.field("strings")).List()
				for i := range payload.get("tags").List().Len() {
					all.Append(payload.get("tags").List().Get(i))
				}
				if m.has("string_value") { // unknown fields of a wrapper do not survive CEL
					old := m.get("string_value").Message()
					changed = changed || len(old.GetUnknown()) > 0
					old.SetUnknown(nil)
				}
				return false, changed
			},
		},
		{
			Rule{Redact: []string{"a_string", "strings", "payloads.name", "labels", "by_bool", "left"}, Clear: []string{"payload.inner", "numbers"}},
			func(m byHand) (bool, bool) {
				changed := m.has("numbers") || byHand{m.get("payload").Message()}.has("inner")
				if m.has("payload") {
					payload := byHand{m.get("payload").Message()}
					payload.Clear(payload.field("inner"))
				}
				m.Clear(m.field("numbers"))
				hide := func(old protoreflect.Value, set func(v protoreflect.Value)) {
					v := protoreflect.ValueOfString(mask)
					if _, ok := old.Interface().([]byte); ok {
						v = protoreflect.ValueOfBytes([]byte(mask))
					}
					if !old.Equal(v) {
						changed = true
						set(v)
					}
				}
				for _, name := range []string{"a_string", "left"} {
					if m.has(name) {
						hide(m.get(name), func(v protoreflect.Value) { m.set(name, v) })
					}
				}
				for i := range m.get("strings").List().Len() {
					hide(m.get("strings").List().Get(i), func(v protoreflect.Value) { m.get("strings").List().Set(i, v) })
				}
				for i := range m.get("payloads").List().Len() {
					if p := (byHand{m.get("payloads").List().Get(i).Message()}); p.has("name") {
						hide(p.get("name"), func(v protoreflect.Value) { p.set("name", v) })
					}
				}
				for _, name := range []string{"labels", "by_bool"} {
					m.get(name).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
						hide(v, func(v protoreflect.Value) { m.get(name).Map().Set(k, v) })
						return true
					})
				}
				return false, changed
			},
		},
	}
	md := method("Bidi")
	var filters []*filter.Filter
	for i := range rules {
		rules[i].rule.Name, rules[i].rule.On = "fuzz", filter.AtRequest
		compiled, err := Compile(&rules[i].rule, md, nil)
		require.NoError(f, err)
		filters = append(filters, compiled)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decoded, err := codec{md.Input()}.Unmarshal(b)
		if err != nil {
			return
		}
		in := decoded.(*dynamicpb.Message)
		for i := range rules {
			hand := proto.Clone(in).(*dynamicpb.Message)
			fails, changed := rules[i].hand(byHand{hand})
			out, err := beginWith(t, md, nil, filters[i]).Messages(t.Context(), filter.Request, b, nil)
			if fails {
				var ended *filter.Ended
				var failed *stream.Failure
				require.True(t, errors.As(err, &ended) || errors.As(err, &failed), "rule %d: %v", i, err)
				continue
			}
			require.NoError(t, err, "rule %d", i)
			require.Equal(t, !changed, out[0].Original, "rule %d: %s", i, text(in))
			if !changed {
				continue
			}
			made, err := codec{md.Input()}.Unmarshal(out[0].Payload)
			require.NoError(t, err)
			require.True(t, proto.Equal(hand, made.(proto.Message)), "rule %d: %s\nbecomes %s\nnot     %s", i, text(in), text(made.(proto.Message)), text(hand))
		}
	})
}

// byHand is a message whose fields go by name.
type byHand struct{ protoreflect.Message }

func (m byHand) field(name string) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(protoreflect.Name(name))
}
func (m byHand) get(name string) protoreflect.Value    { return m.Get(m.field(name)) }
func (m byHand) has(name string) bool                  { return m.Has(m.field(name)) }
func (m byHand) string(name string) string             { return m.get(name).String() }
func (m byHand) set(name string, v protoreflect.Value) { m.Set(m.field(name), v) }
