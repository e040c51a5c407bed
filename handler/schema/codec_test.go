package schema

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// order is the encoding of a shop.Order with fields that the schema does not know.
func order() []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, "A1")
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendBytes(b, []byte("blob"))
	b = protowire.AppendTag(b, 999, protowire.BytesType)
	b = protowire.AppendString(b, "unknown")
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	return protowire.AppendBytes(b, protowire.AppendVarint(protowire.AppendTag(nil, 998, protowire.VarintType), 7))
}

func TestCodecKeepsWhatItDoesNotKnow(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(s.Method("/shop.Shop/Buy").Input())
	assert.Equal(t, "shop.Order", c.Name())

	m, err := c.Unmarshal(order())
	require.NoError(t, err)
	require.IsType(t, (*dynamicpb.Message)(nil), m)
	fields := c.(*codec).d.Fields()
	assert.Equal(t, "A1", m.(*dynamicpb.Message).Get(fields.ByName("id")).String())

	b, err := c.Marshal([]byte("before"), m)
	require.NoError(t, err)
	require.Equal(t, "before", string(b[:6]))
	again, err := c.Unmarshal(b[6:])
	require.NoError(t, err)
	assert.True(t, proto.Equal(m.(proto.Message), again.(proto.Message)))
	assert.Contains(t, string(b), "unknown")
	assert.Len(t, b[6:], len(order()))
}

// The relay uses the memory of a message again.
func TestCodecDoesNotReferToItsInput(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(message(t, s, "shop.Order"))
	in := order()
	m, err := c.Unmarshal(in)
	require.NoError(t, err)
	before, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.(proto.Message))
	require.NoError(t, err)
	for i := range in {
		in[i] = 0xff
	}
	after, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.(proto.Message))
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestCodecForwardsWithoutRequiredFields(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(message(t, s, "shop.Legacy"))
	m, err := c.Unmarshal(nil)
	require.NoError(t, err)
	b, err := c.Marshal(nil, m)
	require.NoError(t, err)
	assert.Empty(t, b)
}

func TestCodecKnowsExtensions(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	b := protowire.AppendString(protowire.AppendTag(nil, 100, protowire.BytesType), "more")
	m, err := s.Codec(message(t, s, "shop.Legacy")).Unmarshal(b)
	require.NoError(t, err)
	assert.Empty(t, m.(*dynamicpb.Message).GetUnknown())
	json, err := protojson.MarshalOptions{Resolver: s.Types(), AllowPartial: true}.Marshal(m.(proto.Message))
	require.NoError(t, err)
	assert.JSONEq(t, `{"[shop.extra]": "more"}`, string(json))
}

func TestAnyHoldsTypesOfTheSchemaAndOfTheProgram(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(message(t, s, "shop.Order"))
	inner, err := c.Unmarshal(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "B2"))
	require.NoError(t, err)
	for want, m := range map[string]proto.Message{
		`{"any": {"@type": "type.googleapis.com/shop.Order", "id": "B2"}}`:                 inner.(proto.Message),
		`{"any": {"@type": "type.googleapis.com/google.rpc.Status", "message": "no one"}}`: &rpcstatus.Status{Message: "no one"},
	} {
		boxed, err := anypb.New(m)
		require.NoError(t, err)
		b, err := proto.Marshal(boxed)
		require.NoError(t, err)
		outer, err := c.Unmarshal(protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), b))
		require.NoError(t, err)
		json, err := protojson.MarshalOptions{Resolver: s.Types()}.Marshal(outer.(proto.Message))
		require.NoError(t, err)
		assert.JSONEq(t, want, string(json))
	}
}

func TestCodecRefuses(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(message(t, s, "shop.Order"))
	_, err := c.Unmarshal([]byte{0x0a, 0x7f})
	require.Error(t, err)
	_, err = c.Marshal(nil, "text")
	require.EqualError(t, err, "a string is no proto.Message")
	_, err = c.Marshal(nil, dynamicpb.NewMessage(message(t, s, "shop.Receipt")))
	require.EqualError(t, err, "it is a message of type shop.Receipt")
	_, err = c.Marshal(nil, (*dynamicpb.Message)(nil))
	require.ErrorContains(t, err, "panic")
}

// One codec serves all calls of a method.
func TestCodecIsConcurrent(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	c := s.Codec(message(t, s, "shop.Legacy"))
	b := protowire.AppendString(protowire.AppendTag(nil, 100, protowire.BytesType), "more")
	const calls = 8
	results := make(chan error, calls)
	for range calls {
		go func() { // ends by itself
			m, err := c.Unmarshal(b)
			if err == nil {
				_, err = c.Marshal(nil, m)
			}
			results <- err
		}()
	}
	for range calls {
		require.NoError(t, <-results)
	}
}

var benchmarked any

func BenchmarkCodec(b *testing.B) {
	s := compile(b, shop, "shop/shop.proto")
	c, in := s.Codec(message(b, s, "shop.Order")), order()
	b.ReportAllocs()
	for b.Loop() {
		m, err := c.Unmarshal(in)
		if err != nil {
			b.Fatal(err)
		}
		if benchmarked, err = c.Marshal(nil, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMethod(b *testing.B) {
	s := compile(b, shop, "shop/shop.proto")
	var m protoreflect.MethodDescriptor
	for b.Loop() {
		m = s.Method("/shop.Shop/Buy")
	}
	benchmarked = m
}
