package schema

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The import paths and the files are those of a Compile below the folder %.
func TestCompileFindsFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"a/one.proto":     `syntax = "proto3"; import "sub/two.proto"; service One { rpc Do(Two) returns (Two); }`,
		"a/sub/two.proto": `syntax = "proto3"; message Two {}`,
		"c/three.proto":   `syntax = "proto3"; message Three {}`,
		"c/c/three.proto": `syntax = "proto3"; message Decoy {}`,
		"b/sub/two.proto": `syntax = "proto3"; message Other {}`,
		"b/three.proto":   `syntax = "proto3"; message Three {}`,
	})
	t.Chdir(dir)
	for _, c := range []struct {
		name         string
		files, paths []string
		want         []string
		err          string
	}{
		{name: "below an import path", files: []string{"one.proto"}, paths: []string{"a"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "as it is", files: []string{"a/sub/../one.proto"}, paths: []string{"a"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "absolute file", files: []string{"%/a/one.proto"}, paths: []string{"a"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "absolute import path", files: []string{"a/one.proto"}, paths: []string{"%/a"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "without import paths", files: []string{"a/one.proto"}, want: []string{"one.proto", "sub/two.proto"}},
		{
			name: "without import paths, in two folders", files: []string{"a/one.proto", "b/three.proto"}, want: []string{"one.proto", "sub/two.proto", "three.proto"},
		},
		{name: "without import paths, only as it is", files: []string{"c/three.proto"}, want: []string{"three.proto"}},
		{name: "not clean", files: []string{"./a/../a/one.proto"}, paths: []string{"./a/"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "twice", files: []string{"one.proto", "a/one.proto"}, paths: []string{"a"}, want: []string{"one.proto", "sub/two.proto"}},
		{name: "the first import path wins", files: []string{"one.proto"}, paths: []string{"b", "a"}, err: `one.proto:1:65: method One.Do: unknown request type Two
one.proto:1:79: method One.Do: unknown response type Two`},
		{name: "none", err: "no .proto files are given"},
		{name: "not there", files: []string{"nine.proto", "one.proto", "ten.proto"}, paths: []string{"a", "b"}, err: `there is no file nine.proto, as it is or below the import paths a, b
there is no file ten.proto, as it is or below the import paths a, b`},
		{name: "not there, without import paths", files: []string{"a/nine.proto"}, err: "there is no file a/nine.proto"},
		{name: "a folder", files: []string{"a/sub"}, err: "there is no file a/sub"},
		{
			name: "elsewhere", files: []string{"b/three.proto"}, paths: []string{"a"},
			err: "b/three.proto does not lie below one of the import paths a",
		},
		{
			name: "hidden", files: []string{"b/sub/two.proto"}, paths: []string{"a", "b"},
			err: `b/sub/two.proto is hidden by a/sub/two.proto, which imports of "sub/two.proto" find before it; change the import paths`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			full := func(paths []string) (all []string) {
				for _, p := range paths {
					all = append(all, strings.ReplaceAll(p, "%", dir))
				}
				return all
			}
			s, err := Compile(safe(t), full(c.files), full(c.paths))
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			var got []string
			for _, path := range []string{"one.proto", "sub/two.proto", "three.proto", "a/one.proto", "c/three.proto"} {
				if _, err := s.Files().FindFileByPath(path); err == nil {
					got = append(got, path)
				}
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestCompileNamesAllThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name    string
		sources map[string]string
		err     string
	}{
		{
			name: "syntax, in two files, and imports",
			sources: map[string]string{
				"a.proto": "syntax = \"proto3\";\nimport \"none.proto\";\nimport \"b.proto\";\nimport \"../none.proto\";\nmessage A { int32 x }\n",
				"b.proto": "syntax = \"proto3\";\nmessage {}\n",
			},
			err: `a.proto:2:8: there is no file "none.proto" below the import paths %
a.proto:4:8: there is no file "../none.proto" below the import paths %
a.proto:5:21: syntax error: expecting ';'
b.proto:2:9: syntax error: unexpected '{'`,
		},
		{
			name: "types",
			sources: map[string]string{
				"a.proto": "syntax = \"proto3\";\nimport \"b.proto\";\nmessage A {\n  X x = 1;\n  Y y = 2;\n}\n",
				"b.proto": "syntax = \"proto3\";\nmessage B { Z z = 1; }\n",
			},
			err: `b.proto:2:13: field B.z: unknown type Z`, // what imports it is not looked at
		},
		{
			name:    "more than one type",
			sources: map[string]string{"a.proto": "syntax = \"proto3\";\nmessage A {\n  X x = 1;\n  Y y = 2;\n}\n"},
			err: `a.proto:3:3: field A.x: unknown type X
a.proto:4:3: field A.y: unknown type Y`,
		},
		{
			name: "a circle",
			sources: map[string]string{
				"a.proto": "syntax = \"proto3\";\nimport \"b.proto\";\n",
				"b.proto": "syntax = \"proto3\";\nimport \"a.proto\";\n",
			},
			err: `cycle found in imports: "`,
		},
		{
			name:    "itself",
			sources: map[string]string{"a.proto": "syntax = \"proto3\";\nimport \"a.proto\";\n"},
			err:     `a.proto:2:8: cycle found in imports: "a.proto" -> "a.proto"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, c.sources)
			_, err := Compile(safe(t), []string{"a.proto"}, []string{dir})
			require.Error(t, err)
			if c.name == "a circle" { // which of the two is found depends on chance
				assert.ErrorContains(t, err, c.err)
				return
			}
			assert.Equal(t, strings.ReplaceAll(c.err, "%", dir), err.Error())
		})
	}
}

// Import paths bound what sources can reach.
func TestCompileDoesNotLeaveTheImportPaths(t *testing.T) {
	dir := write(t, map[string]string{
		"in/a.proto":  "syntax = \"proto3\";\nimport \"../out.proto\";\n",
		"out.proto":   `syntax = "proto3";`,
		"in/dir/none": "",
	})
	in := filepath.Join(dir, "in")
	_, err := Compile(safe(t), []string{"a.proto"}, []string{in})
	require.EqualError(t, err, `a.proto:2:8: there is no file "../out.proto" below the import paths `+in)
}

func TestCompileEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	_, err := Compile(ctx, []string{"shop/shop.proto"}, []string{write(t, shop)})
	require.ErrorContains(t, err, "enough")
}

func TestCompileDoesNotReadWhatItMayNot(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := write(t, shop)
	require.NoError(t, os.Chmod(filepath.Join(dir, "shop/types.proto"), 0))
	_, err := Compile(safe(t), []string{"shop/shop.proto"}, []string{dir})
	require.ErrorIs(t, err, os.ErrPermission)
}

// OpenAPI documents are made of the comments.
func TestCompileKeepsComments(t *testing.T) {
	s := compile(t, shop, "shop/shop.proto")
	comment := func(d protoreflect.Descriptor) string {
		return strings.TrimSpace(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments)
	}
	m := s.Method("/shop.Shop/Buy")
	assert.Equal(t, "Buys one.", comment(m))
	assert.Equal(t, "Sells things.", comment(m.Parent()))
}

// annotated has an option of google.api.http, the file of which it does not have.
var annotated = map[string]string{
	"api.proto": `syntax = "proto3";
import "google/api/annotations.proto";
import "google/api/client.proto";
import "google/api/field_behavior.proto";
import "google/api/resource.proto";
import "google/protobuf/empty.proto";
service Api {
  rpc Get(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (google.api.http) = {get: "/v1/things" additional_bindings {post: "/v1/things" body: "*"}};
  }
}
`,
}

func requireRule(t *testing.T, s *Schema) {
	t.Helper()
	options := s.Method("/Api/Get").Options()
	require.True(t, proto.HasExtension(options, annotations.E_Http))
	rule := proto.GetExtension(options, annotations.E_Http).(*annotations.HttpRule)
	assert.Equal(t, "/v1/things", rule.GetGet())
	assert.Equal(t, "*", rule.GetAdditionalBindings()[0].GetBody())
}

func TestCompileHasStandardImports(t *testing.T) {
	s := compile(t, annotated, "api.proto")
	requireRule(t, s)
	for path := range annotationFiles {
		assert.NotNil(t, standard(path), path)
	}
}

// A project may bring its own copies of the standard imports.
func TestCompilePrefersFilesBelowTheImportPaths(t *testing.T) {
	s := compile(t, map[string]string{
		"a.proto":                     `syntax = "proto3"; import "google/protobuf/empty.proto"; message A { google.protobuf.Empty e = 1; }`,
		"google/protobuf/empty.proto": `syntax = "proto3"; package google.protobuf; message Empty { int32 own = 1; }`,
	}, "a.proto")
	assert.Equal(t, 1, message(t, s, "google.protobuf.Empty").Fields().Len())
}
