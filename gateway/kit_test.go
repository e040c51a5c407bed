package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kitexproxy/kitexproxy/handler/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop has bindings of every kind. Its replies are its requests.
const shop = `syntax = "proto3";
package shop;
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Color { COLOR_UNSPECIFIED = 0; RED = 1; BLUE = 2; }
message Item {
  string name = 1;
  int64 big = 2;
  repeated string tags = 3;
  map<string, int32> counts = 4;
  Color color = 5;
  repeated Color colors = 6;
  map<string, Color> palette = 7;
  bytes blob = 8;
  google.protobuf.Timestamp at = 9;
  google.protobuf.Duration took = 10;
  google.protobuf.StringValue note = 11;
  google.protobuf.Any any = 12;
  google.protobuf.Struct extra = 13;
  Item parent = 14;
  repeated Item items = 15;
  oneof choice { string left = 16; Color right = 17; }
  double ratio = 18;
  bool ok = 19;
  google.protobuf.FieldMask update_mask = 20;
  google.api.HttpBody file = 21;
  uint32 small = 22;
  google.protobuf.Empty nothing = 23;
}
service Shop {
  rpc Get(Item) returns (Item) { option (google.api.http) = {
    get: "/v1/{name=shelves/*/items/*}"
    additional_bindings { get: "/v1/by-color/{color}/{parent.parent.big}" }
    additional_bindings { get: "/v1/tags/{tags}:list" }
    additional_bindings { get: "/v1/deep/{name=**}" }
    additional_bindings { custom { kind: "*" path: "/v1/any" } body: "*" }
  }; }
  rpc Search(Item) returns (Item) { option (google.api.http) = { get: "/v1/search" }; }
  rpc Create(Item) returns (Item) { option (google.api.http) = {
    post: "/v1/{name=shelves/*}/items" body: "parent"
    additional_bindings { put: "/v1/tags" body: "tags" }
    additional_bindings { put: "/v1/big" body: "big" }
  }; }
  rpc Update(Item) returns (Item) { option (google.api.http) = { patch: "/v1/items/{parent.name}" body: "parent" }; }
  rpc Echo(Item) returns (Item) { option (google.api.http) = { post: "/v1/echo:all" body: "*" }; }
  rpc Tags(Item) returns (Item) { option (google.api.http) = {
    post: "/v1/show/tags" body: "*" response_body: "tags"
    additional_bindings { post: "/v1/show/parent" body: "*" response_body: "parent" }
    additional_bindings { post: "/v1/show/big" body: "*" response_body: "big" }
    additional_bindings { post: "/v1/show/file" body: "*" response_body: "file" }
  }; }
  rpc Plain(Item) returns (Item);
  rpc Body(google.api.HttpBody) returns (google.api.HttpBody) { option (google.api.http) = { post: "/v1/body" body: "*" }; }
  rpc File(Item) returns (Item) { option (google.api.http) = { post: "/v1/file/{name}" body: "file" response_body: "file" }; }
  rpc Watch(Item) returns (stream Item) { option (google.api.http) = { get: "/v1/watch" }; }
  rpc Download(Item) returns (stream google.api.HttpBody) { option (google.api.http) = { get: "/v1/download" }; }
  rpc Upload(stream google.api.HttpBody) returns (Item) { option (google.api.http) = { post: "/v1/upload" body: "*" }; }
  rpc Collect(stream Item) returns (Item) { option (google.api.http) = { post: "/v1/collect" body: "*" }; }
  rpc Chat(stream Item) returns (stream Item) { option (google.api.http) = { post: "/v1/chat" body: "*" }; }
}
`

// compiled is shop, or another source, as a schema.
func compiled(t testing.TB, source string) *schema.Schema {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.proto"), []byte(source), 0o600))
	body := `syntax = "proto3"; package google.api; import "google/protobuf/any.proto";
message HttpBody { string content_type = 1; bytes data = 2; repeated google.protobuf.Any extensions = 3; }`
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "google/api"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "google/api/httpbody.proto"), []byte(body), 0o600))
	s, err := schema.Compile(t.Context(), []string{"shop.proto"}, []string{dir})
	require.NoError(t, err)
	return s
}

// backend is a grpc-go server that has the methods of a schema.
type backend struct {
	schema *schema.Schema
	conn   *grpc.ClientConn
	hold   chan struct{} // a Watch with "hold" waits for it after its first reply
	gone   chan struct{} // gets one when a call has been canceled

	mu       sync.Mutex
	metadata metadata.MD
	deadline bool
	request  proto.Message
}

func newBackend(t testing.TB, s *schema.Schema) *backend {
	t.Helper()
	b := &backend{schema: s, hold: make(chan struct{}), gone: make(chan struct{}, 100)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(b.serve))
	go func() { _ = server.Serve(ln) }() // ends with Stop
	t.Cleanup(server.Stop)
	b.conn, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.conn.Close() })
	return b
}

// rawMetadata is what cannot be in a header.
const rawMetadata = "\x00\xff\r\nSet-Cookie: a=b"

// seen returns what came with the last call.
func (b *backend) seen() (metadata.MD, proto.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.metadata, b.request
}

func (b *backend) serve(_ any, s grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(s)
	m := b.schema.Method(full)
	if m == nil {
		return status.Errorf(codes.Unimplemented, "no %s", full)
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	_, deadline := s.Context().Deadline()
	b.mu.Lock()
	b.metadata, b.deadline = md, deadline
	b.mu.Unlock()
	if err := s.SetHeader(metadata.Pairs("x-head", "h", "x-own", "o", "x-raw-bin", rawMetadata)); err != nil {
		return err
	}
	s.SetTrailer(metadata.Pairs("x-tail", "t", "x-end", "e", "x-raw-bin", rawMetadata))
	if err := failure(md); err != nil && !m.IsStreamingServer() {
		return err
	}
	switch m.Name() {
	case "Chat":
		return b.chat(s, m, md)
	case "Watch":
		return b.watch(s, m, md)
	case "Download":
		return b.download(s, m, md)
	case "Collect", "Upload":
		return b.collect(s, m)
	}
	req := dynamicpb.NewMessage(m.Input())
	if err := s.RecvMsg(req); err != nil {
		return err
	}
	b.mu.Lock()
	b.request = req
	b.mu.Unlock()
	return s.SendMsg(req)
}

// failure is what the client asks for by metadata: "fail" has the code.
func failure(md metadata.MD) error {
	if len(md["fail"]) == 0 {
		return nil
	}
	code, err := strconv.Atoi(md["fail"][0])
	if err != nil {
		return err
	}
	st := status.New(codes.Code(code), "failed as asked")
	switch {
	case len(md["unknown-detail"]) > 0:
		p := st.Proto()
		p.Details = append(p.Details, &anypb.Any{TypeUrl: "type.googleapis.com/no.Such", Value: []byte{1}})
		return status.ErrorProto(p)
	case len(md["detail"]) > 0:
		st, _ = st.WithDetails(durationpb.New(1e9))
	}
	return st.Err()
}

func (b *backend) chat(s grpc.ServerStream, m protoreflect.MethodDescriptor, md metadata.MD) error {
	for {
		req := dynamicpb.NewMessage(m.Input())
		err := s.RecvMsg(req)
		if errors.Is(err, io.EOF) {
			return failure(md)
		}
		if err == nil {
			err = s.SendMsg(req)
		}
		if err != nil {
			b.gone <- struct{}{}
			return err
		}
	}
}

// watch sends as many replies as "big" says.
func (b *backend) watch(s grpc.ServerStream, m protoreflect.MethodDescriptor, md metadata.MD) error {
	req := dynamicpb.NewMessage(m.Input())
	if err := s.RecvMsg(req); err != nil {
		return err
	}
	for i := range req.Get(m.Input().Fields().ByName("big")).Int() {
		reply := dynamicpb.NewMessage(m.Output())
		reply.Set(m.Output().Fields().ByName("big"), protoreflect.ValueOfInt64(i))
		if err := s.SendMsg(reply); err != nil {
			return err
		}
	}
	if len(md["hold"]) > 0 {
		select {
		case <-b.hold:
		case <-s.Context().Done():
			b.gone <- struct{}{}
			return s.Context().Err()
		}
	}
	return failure(md)
}

func (b *backend) download(s grpc.ServerStream, m protoreflect.MethodDescriptor, md metadata.MD) error {
	for _, part := range []string{"\x00one\n", "two\xff"} {
		reply := dynamicpb.NewMessage(m.Output())
		reply.Set(m.Output().Fields().ByName("content_type"), protoreflect.ValueOfString("image/x-test"))
		reply.Set(m.Output().Fields().ByName("data"), protoreflect.ValueOfBytes([]byte(part)))
		if err := s.SendMsg(reply); err != nil {
			return err
		}
	}
	return failure(md)
}

// collect says how many requests there were, and what their names or data are.
func (b *backend) collect(s grpc.ServerStream, m protoreflect.MethodDescriptor) error {
	reply := dynamicpb.NewMessage(m.Output())
	var all []string
	for {
		req := dynamicpb.NewMessage(m.Input())
		err := s.RecvMsg(req)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.gone <- struct{}{}
			return err
		}
		if f := m.Input().Fields().ByName("data"); f != nil {
			all = append(all, string(req.Get(f).Bytes()))
		} else {
			all = append(all, req.Get(m.Input().Fields().ByName("name")).String())
		}
	}
	fields := m.Output().Fields()
	reply.Set(fields.ByName("big"), protoreflect.ValueOfInt64(int64(len(all))))
	reply.Set(fields.ByName("name"), protoreflect.ValueOfString(strings.Join(all, "|")))
	return s.SendMsg(reply)
}

// started is a gateway on a socket, in front of a backend.
type started struct {
	*backend
	gateway *Gateway
	url     string
	client  *http.Client
}

func start(t testing.TB, opts Options) *started {
	t.Helper()
	s := compiled(t, shop)
	b := newBackend(t, s)
	opts.Conn = b.conn
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	g := New(opts)
	require.NoError(t, g.Use(slices.Collect(s.Services())))
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	client := server.Client()
	t.Cleanup(client.CloseIdleConnections)
	return &started{b, g, server.URL, client}
}

// answer is a response that has been read.
type answer struct {
	status  int
	body    string
	header  http.Header
	trailer http.Header
}

// do makes a request: "VERB /path", a body, and headers as "Name: value".
func (s *started) do(t testing.TB, what, body string, headers ...string) answer {
	t.Helper()
	resp := s.open(t, t.Context(), what, strings.NewReader(body), headers...)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, compact(string(b)), resp.Header, resp.Trailer}
}

func (s *started) open(t testing.TB, ctx context.Context, what string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	verb, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(ctx, verb, s.url+path, body)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	return resp
}

// compact takes the blanks out that protojson puts in at random.
func compact(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		prefix, object := "", line
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			prefix, object = "data: ", data
		}
		var b bytes.Buffer
		if json.Compact(&b, []byte(object)) == nil {
			lines[i] = prefix + b.String()
		}
	}
	return strings.Join(lines, "\n")
}

// lean has only what is set in replies.
func lean() Options { return Options{Marshal: &protojson.MarshalOptions{}} }

// serve puts a gateway on a socket, and returns its URL.
func serve(t testing.TB, g *Gateway) string {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server.URL
}
