package schema

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// shop is two services in two files, and most that messages can consist of.
var shop = map[string]string{
	"shop/shop.proto": `syntax = "proto3";
package shop;
import "shop/types.proto";
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";

// Sells things.
service Shop {
  // Buys one.
  rpc Buy(Order) returns (Receipt);
  rpc Watch(stream Order) returns (stream Receipt);
}
message Order {
  string id = 1;
  bytes blob = 2;
  map<string, int32> counts = 3;
  google.protobuf.Any any = 4;
  google.protobuf.Timestamp at = 5;
  Order parent = 6;
}
message Receipt { Legacy legacy = 1; }
`,
	"shop/types.proto": `syntax = "proto2";
package shop;
service Admin { rpc Stop(Legacy) returns (Legacy); }
message Legacy {
  required string must = 1;
  extensions 100 to 200;
  optional group Inner = 2 { optional int32 n = 1; }
}
extend Legacy { optional string extra = 100; }
`,
}

func TestSchemaListsServicesAndMethods(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	assert.Equal(t, []string{"shop.Admin", "shop.Shop"}, serviceNamesOf(s))
	assert.Equal(t, []string{"/shop.Admin/Stop", "/shop.Shop/Buy", "/shop.Shop/Watch"}, methodNames(s))
	assert.Empty(t, s.Missing())

	m := s.Method("/shop.Shop/Watch")
	require.NotNil(t, m)
	assert.EqualValues(t, "shop.Shop.Watch", m.FullName())
	assert.EqualValues(t, "shop.Order", m.Input().FullName())
	assert.True(t, m.IsStreamingClient())
	for _, unknown := range []string{"", "/", "shop.Shop/Buy", "/shop.Shop/", "/shop.Shop/buy", "/shop.Order/Buy"} {
		assert.Nil(t, s.Method(unknown), unknown)
	}
	for name, m := range s.Methods() {
		assert.Same(t, s.Method(name), m)
		break // ranging ends early
	}
}

func TestMethodDoesNotAllocate(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = s.Method("/shop.Shop/Buy") }))
}

// What tells schemas apart is all that they say, and nothing else.
func TestSame(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	assert.True(t, s.same(compile(t, shop, "shop/types.proto", "shop/shop.proto")))
	assert.False(t, s.same(nil))
	assert.False(t, s.same(compile(t, shop, "shop/types.proto")))

	edited := maps.Clone(shop)
	edited["shop/shop.proto"] = strings.Replace(shop["shop/shop.proto"], "Sells things", "Sells everything", 1)
	assert.False(t, s.same(compile(t, edited, "shop/shop.proto")), "documents are made of comments")
	edited = maps.Clone(shop)
	edited["shop/types.proto"] += "message New {}\n"
	assert.False(t, s.same(compile(t, edited, "shop/shop.proto")))

	l := &linker{files: s.files}
	var services []protoreflect.ServiceDescriptor
	for d := range s.Services() {
		services = append(services, d)
	}
	all, fewer := newSchema(l, services, nil), newSchema(l, services[:1], nil)
	missing := newSchema(l, services[:1], []Missing{{Service: "shop.Shop"}})
	assert.False(t, all.same(fewer))
	assert.False(t, fewer.same(missing))
	assert.True(t, missing.same(newSchema(l, services[:1], []Missing{{"shop.Shop", assert.AnError}})))
}

func TestTypes(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	types := s.Types()

	own, err := types.FindMessageByURL("type.googleapis.com/shop.Order")
	require.NoError(t, err)
	assert.Same(t, message(t, s, "shop.Order"), own.Descriptor())
	assert.IsType(t, (*dynamicpb.Message)(nil), own.New().Interface())

	linked, err := types.FindMessageByURL("type.googleapis.com/google.rpc.Status")
	require.NoError(t, err, "what is part of the program")
	assert.NotNil(t, linked)
	_, err = types.FindMessageByName("google.rpc.Status")
	require.NoError(t, err)

	for _, name := range []protoreflect.FullName{"shop.Nothing", "", "..", "shop"} {
		_, err = types.FindMessageByName(name)
		assert.ErrorIs(t, err, protoregistry.NotFound, name)
		_, err = types.FindMessageByURL(string(name))
		assert.ErrorIs(t, err, protoregistry.NotFound, name)
	}
	_, err = types.FindMessageByName("shop.Shop")
	assert.ErrorContains(t, err, "want message")

	x, err := types.FindExtensionByNumber("shop.Legacy", 100)
	require.NoError(t, err)
	assert.EqualValues(t, "shop.extra", x.TypeDescriptor().FullName())
	x, err = types.FindExtensionByName("shop.extra")
	require.NoError(t, err)
	assert.EqualValues(t, 100, x.TypeDescriptor().Number())
	_, err = types.FindExtensionByNumber("shop.Legacy", 101)
	assert.ErrorIs(t, err, protoregistry.NotFound)
	_, err = types.FindExtensionByName("shop.nothing")
	assert.ErrorIs(t, err, protoregistry.NotFound)
}
