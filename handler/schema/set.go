package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxSet is the largest descriptor set that is read, in bytes.
const maxSet = 64 << 20

// Read returns the schema in a file: a FileDescriptorSet in binary, as protoc
// --include_imports --descriptor_set_out and buf build -o write it. The error
// names the file, and all that is wrong with it, one to a line.
func Read(path string) (*Schema, error) {
	b, err := readSet(path)
	if err != nil {
		return nil, fmt.Errorf("descriptor set: %w", err) // which names path
	}
	s, err := parseSet(b)
	if err != nil {
		return nil, fmt.Errorf("descriptor set %s: %w", path, err)
	}
	return s, nil
}

func readSet(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	b, err := io.ReadAll(io.LimitReader(f, maxSet+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSet {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxSet>>20)
	}
	return b, nil
}

// parseSet returns the schema that a FileDescriptorSet holds.
func parseSet(b []byte) (*Schema, error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, set); err != nil {
		return nil, fmt.Errorf("it is no FileDescriptorSet in binary: %w", err)
	}
	if len(set.GetFile()) == 0 {
		return nil, errors.New("it is no FileDescriptorSet in binary, or one without files")
	}
	protos := make(map[string]*descriptorpb.FileDescriptorProto, len(set.GetFile()))
	for _, p := range set.GetFile() {
		if p.GetName() == "" {
			return nil, errors.New("it is no FileDescriptorSet in binary, or one of files without names")
		}
		if err := keep(protos, p); err != nil {
			return nil, err
		}
	}
	return linkAll(context.Background(), protos, func(string) error {
		return errors.New("the set has no such file; build it with --include_imports")
	})
}

// linkAll returns the schema of all services in files that all have to be right.
func linkAll(
	ctx context.Context, protos map[string]*descriptorpb.FileDescriptorProto, absent func(path string) error,
) (*Schema, error) {
	l := newLinker(ctx, protos, absent)
	if err := l.all(); err != nil {
		return nil, err
	}
	return newSchema(l, l.services(), nil), nil
}

// keep adds a file to those there are. Having it twice is no error.
func keep(protos map[string]*descriptorpb.FileDescriptorProto, p *descriptorpb.FileDescriptorProto) error {
	if old := protos[p.GetName()]; old != nil && !proto.Equal(old, p) {
		return fmt.Errorf("there are two different files %s", clip(p.GetName()))
	}
	protos[p.GetName()] = p
	return nil
}
