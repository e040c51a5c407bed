package schema

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// shopFiles are the files that the shop needs.
var shopFiles = []string{"shop/shop.proto", "shop/types.proto", "google/protobuf/any.proto", "google/protobuf/timestamp.proto"}

func protosNamed(t testing.TB, s *Schema, paths ...string) []*descriptorpb.FileDescriptorProto {
	var all []*descriptorpb.FileDescriptorProto
	for _, path := range paths {
		all = append(all, protoOf(t, s, path))
	}
	return all
}

// read has Read read b.
func read(t testing.TB, b []byte) (*Schema, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "set.binpb")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return Read(path)
}

func TestReadGivesWhatCompileDoes(t *testing.T) {
	compiled := compile(t, shop, "shop/shop.proto")
	s, err := read(t, setOf(t, protosNamed(t, compiled, shopFiles...)...))
	require.NoError(t, err)
	assert.True(t, s.same(compiled))
	assert.Equal(t, []string{"/shop.Admin/Stop", "/shop.Shop/Buy", "/shop.Shop/Watch"}, methodNames(s))

	twice := append(protosNamed(t, compiled, shopFiles...), protosNamed(t, compiled, shopFiles...)...)
	s, err = read(t, setOf(t, twice...))
	require.NoError(t, err)
	assert.True(t, s.same(compiled))
}

func TestReadDecodesGoogleAPIOptions(t *testing.T) {
	compiled := compile(t, annotated, "api.proto")
	s, err := read(t, setOf(t, protosNamed(t, compiled, "api.proto", "google/api/annotations.proto", "google/api/client.proto",
		"google/api/field_behavior.proto", "google/api/resource.proto", "google/protobuf/empty.proto", "google/api/http.proto",
		"google/api/launch_stage.proto", "google/protobuf/descriptor.proto", "google/protobuf/duration.proto")...))
	require.NoError(t, err)
	requireRule(t, s)
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	compiled := compile(t, shop, "shop/shop.proto")
	files := protosNamed(t, compiled, shopFiles...)
	other := proto.Clone(files[1]).(*descriptorpb.FileDescriptorProto)
	other.MessageType[0].Name = proto.String("Another")
	broken := proto.Clone(files[1]).(*descriptorpb.FileDescriptorProto)
	broken.MessageType[0].Field[0].TypeName = proto.String(".shop.Nothing")
	broken.MessageType[0].Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
	for _, c := range []struct {
		name string
		set  []byte
		err  string
	}{
		{"empty", nil, "it is no FileDescriptorSet in binary, or one without files"},
		{"source", []byte(shop["shop/shop.proto"]), "it is no FileDescriptorSet in binary: proto: cannot parse invalid wire-format data"},
		{"one file, not a set", setOf(t, files[0])[3:], "it is no FileDescriptorSet in binary"},
		{
			"a file without a name", setOf(t, &descriptorpb.FileDescriptorProto{}), "it is no FileDescriptorSet in binary, or one of files without names",
		},
		{
			"without imports", setOf(t, files[0]),
			`shop/shop.proto imports shop/types.proto: the set has no such file; build it with --include_imports
shop/shop.proto imports google/protobuf/any.proto: the set has no such file; build it with --include_imports
shop/shop.proto imports google/protobuf/timestamp.proto: the set has no such file; build it with --include_imports`,
		},
		{"two files of one name", setOf(t, append(files[1:], other)...), "there are two different files shop/types.proto"},
		{
			"a type that is not there", setOf(t, append(files[2:], files[0], broken)...),
			`shop/types.proto: proto: message field "shop.Legacy.must" cannot resolve type: "shop.Nothing" not found`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(t, c.set)
			require.Error(t, err)
			// The module protobuf has some of its spaces differ on purpose.
			text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
			assert.Contains(t, text, "set.binpb: "+c.err)
			if c.name != "one file, not a set" {
				assert.True(t, strings.HasSuffix(text, c.err), "nothing else is wrong: %s", text)
			}
		})
	}
}

func TestReadNeedsAFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Read(filepath.Join(dir, "none.binpb"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "none.binpb")
	_, err = Read(dir)
	require.ErrorContains(t, err, "is a directory")
}

func TestReadStopsAtTheLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.binpb")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(maxSet+1)) // which takes no space
	require.NoError(t, f.Close())
	_, err = Read(path)
	require.EqualError(t, err, "descriptor set: "+path+" is larger than 64 MiB")

	require.NoError(t, os.Truncate(path, maxSet))
	_, err = Read(path)
	require.ErrorContains(t, err, "it is no FileDescriptorSet")
}
