package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// file is a descriptor of a file that imports others.
func file(path string, imports ...string) *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{Name: proto.String(path), Syntax: proto.String("proto3"), Dependency: imports}
}

// public makes all imports of a file public.
func public(p *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	for i := range p.GetDependency() {
		p.PublicDependency = append(p.PublicDependency, int32(i))
	}
	return p
}

func linkFiles(ctx context.Context, files ...*descriptorpb.FileDescriptorProto) (*linker, error) {
	protos := make(map[string]*descriptorpb.FileDescriptorProto)
	for _, p := range files {
		protos[p.GetName()] = p
	}
	l := newLinker(ctx, protos, func(string) error { return errors.New("absent") })
	return l, l.all()
}

func nested(depth int, name string) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	if depth > 1 {
		m.NestedType = []*descriptorpb.DescriptorProto{nested(depth-1, name)}
	}
	return m
}

// Descriptors that would have protodesc end the process, take years, or take all
// memory: the test ends if they are refused in time.
func TestLinkerRefuses(t *testing.T) {
	long := strings.Repeat("n", maxName)
	message := func(p *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) *descriptorpb.FileDescriptorProto {
		p.MessageType = append(p.MessageType, m)
		return p
	}
	field := func(f *descriptorpb.FieldDescriptorProto) *descriptorpb.FileDescriptorProto {
		return message(file("a"), &descriptorpb.DescriptorProto{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{f}})
	}
	method := func(m *descriptorpb.MethodDescriptorProto) *descriptorpb.FileDescriptorProto {
		p := file("a")
		p.Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{m}}}
		return p
	}
	edition := func(path string) *descriptorpb.FileDescriptorProto {
		p := file(path)
		p.Syntax = proto.String("editions")
		return p
	}
	packaged := func(name string) *descriptorpb.FileDescriptorProto {
		p := file("a")
		p.Package = proto.String(name)
		return p
	}
	// half is small, but the names in it are not.
	half := func(path, prefix string) *descriptorpb.FileDescriptorProto {
		p := file(path)
		p.Package = proto.String(strings.Repeat("p", maxName-10))
		values := &descriptorpb.EnumDescriptorProto{Name: proto.String(prefix)}
		for i := range maxNames / (maxName - 10) / 2 {
			values.Value = append(values.Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String(fmt.Sprint(prefix, i)), Number: proto.Int32(int32(i))})
		}
		p.EnumType = []*descriptorpb.EnumDescriptorProto{values}
		return p
	}

	tooLong := fmt.Sprintf("a: the full name of %s... is longer than %d bytes", strings.Repeat("n", 300), maxName)
	for _, c := range []struct {
		name  string
		files []*descriptorpb.FileDescriptorProto
		err   string
	}{
		{
			"an edition that ends the process",
			[]*descriptorpb.FileDescriptorProto{edition(protodescTests + "x.proto")},
			protodescTests + "x.proto: there are no editions in a folder of that name",
		},
		{
			"an edition that is not known",
			[]*descriptorpb.FileDescriptorProto{edition("a")},
			"a: proto: use of edition EDITION_UNKNOWN not yet supported by the Go Protobuf runtime",
		},
		{"a long package", []*descriptorpb.FileDescriptorProto{packaged(long + "n")}, tooLong},
		{"a long message", []*descriptorpb.FileDescriptorProto{message(file("a"), nested(1, long))}, tooLong},
		{
			"messages in messages",
			[]*descriptorpb.FileDescriptorProto{message(file("a"), nested(9_000, "m"))},
			fmt.Sprintf("a: the full name of m is longer than %d bytes", maxName),
		},
		{
			"a long type", []*descriptorpb.FileDescriptorProto{field(&descriptorpb.FieldDescriptorProto{TypeName: proto.String(long + "n")})}, tooLong,
		},
		{
			"a long extendee", []*descriptorpb.FileDescriptorProto{field(&descriptorpb.FieldDescriptorProto{Extendee: proto.String(long + "n")})}, tooLong,
		},
		{"a long field", []*descriptorpb.FileDescriptorProto{field(&descriptorpb.FieldDescriptorProto{Name: proto.String(long)})}, tooLong},
		{
			"a long method", []*descriptorpb.FileDescriptorProto{method(&descriptorpb.MethodDescriptorProto{Name: proto.String(long)})}, tooLong,
		},
		{
			"a long input", []*descriptorpb.FileDescriptorProto{method(&descriptorpb.MethodDescriptorProto{InputType: proto.String(long + "n")})}, tooLong,
		},
		{
			"a long output", []*descriptorpb.FileDescriptorProto{method(&descriptorpb.MethodDescriptorProto{OutputType: proto.String(long + "n")})}, tooLong,
		},
		{"long names in all", []*descriptorpb.FileDescriptorProto{half("a", "a"), half("b", "b")}, "b: " + errNames.Error()},
		{"itself", []*descriptorpb.FileDescriptorProto{file("a", "a")}, "files import each other in a circle: a -> a"},
		{
			"a circle",
			[]*descriptorpb.FileDescriptorProto{file("a", "b"), file("b", "c"), file("c", "b")},
			"files import each other in a circle: b -> c -> b",
		},
		{"one file twice", []*descriptorpb.FileDescriptorProto{file("a", "b", "b"), file("b")}, `a: proto: already imported "b"`},
		{
			"what is absent", []*descriptorpb.FileDescriptorProto{file("a", "b", "c"), file("c", "b")}, "a imports b: absent\nc imports b: absent",
		},
		{
			"one name in two files",
			[]*descriptorpb.FileDescriptorProto{message(file("a"), nested(1, "M")), message(file("b"), nested(1, "M"))},
			"b: proto: file \"b\" has a name conflict over M",
		},
		{
			"syntax", []*descriptorpb.FileDescriptorProto{{Name: proto.String("a"), Syntax: proto.String("proto\n1")}}, `a: proto: invalid syntax: "proto\n1"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := linkFiles(t.Context(), c.files...)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.err)
			assert.Equal(t, strings.Count(c.err, "\n"), strings.Count(err.Error(), "\n"), "nothing else is wrong: %v", err)
		})
	}
}

// lattice has two files of each level import both of the one below, publicly.
func lattice(levels int) []*descriptorpb.FileDescriptorProto {
	all := []*descriptorpb.FileDescriptorProto{file("0a"), file("0b")}
	for i := 1; i < levels; i++ {
		a, b := fmt.Sprint(i-1, "a"), fmt.Sprint(i-1, "b")
		all = append(all, public(file(fmt.Sprint(i, "a"), a, b)), public(file(fmt.Sprint(i, "b"), a, b)))
	}
	return all
}

func TestLinkerCountsWaysOfPublicImports(t *testing.T) {
	_, err := linkFiles(t.Context(), lattice(100)...)
	require.ErrorContains(t, err, "too many ways lead to the files that its public imports bring along")
	_, err = linkFiles(t.Context(), lattice(15)...)
	require.NoError(t, err)
}

func TestLinkerBoundsChains(t *testing.T) {
	chain := func(n int) (all []*descriptorpb.FileDescriptorProto) {
		for i := range n - 1 {
			all = append(all, public(file(fmt.Sprintf("%06d", i), fmt.Sprintf("%06d", i+1))))
		}
		return append(all, file(fmt.Sprintf("%06d", n-1)))
	}
	_, err := linkFiles(t.Context(), chain(maxDepth)...)
	require.NoError(t, err)
	_, err = linkFiles(t.Context(), chain(maxDepth+1)...)
	require.EqualError(t, err, fmt.Sprintf("%06d: it is the last of %d files that import each other in a row", maxDepth, maxDepth+1))
}

func TestLinkerEndsWithItsContext(t *testing.T) {
	compiled := compile(t, shop, "shop/shop.proto")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := linkFiles(ctx, protosNamed(t, compiled, shopFiles...)...)
	require.ErrorContains(t, err, "enough")
}

// What can be had is had, whatever is wrong with the rest.
func TestLinkerLinksWhatIsRight(t *testing.T) {
	l, err := linkFiles(t.Context(), file("a", "b"), file("b", "none"), file("c", "d"), file("d"))
	require.EqualError(t, err, "b imports none: absent")
	var linked []string
	for _, p := range l.linked() {
		linked = append(linked, p.GetName())
	}
	assert.Equal(t, []string{"c", "d"}, linked)
	require.EqualError(t, l.link("a"), "b imports none: absent")
}

func TestLinkerDoesNotNoteEveryFault(t *testing.T) {
	p := file("a")
	for range 2 * maxFaults {
		p.Dependency = append(p.Dependency, "b")
	}
	l, err := linkFiles(t.Context(), p)
	assert.Len(t, l.faults, maxFaults)
	require.Equal(t, strings.Repeat("a imports b: absent\n", 50)+fmt.Sprintf("and %d more", maxFaults-50), err.Error())
}

func TestClip(t *testing.T) {
	assert.Equal(t, "plain", clip("plain"))
	assert.Equal(t, "two lines and a bell\ufffd", clip("two\nlines\u00a0and a bell\a"))
	assert.Equal(t, strings.Repeat("x", 300)+"...", clip(strings.Repeat("x", 301)))
	assert.Equal(t, strings.Repeat("x", 299)+"\ufffd...", clip(strings.Repeat("x", 299)+"ä"))
}
