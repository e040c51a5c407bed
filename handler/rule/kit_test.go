package rule

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The schemas of the tests: every kind of field there is.
var sources = map[string]string{
	"all.proto": `
syntax = "proto3";
package demo.v1;

import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "old.proto";

enum Color { COLOR_UNKNOWN = 0; RED = 1; GREEN = 2; }

message Payload {
  string name = 1;
  bytes data = 2;
  int32 count = 3;
  Payload inner = 4;
  repeated string tags = 5;
  Color color = 6;
  repeated Payload items = 7;
}

message All {
  bool a_bool = 1;
  string a_string = 2;
  bytes a_bytes = 3;
  double a_double = 4;
  float a_float = 5;
  int32 an_int32 = 6;
  int64 an_int64 = 7;
  uint32 a_uint32 = 8;
  uint64 a_uint64 = 9;
  sint32 a_sint32 = 10;
  sint64 a_sint64 = 11;
  fixed32 a_fixed32 = 12;
  fixed64 a_fixed64 = 13;
  sfixed32 a_sfixed32 = 14;
  sfixed64 a_sfixed64 = 15;
  Color color = 16;
  Payload payload = 17;

  optional string maybe = 20;
  optional int32 maybe_int = 21;
  oneof choice {
    string left = 22;
    int32 right = 23;
    Payload both = 24;
  }

  repeated string strings = 30;
  repeated int32 ints = 31;
  repeated Payload payloads = 32;
  repeated Color colors = 33;
  repeated bytes blobs = 34;
  repeated double doubles = 35;
  map<string, string> labels = 40;
  map<int32, int64> numbers = 41;
  map<string, Payload> by_name = 42;
  map<uint64, Color> by_uint = 43;
  map<bool, bytes> by_bool = 44;

  google.protobuf.StringValue string_value = 50;
  google.protobuf.Int32Value int32_value = 51;
  google.protobuf.UInt64Value uint64_value = 52;
  google.protobuf.BoolValue bool_value = 53;
  google.protobuf.DoubleValue double_value = 54;
  google.protobuf.BytesValue bytes_value = 55;
  google.protobuf.Timestamp time = 56;
  google.protobuf.Duration duration = 57;
  google.protobuf.Struct struct = 58;
  google.protobuf.Value value = 59;
  google.protobuf.ListValue list_value = 60;
  google.protobuf.Any any = 61;
  google.protobuf.Empty empty = 62;
  repeated google.protobuf.StringValue string_values = 63;
  map<string, google.protobuf.Any> anys = 64;
  old.Legacy legacy = 70;
  string in = 71;
  string renamed = 72 [json_name = "other"];
}

service Demo {
  rpc Unary(All) returns (All);
  rpc Client(stream All) returns (Payload);
  rpc Server(All) returns (stream Payload);
  rpc Bidi(stream All) returns (stream All);
  rpc Wrapped(google.protobuf.StringValue) returns (google.protobuf.Empty);
}
`,
	"old.proto": `
syntax = "proto2";
package old;

enum Closed { NO = 0; YES = 3; }

message Legacy {
  required string id = 1;
  optional Closed closed = 2;
  optional group Extra = 3 { optional string note = 1; optional int32 level = 2 [default = 7]; }
  repeated group Line = 4 { optional string text = 1; }
  optional string greeting = 5 [default = "hello"];
}
`,
	// Not imported by all.proto, and of a path that the program itself has a
	// file for.
	"google/rpc/status.proto": `
syntax = "proto3";
package elsewhere;
message Other { string secret = 1; }
`,
}

var files = func() map[string]protoreflect.FileDescriptor {
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(sources),
	})}
	compiled, err := c.Compile(context.Background(), "all.proto", "old.proto", "google/rpc/status.proto")
	if err != nil {
		panic(err)
	}
	all := make(map[string]protoreflect.FileDescriptor)
	for _, f := range compiled {
		all[f.Path()] = f
	}
	return all
}()

// method returns a method of the service Demo.
func method(name string) protoreflect.MethodDescriptor {
	return files["all.proto"].Services().ByName("Demo").Methods().ByName(protoreflect.Name(name))
}

// allMessage returns the message All that a text has.
func allMessage(t testing.TB, text string) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(method("Unary").Input())
	require.NoError(t, prototext.Unmarshal([]byte(text), m))
	return m
}

func text(m proto.Message) string {
	return prototext.MarshalOptions{Multiline: false}.Format(m)
}

// codec makes dynamic messages.
type codec struct {
	md protoreflect.MessageDescriptor
}

func (c codec) Name() string { return string(c.md.FullName()) }

func (c codec) Unmarshal(b []byte) (any, error) {
	m := dynamicpb.NewMessage(c.md)
	return m, (&schema{types: new(protoregistry.Types)}).unmarshal(b, m)
}

func (c codec) Marshal(b []byte, m any) ([]byte, error) {
	return proto.MarshalOptions{AllowPartial: true, Deterministic: true}.MarshalAppend(b, m.(proto.Message))
}

// testCall is one call through the filters of some rules.
type testCall struct {
	*filter.Run
	t  testing.TB
	md protoreflect.MethodDescriptor
}

var peer = &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 4567}

// begin begins a call through rules.
func begin(t testing.TB, md protoreflect.MethodDescriptor, metadata stream.Metadata, rules ...*Rule) *testCall {
	t.Helper()
	var filters []*filter.Filter
	for _, r := range rules {
		f, err := Compile(r, md, nil)
		require.NoError(t, err)
		filters = append(filters, f)
	}
	return beginWith(t, md, metadata, filters...)
}

// beginWith begins a call through filters.
func beginWith(t testing.TB, md protoreflect.MethodDescriptor, metadata stream.Metadata, filters ...*filter.Filter) *testCall {
	t.Helper()
	chain := filter.NewChain("/demo.v1.Demo/"+string(md.Name()), codec{md.Input()}, codec{md.Output()}, md.IsStreamingClient(), md.IsStreamingServer())
	for _, f := range filters {
		chain.Add(f)
	}
	chain.AwaitFirst()
	run := chain.Begin(filter.CallInfo{
		Request: &stream.Request{Method: chain.Method(), Authority: "demo.example", Metadata: metadata},
		Peer:    peer, Cluster: "first", Route: "the route", Logger: slog.New(slog.DiscardHandler),
	})
	return &testCall{run, t, md}
}

// pass takes a message through the rules at request, and returns what becomes of
// it: the message as text, "as it came", "dropped", or the status that the call
// ends with.
func (c *testCall) pass(d filter.Direction, m proto.Message) string {
	c.t.Helper()
	b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
	require.NoError(c.t, err)
	out, err := c.Messages(context.Background(), d, b, nil)
	switch {
	case err != nil:
		return c.ended(err)
	case len(out) == 0:
		return "dropped"
	case out[0].Original:
		return "as it came"
	}
	md := c.md.Input()
	if d == filter.Response {
		md = c.md.Output()
	}
	changed, err := codec{md}.Unmarshal(out[0].Payload)
	require.NoError(c.t, err)
	return text(changed.(proto.Message))
}

// ended returns the status of a call that filters have ended.
func (c *testCall) ended(err error) string {
	c.t.Helper()
	var ended *filter.Ended
	var failed *stream.Failure
	if errors.As(err, &failed) {
		require.Equal(c.t, stream.FilterFailed, failed.Reason)
		return failed.Code.String() + ": " + failed.Message
	}
	require.ErrorAs(c.t, err, &ended)
	s := ended.Trailer.Status
	return s.Code.String() + ": " + s.Message
}

// start runs the rules at start.
func (c *testCall) start() string {
	c.t.Helper()
	if err := c.Start(context.Background()); err != nil {
		return c.ended(err)
	}
	return "goes on"
}

// metadata returns metadata of keys and values in turn.
func metadata(pairs ...string) stream.Metadata {
	var m stream.Metadata
	for i := 0; i < len(pairs); i += 2 {
		m = append(m, stream.Field{Key: pairs[i], Value: pairs[i+1]})
	}
	return m
}

// registry has all files of the tests.
func registry(t testing.TB) *protoregistry.Files {
	t.Helper()
	r := new(protoregistry.Files)
	for _, f := range files {
		require.NoError(t, r.RegisterFile(f))
	}
	return r
}
