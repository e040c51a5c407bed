package openapi

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	live "github.com/kitexproxy/kitexproxy/handler/schema"
)

const head = `syntax = "proto3";
package a.b;
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/protobuf/any.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
`

// compile returns the services of a source, to which the head is added.
func compile(t testing.TB, source string) []protoreflect.ServiceDescriptor {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.proto")
	require.NoError(t, os.WriteFile(path, []byte(head+source), 0o600))
	s, err := live.Compile(t.Context(), []string{path}, nil)
	require.NoError(t, err)
	return slices.Collect(s.Services())
}

// written is a document as its readers see it.
type written struct{ all any }

func write(t testing.TB, info Info, services []protoreflect.ServiceDescriptor) written {
	t.Helper()
	b, left, err := Document(info, services)
	require.NoError(t, err)
	require.Empty(t, left)
	return parse(t, b)
}

func parse(t testing.TB, document []byte) (w written) {
	t.Helper()
	require.NoError(t, json.Unmarshal(document, &w.all))
	return w
}

// at returns what lies at the end of names, nil if there is nothing.
func (w written) at(names ...string) any {
	v := w.all
	for _, name := range names {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any: // of parameters
			i := slices.IndexFunc(in, func(p any) bool { return p.(map[string]any)["name"] == name })
			if i < 0 {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// operations returns "GET /path" of all, sorted.
func (w written) operations() []string {
	var all []string
	for path, item := range w.at("paths").(map[string]any) {
		for verb := range item.(map[string]any) {
			all = append(all, strings.ToUpper(verb)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// names returns those of the parameters of an operation, in order.
func (w written) names(path, verb string) []string {
	var all []string
	list, _ := w.at("paths", path, verb, "parameters").([]any)
	for _, p := range list {
		all = append(all, p.(map[string]any)["name"].(string))
	}
	return all
}

func (w written) schemas() []string {
	return slices.Sorted(maps.Keys(w.at("components", "schemas").(map[string]any)))
}
