package openapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// boundTo returns a service of one method, whose request has a field "name", also in
// messages "inner" of its own type.
func boundTo(t testing.TB, path string) protoreflect.ServiceDescriptor {
	t.Helper()
	options := new(descriptorpb.MethodOptions)
	proto.SetExtension(options, annotations.E_Http, &annotations.HttpRule{
		Pattern: &annotations.HttpRule_Post{Post: path}, Body: "*",
	})
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("f.proto"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Q"), Field: []*descriptorpb.FieldDescriptorProto{
			{
				Name: new("name"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			},
			{
				Name: new("inner"), Number: new(int32(2)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), TypeName: new(".Q"),
			},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("S"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: new("M"), InputType: new(".Q"), OutputType: new(".Q"), Options: options,
		}}}},
	}, nil)
	require.NoError(t, err)
	return f.Services().Get(0)
}

// FuzzPaths: whatever a backend says that its methods are bound to, the document has a
// parameter for each name in a path, and none besides.
func FuzzPaths(f *testing.F) {
	for _, path := range []string{
		"/", "/v1/{name}", "/v1/{name=shelves/*/books/**}:verb", "/{inner.inner.name=*}/*/**", "/v1/{name}/{inner.name=a/*/b/*}",
		"/v1/{name", "/v1/%7Bname%7D", "/v1/(a|b)/{name}", "/v1//x", "/v1/{name}:{name}",
		"/" + strings.Repeat("*/", 20) + "{inner" + strings.Repeat(".inner", 50) + ".name}",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		b, _, err := Document(Info{NoDefaultPOST: true}, []protoreflect.ServiceDescriptor{boundTo(t, path)})
		if err != nil {
			require.ErrorContains(t, err, "S.M")
			return
		}
		w := parse(t, b)
		require.Len(t, w.operations(), 1)
		at := strings.TrimPrefix(w.operations()[0], "POST ")
		require.True(t, strings.HasPrefix(at, "/"), at)
		var want []string
		for _, name := range parameterNames.FindAllString(at, -1) {
			want = append(want, strings.Trim(name, "{}"))
		}
		require.Equal(t, want, w.names(at, "post"))
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(want))), len(want), "names are unique")
		require.NotContains(t, parameterNames.ReplaceAllString(at, ""), "*")
	})
}
