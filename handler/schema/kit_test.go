package schema

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

func safe(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	t.Cleanup(cancel)
	return ctx
}

// write makes files in a new folder, and returns its path.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

// compile returns the schema of sources that are right.
func compile(t testing.TB, sources map[string]string, files ...string) *Schema {
	t.Helper()
	s, err := Compile(safe(t), files, []string{write(t, sources)})
	require.NoError(t, err)
	return s
}

// protoOf returns a file of a schema as it crosses the wire.
func protoOf(t testing.TB, s *Schema, path string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	f, err := s.Files().FindFileByPath(path)
	require.NoError(t, err)
	return protodesc.ToFileDescriptorProto(f)
}

// setOf returns files as a descriptor set.
func setOf(t testing.TB, files ...*descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	require.NoError(t, err)
	return b
}

func methodNames(s *Schema) []string {
	var names []string
	for name := range s.Methods() {
		names = append(names, name)
	}
	return names
}

func serviceNamesOf(s *Schema) []string {
	var names []string
	for d := range s.Services() {
		names = append(names, string(d.FullName()))
	}
	return names
}

func message(t testing.TB, s *Schema, name protoreflect.FullName) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := s.Files().FindDescriptorByName(name)
	require.NoError(t, err)
	return d.(protoreflect.MessageDescriptor)
}

// opener opens real calls to a backend. All of them have to have been aborted when
// the test ends.
func opener(t testing.TB, address string) Opener {
	b := h2grpc.NewBackends(h2grpc.Options{
		Options:      upstream.Options{ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler)},
		StreamWindow: 64 << 10, ConnectionWindow: 256 << 10, MaxHeaderList: 64 << 10,
	})
	t.Cleanup(b.Close)
	return counted(t, func(ctx context.Context, req *stream.Request) (stream.Outbound, error) {
		req.Authority = "backend.example"
		return b.Open(ctx, "c", address, req)
	})
}

// counted checks that each call that is opened is aborted before the test ends,
// and that no two are open at a time.
func counted(t testing.TB, open Opener) Opener {
	var calls atomic.Int64
	t.Cleanup(func() { assert.Zero(t, calls.Load(), "calls that have not been aborted") })
	return func(ctx context.Context, req *stream.Request) (stream.Outbound, error) {
		out, err := open(ctx, req)
		if err != nil {
			return nil, err
		}
		assert.EqualValues(t, 1, calls.Add(1))
		return &countedOutbound{Outbound: out, t: t, calls: &calls}, nil
	}
}

// countedOutbound also checks that nothing is waited for before it is sent.
type countedOutbound struct {
	stream.Outbound
	t       testing.TB
	calls   *atomic.Int64
	aborted atomic.Bool
	queued  bool // something that has not been flushed
}

func (c *countedOutbound) Write(b []byte, last bool) error {
	c.queued = true
	return c.Outbound.Write(b, last)
}

func (c *countedOutbound) Flush() {
	c.queued = false
	c.Outbound.Flush()
}

func (c *countedOutbound) Read(p []byte) error {
	assert.False(c.t, c.queued, "what has been written has not been flushed")
	return c.Outbound.Read(p)
}

func (c *countedOutbound) Abort() {
	if c.aborted.CompareAndSwap(false, true) {
		c.calls.Add(-1)
	}
	c.Outbound.Abort()
}

type (
	question = reflection.ServerReflectionRequest
	answer   = reflection.ServerReflectionResponse
)

// liar starts a backend that answers each question of server reflection v1 as
// answers says, and returns an Opener of calls to it. It ends the call with OK
// when its client does.
func liar(t testing.TB, answers func(q *question) *answer) Opener {
	return rawLiar(t, func(s *rawh2.Stream, q *question) bool {
		b, err := proto.Marshal(answers(q))
		return err == nil && s.Message(0, b) == nil
	})
}

// rawLiar is liar with answers that need not be messages. does reports whether
// there is to be another one.
func rawLiar(t testing.TB, does func(s *rawh2.Stream, q *question) bool) Opener {
	return scripted(t, func(s *rawh2.Stream) {
		if s.Headers(rawh2.ResponseFields(), false) != nil {
			return
		}
		var b []byte
		for {
			data, last, err := s.NextData(s.Context())
			if err != nil {
				return
			}
			var questions [][]byte
			questions, b = rawh2.Messages(append(b, data...))
			for _, bytes := range questions {
				q := new(question)
				if proto.Unmarshal(bytes, q) != nil || !does(s, q) {
					return
				}
			}
			if last {
				_ = s.Trailers(rawh2.F("grpc-status", "0"))
				return
			}
		}
	})
}

// scripted starts a raw HTTP/2 backend, and returns an Opener of calls to it.
func scripted(t testing.TB, script func(*rawh2.Stream)) Opener {
	t.Helper()
	backend, err := rawh2.Listen("", rawh2.Options{}, script)
	require.NoError(t, err)
	t.Cleanup(backend.Close)
	return opener(t, backend.Addr())
}

// listing answers with the names of services.
func listing(names ...string) *answer {
	list := new(reflection.ListServiceResponse)
	for _, name := range names {
		list.Service = append(list.Service, &reflection.ServiceResponse{Name: name})
	}
	return &answer{MessageResponse: &reflection.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}}
}

// giving answers with files.
func giving(t testing.TB, files ...*descriptorpb.FileDescriptorProto) *answer {
	var all [][]byte
	for _, f := range files {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(f)
		assert.NoError(t, err)
		all = append(all, b)
	}
	return givingBytes(all...)
}

func givingBytes(files ...[]byte) *answer {
	return &answer{MessageResponse: &reflection.ServerReflectionResponse_FileDescriptorResponse{
		FileDescriptorResponse: &reflection.FileDescriptorResponse{FileDescriptorProto: files},
	}}
}

// refusing answers with an error.
func refusing(code stream.Code, message string) *answer {
	return &answer{MessageResponse: &reflection.ServerReflectionResponse_ErrorResponse{
		ErrorResponse: &reflection.ErrorResponse{ErrorCode: int32(code), ErrorMessage: message},
	}}
}
