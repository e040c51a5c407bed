package schema

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// service is a file with one service, the method of which takes the message In of
// the first file imported.
func service(path, name string, imports ...string) *descriptorpb.FileDescriptorProto {
	p := file(path, imports...)
	p.MessageType = []*descriptorpb.DescriptorProto{{Name: proto.String("In" + name)}}
	p.Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(name), Method: []*descriptorpb.MethodDescriptorProto{
		{Name: proto.String("Do"), InputType: proto.String(".In" + name), OutputType: proto.String(".In" + name)},
	}}}
	return p
}

// A service that cannot be had does not take the others along.
func TestReflectLeavesOutWhatCannotBeHad(t *testing.T) {
	badType := service("bad.proto", "Bad")
	badType.Service[0].Method[0].InputType = proto.String(".Nothing")
	goodByAnotherName := service("other.proto", "Good")
	differentGood := service("good.proto", "Good")
	differentGood.MessageType = append(differentGood.MessageType, &descriptorpb.DescriptorProto{Name: proto.String("More")})
	many := file("many.proto")
	for range 20 {
		many.Dependency = append(many.Dependency, strings.Repeat("long", 1000))
	}
	for _, c := range []struct {
		name    string
		service string // "Bad" if empty
		symbol  *answer
		files   map[string]*answer
		err     string
	}{
		{name: "an error", symbol: refusing(5, "no\nsuch\tsymbol"), err: "the backend answers NOT_FOUND: no such symbol"},
		{
			name: "an error of no known code", symbol: refusing(77, strings.Repeat("x", 1000)),
			err: "the backend answers 77: " + strings.Repeat("x", 300) + "...",
		},
		{name: "no name", service: "not-a-name/at all", err: "it is no name that a service in protobuf can have"},
		{name: "an empty name", service: "\x00", err: "it is no name that a service in protobuf can have"},
		{
			name: "the file of another service", symbol: giving(t, service("other.proto", "Other")),
			err: "the backend gives a file that does not declare it",
		},
		{name: "no file", symbol: givingBytes(), err: "the backend gives a file that does not declare it"},
		{
			name: "garbage", symbol: givingBytes([]byte("garbage")),
			err: "the backend gives a file that is no FileDescriptorProto: proto: cannot parse invalid wire-format data",
		},
		{
			name: "a file without a name", symbol: giving(t, &descriptorpb.FileDescriptorProto{}),
			err: "the backend gives a file that has no name",
		},
		{
			name: "a type that is not there", symbol: giving(t, badType),
			err: `bad.proto: proto: service method "Bad.Do" cannot resolve input: "Nothing" not found`,
		},
		{name: "a type that is not imported", symbol: giving(t, func() *descriptorpb.FileDescriptorProto {
			p := service("bad.proto", "Bad")
			p.Service[0].Method[0].InputType = proto.String(".InGood")
			return p
		}()), err: `bad.proto: proto: service method "Bad.Do" cannot resolve input: "InGood" not found`},
		{
			name: "a message for the service", symbol: giving(t, func() *descriptorpb.FileDescriptorProto {
				p := file("bad.proto")
				p.MessageType = []*descriptorpb.DescriptorProto{{Name: proto.String("Bad")}}
				return p
			}()), err: "the backend gives a file that does not declare it",
		},
		{
			name: "imports in a circle", symbol: giving(t, service("bad.proto", "Bad", "b.proto"), file("b.proto", "bad.proto")),
			err: "files import each other in a circle: bad.proto -> b.proto -> bad.proto",
		},
		{
			name: "imports that it refuses", symbol: giving(t, service("bad.proto", "Bad", "b.proto")), files: map[string]*answer{"b.proto": refusing(13, "no")},
			err: "bad.proto imports b.proto: the backend answers INTERNAL: no",
		},
		{
			name: "imports of another name", symbol: giving(t, service("bad.proto", "Bad", "b.proto")), files: map[string]*answer{"b.proto": giving(t, file("c.proto"))},
			err: "bad.proto imports b.proto: the backend gives another file instead",
		},
		{
			name: "imports that are garbage", symbol: giving(t, service("bad.proto", "Bad", "b.proto")), files: map[string]*answer{"b.proto": givingBytes([]byte{1})},
			err: "bad.proto imports b.proto: the backend gives a file that is no FileDescriptorProto: proto: cannot parse invalid wire-format data",
		},
		{name: "a package too long", symbol: giving(t, func() *descriptorpb.FileDescriptorProto {
			p := service("bad.proto", "Bad")
			p.Package = proto.String(strings.Repeat("p", maxName+1))
			return p
		}()), err: errLong(strings.Repeat("p", maxName+1)).Error()},
		{name: "a service of that name in a package", symbol: giving(t, func() *descriptorpb.FileDescriptorProto {
			p := service("bad.proto", "Bad")
			p.Package = proto.String("p")
			return p
		}()), err: "the backend gives a file that does not declare it"},
		{name: "one file too many", symbol: giving(t, service("bad.proto", "Bad"), goodByAnotherName), err: ""},
		{
			name: "another file for one that was given", symbol: giving(t, service("bad.proto", "Bad"), service("twice.proto", "A"), service("twice.proto", "B")),
			err: "the backend is not of one mind: there are two different files twice.proto",
		},
		{name: "an edition that ends the process", symbol: giving(t, func() *descriptorpb.FileDescriptorProto {
			p := service(protodescTests+"bad.proto", "Bad")
			p.Syntax = proto.String("editions")
			return p
		}()), err: protodescTests + "bad.proto: there are no editions in a folder of that name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.service == "" {
				c.service = "Bad"
			}
			s, err := Reflect(safe(t), liar(t, func(q *question) *answer {
				switch {
				case q.GetListServices() != "":
					return listing(c.service, "Good")
				case q.GetFileContainingSymbol() == "Good":
					return giving(t, service("good.proto", "Good"))
				case q.GetFileContainingSymbol() == c.service:
					return c.symbol
				}
				return c.files[q.GetFileByFilename()]
			}), Limits{})
			require.NoError(t, err)
			require.NotNil(t, s.Method("/Good/Do"))
			if c.err == "" {
				assert.Empty(t, s.Missing())
				return
			}
			assert.Equal(t, []string{"/Good/Do"}, methodNames(s))
			require.Len(t, s.Missing(), 1)
			assert.Equal(t, clip(c.service), s.Missing()[0].Service)
			assert.Equal(t, c.err, s.Missing()[0].Err.Error())
		})
	}
}

func TestReflectOfNothingButLies(t *testing.T) {
	_, err := Reflect(safe(t), liar(t, func(q *question) *answer {
		if q.GetListServices() != "" {
			return listing("a.A", "b.B")
		}
		return refusing(5, "not found")
	}), Limits{})
	require.EqualError(t, err, `server reflection: service a.A: the backend answers NOT_FOUND: not found
service b.B: the backend answers NOT_FOUND: not found`)
}

// What is wrong with the call itself ends all.
func TestReflectRefusesWhatIsNoAnswer(t *testing.T) {
	list := func(s *rawh2.Stream) bool {
		b, err := proto.Marshal(listing("Good"))
		return err == nil && s.Message(0, b) == nil
	}
	for _, c := range []struct {
		name string
		does func(s *rawh2.Stream, q *question) bool
		err  string
	}{
		{
			"no message", func(s *rawh2.Stream, _ *question) bool { return s.Message(0, []byte{1}) == nil }, "the backend's answer is no ServerReflectionResponse",
		},
		{
			"no answer in the message", func(s *rawh2.Stream, _ *question) bool { return s.Message(0, nil) == nil }, "the backend does not list its services, but answers with <nil>",
		},
		{
			"compressed", func(s *rawh2.Stream, _ *question) bool { return s.Message(1, nil) == nil }, "the backend's answer is compressed, which it was not asked to be",
		},
		{"half a prefix", func(s *rawh2.Stream, _ *question) bool {
			_ = s.Data([]byte{0, 0}, false)
			return s.Trailers(rawh2.F("grpc-status", "0")) == nil
		}, "ends inside a message"},
		{"half a message", func(s *rawh2.Stream, _ *question) bool {
			_ = s.Data(append(rawh2.Prefix(0, 100_000), make([]byte, 70_000)...), false)
			return s.Trailers(rawh2.F("grpc-status", "0")) == nil
		}, "ends inside a message"},
		{"a prefix and no message", func(s *rawh2.Stream, _ *question) bool {
			_ = s.Data(rawh2.Prefix(0, 100), false)
			return s.Trailers(rawh2.F("grpc-status", "0")) == nil
		}, "ends inside a message"},
		{"no trailers", func(s *rawh2.Stream, _ *question) bool { return s.Data(nil, true) == nil }, "the response ends without trailers"},
		{"a reset", func(s *rawh2.Stream, _ *question) bool { return s.Reset(http2.ErrCodeInternal) == nil }, "backend-reset"},
		{"the end of the connection", func(s *rawh2.Stream, _ *question) bool { s.Conn().Hangup(); return false }, "backend-disconnected"},
		{
			"an early end", func(s *rawh2.Stream, _ *question) bool { return s.Trailers(rawh2.F("grpc-status", "0")) == nil }, "the backend ends the call with OK: ",
		},
		{"a status", func(s *rawh2.Stream, _ *question) bool {
			return s.Trailers(rawh2.F("grpc-status", "7"), rawh2.F("grpc-message", "not you")) == nil
		}, "the backend ends the call with PERMISSION_DENIED: not you"},
		{"a list that is refused", func(s *rawh2.Stream, _ *question) bool {
			b, _ := proto.Marshal(refusing(12, "never"))
			return s.Message(0, b) == nil
		}, "the backend does not list its services: the backend answers UNIMPLEMENTED: never"},
		{
			"a list for a file", func(s *rawh2.Stream, _ *question) bool { return list(s) },
			"the backend is asked for a file, and answers with *grpc_reflection_v1.ServerReflectionResponse_ListServicesResponse",
		},
		{"UNIMPLEMENTED when it is late", func(s *rawh2.Stream, q *question) bool {
			if q.GetListServices() != "" {
				return list(s)
			}
			return s.Trailers(rawh2.F("grpc-status", "12")) == nil
		}, "the backend ends the call with UNIMPLEMENTED: "},
		{
			"a claim of 4 GiB", func(s *rawh2.Stream, _ *question) bool { return s.Data(rawh2.Prefix(0, 1<<32-1), false) == nil },
			"the backend's answers are longer than 33554432 bytes",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var opened int
			open := rawLiar(t, c.does)
			_, err := Reflect(safe(t), func(ctx context.Context, req *stream.Request) (stream.Outbound, error) {
				opened++
				return open(ctx, req)
			}, Limits{})
			require.ErrorContains(t, err, "server reflection: ")
			require.ErrorContains(t, err, c.err)
			assert.Equal(t, 1, opened, "v1alpha is for backends that do not have v1")
		})
	}
}

// An HTTP server that knows nothing of gRPC answers 404, which stands for
// UNIMPLEMENTED.
func TestReflectOfAWebServer(t *testing.T) {
	_, err := Reflect(safe(t), scripted(t, func(s *rawh2.Stream) {
		_ = s.Headers(rawh2.Fields{rawh2.F(":status", "404"), rawh2.F("content-type", "text/html")}, true)
	}), Limits{})
	require.EqualError(t, err, "the backend has no server reflection, neither v1 nor v1alpha")
}

func TestReflectStopsAtItsLimits(t *testing.T) {
	endless := func(q *question) *answer { // each file imports another one
		switch {
		case q.GetListServices() != "":
			return listing("S")
		case q.GetFileContainingSymbol() != "":
			return giving(t, service("0.proto", "S", "1.proto"))
		}
		var n int
		_, _ = fmt.Sscanf(q.GetFileByFilename(), "%d", &n)
		return giving(t, file(fmt.Sprint(n, ".proto"), fmt.Sprint(n+1, ".proto")))
	}
	none := func(q *question) *answer { // files that are not there, without end
		switch {
		case q.GetListServices() != "":
			return listing("S")
		case q.GetFileContainingSymbol() != "":
			p := service("0.proto", "S")
			for i := range 1000 {
				p.Dependency = append(p.Dependency, fmt.Sprint(i))
			}
			return giving(t, p)
		}
		return refusing(5, "")
	}
	atOnce := func(q *question) *answer {
		if q.GetListServices() != "" {
			return listing("S")
		}
		var all []*descriptorpb.FileDescriptorProto
		for i := range 1000 {
			all = append(all, file(fmt.Sprint(i)))
		}
		return giving(t, all...)
	}
	services := func(*question) *answer {
		var names []string
		for i := range 1000 {
			names = append(names, fmt.Sprint("S", i))
		}
		return listing(names...)
	}
	for _, c := range []struct {
		name    string
		answers func(*question) *answer
		limits  Limits
		err     string
	}{
		{"a file imports another, without end", endless, Limits{Files: 100}, "the backend names more than 100 files"},
		{"a file imports another, without end of bytes", endless, Limits{Bytes: 1000}, "the backend's answers are longer than 1000 bytes"},
		{"files that are not there", none, Limits{Files: 100}, "the backend names more than 100 files"},
		{"many files at once", atOnce, Limits{Files: 100}, "the backend names more than 100 files"},
		{"many services", services, Limits{Files: 100}, "the backend lists more than 100 services"},
		{"a long list", services, Limits{Bytes: 1000}, "the backend's answers are longer than 1000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Reflect(safe(t), liar(t, c.answers), c.limits)
			require.EqualError(t, err, "server reflection: "+c.err)
		})
	}
}

// Answers that nobody has asked for are not taken for those to other questions.
func TestReflectOfABackendThatTalksTooMuch(t *testing.T) {
	_, err := Reflect(safe(t), rawLiar(t, func(s *rawh2.Stream, q *question) bool {
		b, err := proto.Marshal(listing("Good"))
		return err == nil && s.Message(0, b) == nil && s.Message(0, b) == nil
	}), Limits{})
	require.ErrorContains(t, err, "the backend is asked for a file, and answers with")
}

// mute is a call that is open until it is aborted.
type mute struct {
	stream.Outbound
	aborted chan struct{}
}

func (m *mute) Write([]byte, bool) error { return nil }
func (m *mute) Flush()                   {}
func (m *mute) Abort()                   { close(m.aborted) }

func (m *mute) Read([]byte) error {
	<-m.aborted
	return &stream.Failure{}
}

// A backend that does not end the call when it is told to is not waited for.
func TestConversationDoesNotWaitForItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &mute{aborted: make(chan struct{})}
		c, err := openConversation(t.Context(), func(context.Context, *stream.Request) (stream.Outbound, error) { return out, nil }, "", 0)
		require.NoError(t, err)
		begun := time.Now()
		c.finish()
		c.close()
		assert.Equal(t, finishTimeout, time.Since(begun))
	})
}

// reserves claims a message of n bytes, and never gives it.
type reserves struct {
	stream.Outbound
	n     int
	begun bool
	most  int // the most bytes that have been asked for in one go
}

func (r *reserves) Read(p []byte) error {
	if !r.begun {
		r.begun = true
		copy(p, rawh2.Prefix(0, uint32(r.n)))
		return nil
	}
	r.most = max(r.most, len(p))
	return &stream.Failure{Reason: stream.BackendReset, Message: "that was all"}
}

func TestReflectReservesAsBytesCome(t *testing.T) {
	out := &reserves{n: 32 << 20}
	c := conversation{out: out, left: out.n, limit: out.n}
	_, err := c.read()
	require.EqualError(t, err, "backend-reset: that was all")
	assert.LessOrEqual(t, out.most, 128<<10)
}
