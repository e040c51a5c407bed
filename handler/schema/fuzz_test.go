package schema

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// exercise does with a schema what a proxy would: it must not panic, whatever the
// schema is. b is taken for a message of each type.
func exercise(t *testing.T, s *Schema, b []byte) {
	for name, m := range s.Methods() {
		require.NotNil(t, s.Method(name))
		for _, d := range []protoreflect.MessageDescriptor{m.Input(), m.Output()} {
			c := s.Codec(d)
			v, err := c.Unmarshal(b)
			if err != nil {
				require.NotContains(t, err.Error(), "panic")
				continue
			}
			_, err = c.Marshal(nil, v)
			if err != nil {
				require.NotContains(t, err.Error(), "panic")
			}
			_, _ = protojson.MarshalOptions{Resolver: s.Types()}.Marshal(v.(proto.Message))
		}
		_, _ = s.Types().FindMessageByName(m.Input().FullName())
		_, _ = s.Types().FindExtensionByNumber(m.Input().FullName(), 100)
		_ = m.ParentFile().SourceLocations().ByDescriptor(m)
	}
	require.True(t, s.same(s))
}

// seedFiles returns the files of the shop, made small: it takes long to find out
// what of a large seed matters.
func seedFiles(f *testing.F) []*descriptorpb.FileDescriptorProto {
	all := protosNamed(f, compile(f, shop, "shop/shop.proto"), shopFiles...)
	for _, p := range all {
		p.SourceCodeInfo = nil
	}
	return all
}

func FuzzRead(f *testing.F) {
	files := seedFiles(f)
	f.Add(setOf(f, files...), order())
	f.Add(setOf(f, files[1]), []byte{10, 1, 'x', 0x13, 8, 1, 0x14})
	f.Add(setOf(f, service("a.proto", "A")), []byte{})
	f.Add(setOf(f, file("a", "b"), file("b", "a")), []byte{})
	f.Add(setOf(f, lattice(8)...), []byte{})
	for _, edition := range []descriptorpb.Edition{descriptorpb.Edition_EDITION_2023, descriptorpb.Edition_EDITION_2024} {
		p := service("a.proto", "A")
		p.Syntax, p.Edition = proto.String("editions"), edition.Enum()
		p.MessageType[0].Field = []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("f"), Number: proto.Int32(1), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String("InA"),
			Options: &descriptorpb.FieldOptions{Features: &descriptorpb.FeatureSet{
				MessageEncoding: descriptorpb.FeatureSet_DELIMITED.Enum(), FieldPresence: descriptorpb.FeatureSet_LEGACY_REQUIRED.Enum(),
			}},
		}}
		f.Add(setOf(f, p), []byte{0x0b, 0x0c})
	}
	unknown := service(protodescTests+"a.proto", "A")
	unknown.Syntax = proto.String("editions")
	f.Add(setOf(f, unknown), []byte{})
	f.Fuzz(func(t *testing.T, set, message []byte) {
		s, err := parseSet(set)
		if err != nil {
			require.Nil(t, s)
			return
		}
		exercise(t, s, message)
	})
}

// recorded is a call on which all that a backend says has come already.
type recorded struct {
	in *bytes.Reader

	mu      sync.Mutex
	aborted int
}

func (r *recorded) Header() (*stream.Header, error) { return &stream.Header{}, nil }
func (r *recorded) Ready(int) bool                  { return true }
func (r *recorded) Write([]byte, bool) error        { return nil }
func (r *recorded) Flush()                          {}

func (r *recorded) Read(p []byte) error {
	_, err := io.ReadFull(r.in, p)
	return err
}

func (r *recorded) Trailer() *stream.Trailer {
	return &stream.Trailer{Status: stream.Status{Code: stream.Unimplemented}}
}

func (r *recorded) Abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted++
}

// script is all that a backend says in the course of a call.
func script(f *testing.F, answers ...*answer) []byte {
	var all []byte
	for _, a := range answers {
		b, err := proto.Marshal(a)
		require.NoError(f, err)
		all = append(all, rawh2.Frame(0, b)...)
	}
	return all
}

func FuzzReflect(f *testing.F) {
	files := seedFiles(f)
	f.Add(script(f, listing("shop.Shop", "shop.Admin"), giving(f, files...)), []byte{}, order())
	f.Add(script(f, listing("shop.Admin", "shop.Shop"), giving(f, files[1]), giving(f, files[0]), refusing(5, "no"), refusing(5, "no")), []byte{}, order())
	f.Add([]byte{}, script(f, listing("A"), giving(f, service("a.proto", "A"))), []byte{10, 0})
	f.Add(script(f, listing("A", "B"), givingBytes([]byte("garbage")), giving(f, service("b.proto", "B", "b.proto"))), []byte{}, []byte{})
	f.Add(script(f, listing("A"), giving(f, service("a.proto", "A", "b.proto")), refusing(5, ""), refusing(5, "")), []byte{}, []byte{})
	f.Add(script(f, listing("A"), listing("A")), []byte{}, []byte{})
	f.Add(script(f, refusing(12, "")), []byte{}, []byte{})
	f.Add(rawh2.Prefix(0, 1<<31), rawh2.Prefix(1, 0), []byte{})
	f.Fuzz(func(t *testing.T, v1, v1alpha, message []byte) {
		calls := map[string]*recorded{
			reflectionMethods[0]: {in: bytes.NewReader(v1)}, reflectionMethods[1]: {in: bytes.NewReader(v1alpha)},
		}
		opened := 0
		limits := Limits{Bytes: 64 << 10, Files: 64}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := Reflect(ctx, func(_ context.Context, req *stream.Request) (stream.Outbound, error) {
			opened++
			return calls[req.Method], nil
		}, limits)
		require.NoError(t, ctx.Err())
		aborted := 0
		for _, c := range calls {
			require.LessOrEqual(t, c.aborted, 1)
			aborted += c.aborted
		}
		require.Equal(t, opened, aborted)
		if err != nil {
			require.Nil(t, s)
			return
		}
		require.LessOrEqual(t, s.Files().NumFiles(), limits.Files)
		exercise(t, s, message)
	})
}
