package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Schema is a set of services and of the types of their messages. It is
// immutable, and its methods may be called concurrently.
type Schema struct {
	files    *protoregistry.Files
	types    *Types
	services []protoreflect.ServiceDescriptor // by name
	methods  map[string]protoreflect.MethodDescriptor
	names    []string // of methods, sorted
	missing  []Missing
	sum      [sha256.Size]byte // equal if all of the above says the same
}

// Missing is a service that a backend has, and that the schema has not.
type Missing struct {
	Service string
	Err     error // why
}

// newSchema returns the schema of services and all files that are linked.
func newSchema(l *linker, services []protoreflect.ServiceDescriptor, missing []Missing) *Schema {
	s := &Schema{
		files: l.files, types: newTypes(l.files), missing: missing,
		services: slices.SortedFunc(slices.Values(services), func(a, b protoreflect.ServiceDescriptor) int {
			return strings.Compare(string(a.FullName()), string(b.FullName()))
		}),
		methods: make(map[string]protoreflect.MethodDescriptor),
	}
	for _, service := range s.services {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			s.methods["/"+string(service.FullName())+"/"+string(m.Name())] = m
		}
	}
	s.names = slices.Sorted(maps.Keys(s.methods))
	s.sum = s.digest(l.linked())
	return s
}

// digest returns what tells the schema from others.
func (s *Schema) digest(linked []*descriptorpb.FileDescriptorProto) (sum [sha256.Size]byte) {
	h := sha256.New()
	add := func(b []byte) { // with its length, so that no two lists look the same
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b)))) // a hash takes everything
		_, _ = h.Write(b)
	}
	for _, p := range linked {
		b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(p)
		if err != nil { // it was unmarshalled, and has not been changed
			b = []byte(err.Error())
		}
		add(b)
	}
	add(nil)
	for _, service := range s.services {
		add([]byte(service.FullName()))
	}
	add(nil)
	for _, m := range s.missing {
		add([]byte(m.Service))
	}
	h.Sum(sum[:0])
	return sum
}

// same reports whether the two schemas say the same. Why services are missing
// makes no difference.
func (s *Schema) same(other *Schema) bool { return other != nil && s.sum == other.sum }

// Method returns the method with that full name, "/package.Service/Method"; nil
// if there is none.
func (s *Schema) Method(full string) protoreflect.MethodDescriptor { return s.methods[full] }

// Methods ranges over all methods by full name, sorted.
func (s *Schema) Methods() iter.Seq2[string, protoreflect.MethodDescriptor] {
	return func(yield func(string, protoreflect.MethodDescriptor) bool) {
		for _, name := range s.names {
			if !yield(name, s.methods[name]) {
				return
			}
		}
	}
}

// Services ranges over all services, sorted by name.
func (s *Schema) Services() iter.Seq[protoreflect.ServiceDescriptor] {
	return slices.Values(s.services)
}

// Missing returns the services that were left out, sorted by name, nil if the
// schema is complete. It is read-only.
func (s *Schema) Missing() []Missing { return s.missing }

// Types resolves the types in google.protobuf.Any, and extensions.
func (s *Schema) Types() *Types { return s.types }

// Files returns the files that the services need. It is read-only.
func (s *Schema) Files() *protoregistry.Files { return s.files }
