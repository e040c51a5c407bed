package binding

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/schema"
)

// method returns the method of a service that has the given options.
func method(t testing.TB, options string) protoreflect.MethodDescriptor {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.proto"), []byte(sourceOf(options)), 0o600))
	s, err := schema.Compile(t.Context(), []string{"a.proto"}, []string{dir})
	require.NoError(t, err)
	return s.Method("/shop.Shop/Get")
}

func sourceOf(options string) string {
	return `syntax = "proto3";
package shop;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
message Book { string name = 1; Book parent = 2; repeated string tags = 3; map<string, string> labels = 4; google.protobuf.Timestamp at = 5; }
message Request { string id = 1; Book book = 2; repeated Book books = 3; }
service Shop { rpc Get(Request) returns (Book) { ` + options + ` } }
`
}

func TestBindingsOfAMethod(t *testing.T) {
	all, err := Of(method(t, `option (google.api.http) = {
		post: "/v1/{book.name=shelves/*/books/**}/x:read" body: "book" response_body: "tags"
		additional_bindings { get: "/v1/{id}" }
		additional_bindings { custom { kind: "HEAD" path: "/v1/*/{book.parent.at}:peek" } }
		additional_bindings { custom { kind: "*" path: "/" } body: "*" }
	};`))
	require.NoError(t, err)
	require.Len(t, all, 4)

	b := all[0]
	assert.Equal(t, "POST", b.Verb)
	assert.Equal(t, "read", b.Template.Verb)
	assert.Equal(t, "/v1/shelves/*/books/**/x:read", b.Template.Shape())
	require.Len(t, b.Template.Variables, 1)
	assert.Equal(t, "book.name", b.Template.Variables[0].Path)
	assert.Equal(t, "shelves/*/books/**", b.Template.Pattern(b.Template.Variables[0]))
	assert.EqualValues(t, "shop.Book.name", b.Template.Variables[0].Fields[1].FullName())
	assert.EqualValues(t, "shop.Request.book", b.BodyField[0].FullName())
	assert.EqualValues(t, "shop.Book.tags", b.ResponseField.FullName())

	assert.Equal(t, "GET", all[1].Verb)
	assert.Equal(t, "*", all[1].Template.Pattern(all[1].Template.Variables[0]))
	assert.Nil(t, all[1].ResponseField)
	assert.Equal(t, "HEAD", all[2].Verb)
	assert.Equal(t, "/v1/*/*:peek", all[2].Template.Shape())
	assert.Equal(t, AnyMethod, all[3].Verb)
	assert.Equal(t, "*", all[3].Body)
	assert.Equal(t, "/", all[3].Template.Shape())
}

func TestAMethodWithoutAnnotationHasNoBindings(t *testing.T) {
	for _, options := range []string{"", "option deprecated = true;"} {
		all, err := Of(method(t, options))
		require.NoError(t, err)
		assert.Empty(t, all)
	}
	d := Default(method(t, ""))
	assert.Equal(t, "/shop.Shop/Get", d.Template.Text)
	assert.Equal(t, "/shop.Shop/Get", d.Template.Shape())
}

func TestErrorsNameMethodAndField(t *testing.T) {
	for _, c := range []struct{ name, rule, err string }{
		{"no pattern", `body: "*"`, "it has no HTTP method with a path; write get, put, post, delete, patch or custom"},
		{"no path", `get: ""`, "it has no HTTP method with a path; write get, put, post, delete, patch or custom"},
		{"no slash", `get: "v1"`, `GET "v1": the path does not begin with /`},
		{"unknown variable", `get: "/v1/{nope}"`, `GET "/v1/{nope}": variable {nope}: message shop.Request has no field "nope"`},
		{"unknown nested variable", `get: "/{book.nope}"`, `GET "/{book.nope}": variable {book.nope}: message shop.Book has no field "nope"`},
		{"through a list", `get: "/{books.name}"`, `GET "/{books.name}": variable {books.name}: field shop.Request.books is no single message, and "name" cannot be a field of it`},
		{"a message", `get: "/{book}"`, `GET "/{book}": variable {book}: field shop.Request.book is a shop.Book, which no part of a path can be`},
		{"a map", `get: "/{book.labels}"`, `GET "/{book.labels}": variable {book.labels}: field shop.Book.labels is a map, which no part of a path can be`},
		{"body of a GET", `get: "/v1" body: "*"`, `GET "/v1": body "*": GET requests have no body`},
		{"unknown body", `post: "/v1" body: "nope"`, `POST "/v1": body "nope": message shop.Request has no field "nope"`},
		{"unknown response_body", `post: "/v1" response_body: "nope"`, `POST "/v1": response_body "nope": message shop.Book has no such field`},
		{"unclosed", `get: "/v1/{id"`, `GET "/v1/{id": "{id" is no variable: a } is missing, or something stands behind it`},
		{"empty segment", `get: "/v1//x"`, `GET "/v1//x": "" is neither a literal, *, ** nor a variable`},
		{"a variable in a variable", `get: "/{id={id}}"`, `GET "/{id={id}}": variable {id}: "{id}" is neither a literal, *, ** nor a variable`},
		{"twice", `get: "/{id}/{id}"`, `GET "/{id}/{id}": variable {id} stands in it twice`},
		{"** twice", `get: "/**/{id=**}"`, `GET "/**/{id=**}": ** stands in it twice, which leaves open how much is whose`},
		{"no field path", `get: "/{1x}"`, `GET "/{1x}": "1x" in "{1x}" is no path of a field`},
		{"verb", `get: "/v1:a b"`, `GET "/v1:a b": "a b" cannot be a verb`},
		{
			"nested additional bindings", `get: "/" additional_bindings { get: "/a" additional_bindings { get: "/b" } }`,
			"additional_bindings must not have further ones",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := Of(method(t, "option (google.api.http) = {"+c.rule+"};"))
			require.EqualError(t, err, "method shop.Shop.Get: google.api.http: "+c.err)
			assert.Nil(t, all)
		})
	}
}

func TestAllErrorsAreTold(t *testing.T) {
	_, err := Of(method(t, `option (google.api.http) = { get: "x" additional_bindings { get: "y" } };`))
	require.Error(t, err)
	assert.Len(t, strings.Split(err.Error(), "\n"), 2)
}

// A schema that came as a descriptor set may have options that were decoded without
// knowing the annotation.
func TestAnnotationInUnknownBytes(t *testing.T) {
	known := method(t, `option (google.api.http) = { get: "/v1/{id}" };`)
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(known.ParentFile()))
	require.NoError(t, err)
	file := new(descriptorpb.FileDescriptorProto)
	require.NoError(t, proto.UnmarshalOptions{Resolver: new(protoregistry.Types)}.Unmarshal(b, file))
	d, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	require.NoError(t, err)
	m := d.Services().Get(0).Methods().Get(0)
	require.NotEmpty(t, m.Options().ProtoReflect().GetUnknown())

	all, err := Of(m)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, "/v1/{id}", all[0].Template.Text)
}

// The compiler decodes options by the annotations.proto that it was given, which
// makes the annotation a dynamic message.
func TestAnnotationAsDynamicMessage(t *testing.T) {
	sources := map[string]string{"a.proto": sourceOf(`option (google.api.http) = { get: "/v1/{id}" };`)}
	for _, path := range []string{"google/api/annotations.proto", "google/api/http.proto"} {
		d, err := protoregistry.GlobalFiles.FindFileByPath(path)
		require.NoError(t, err)
		sources[path] = string(must(proto.Marshal(protodesc.ToFileDescriptorProto(d))))
	}
	resolver := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		switch text, ok := sources[path]; {
		case path == "a.proto":
			return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
		case ok:
			p := new(descriptorpb.FileDescriptorProto)
			return protocompile.SearchResult{Proto: p}, proto.Unmarshal([]byte(text), p)
		}
		return protocompile.SearchResult{}, protoregistry.NotFound
	})
	files, err := (&protocompile.Compiler{Resolver: protocompile.WithStandardImports(resolver)}).Compile(t.Context(), "a.proto")
	require.NoError(t, err)
	m := files[0].Services().Get(0).Methods().Get(0)
	require.NotEmpty(t, protoutil.ProtoFromMethodDescriptor(m).GetOptions())

	all, err := Of(m)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, "/v1/{id}", all[0].Template.Text)
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// Whatever is a template here must be one for the library that routes by it.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"/", "/v1/{a.b=c/*}/**:verb", "/{a}:b:c", "/a:b", "/{a=**}", "/%2f", "//", "/{a=b:c}/d", "/a:b/c:d", "/:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		mux := runtime.NewServeMux()
		require.NoError(t, mux.HandlePath("GET", text, nil))
		assert.True(t, strings.HasPrefix(parsed.Shape(), "/"))
		for _, v := range parsed.Variables {
			assert.NotEmpty(t, parsed.Pattern(v))
		}
	})
}
