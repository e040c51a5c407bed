package schema

import (
	"github.com/bufbuild/protocompile"
	// The annotations of google.api.http become part of the program, so that
	// options that have them are decoded.
	_ "google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// annotationFiles are the files of the package of google.api.http.
var annotationFiles = map[string]bool{
	"google/api/annotations.proto":    true,
	"google/api/client.proto":         true,
	"google/api/field_behavior.proto": true,
	"google/api/field_info.proto":     true,
	"google/api/http.proto":           true,
	"google/api/launch_stage.proto":   true, // which client.proto imports
	"google/api/resource.proto":       true,
	"google/api/routing.proto":        true,
}

// protoc is what protoc brings along: google/protobuf/*.proto.
var protoc = protocompile.WithStandardImports(protocompile.ResolverFunc(
	func(string) (protocompile.SearchResult, error) {
		return protocompile.SearchResult{}, protoregistry.NotFound
	},
))

// standard returns a file that everybody may import without having it: one that
// comes with protoc, or google.api.http. It returns nil for all others.
func standard(path string) protoreflect.FileDescriptor {
	if annotationFiles[path] {
		if d, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
			return d
		}
	}
	found, err := protoc.FindFileByPath(path)
	if err != nil {
		return nil
	}
	return found.Desc
}
