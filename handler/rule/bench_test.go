package rule

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// BenchmarkRule runs one rule on a message of 1 KiB that is decoded already. The
// chain that it runs in costs what "no rule" does.
func BenchmarkRule(b *testing.B) {
	// Payload has one string and one bytes field here.
	md := files["all.proto"].Messages().ByName("Payload")
	m := dynamicpb.NewMessage(md)
	m.Set(md.Fields().ByName("name"), protoreflect.ValueOfString(strings.Repeat("x", 512)))
	m.Set(md.Fields().ByName("data"), protoreflect.ValueOfBytes(make([]byte, 500)))
	for _, bench := range []struct {
		name string
		rule *Rule
	}{
		{"no rule", nil},
		{"contains", &Rule{If: `message.name.contains("secret")`, Redact: []string{"name"}}},
		{"metadata", &Rule{If: `metadata["x-user"] == "nobody"`, Redact: []string{"name"}}},
		{"no variable", &Rule{If: `false`, Redact: []string{"name"}}},
		{"set", &Rule{Set: map[string]string{"count": `message.count`}}},
		{"regular expression", &Rule{If: `message.name.matches("^y")`, Redact: []string{"name"}}},
		{"loop", &Rule{If: `message.tags.exists(t, t == "x")`, Redact: []string{"name"}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			chain := filter.NewChain("/demo.v1.Demo/Server", nil, decoded{m}, false, true)
			if bench.rule == nil {
				chain.Add(filter.New(chain.Method(), filter.AtResponse, "none", func(context.Context, *filter.Call, any) filter.Verdict { return filter.Forward }))
			} else {
				bench.rule.Name, bench.rule.On = "bench", filter.AtResponse
				f, err := Compile(bench.rule, method("Server"), nil)
				require.NoError(b, err)
				chain.Add(f)
			}
			run := chain.Begin(filter.CallInfo{
				Request: &stream.Request{Method: chain.Method(), Metadata: metadata("user-agent", "x", "x-user", "ann", "traceparent", "00-00")},
			})
			var out []filter.Message
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = run.Messages(context.Background(), filter.Response, nil, out[:0]); err != nil || !out[0].Original {
					b.Fatal(err, out)
				}
			}
		})
	}
}

// decoded is the codec of one message.
type decoded struct{ m *dynamicpb.Message }

func (d decoded) Name() string                            { return "decoded" }
func (d decoded) Unmarshal([]byte) (any, error)           { return d.m, nil }
func (d decoded) Marshal(b []byte, _ any) ([]byte, error) { return b, nil }

// BenchmarkCompile compiles one rule for one method.
func BenchmarkCompile(b *testing.B) {
	r := &Rule{Name: "bench", On: filter.AtRequest, If: `message.a_string.contains("secret")`, Redact: []string{"a_string"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(r, method("Unary"), nil); err != nil {
			b.Fatal(err)
		}
	}
}
