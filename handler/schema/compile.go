package schema

import (
	"context"
	"errors"
	"fmt"

	"github.com/bufbuild/protocompile"
	compiled "github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Compile returns the schema of .proto sources: of the files and all that they
// import. A file is given by its path below one of the import paths, which are
// folders, or by its path in the file system, which then has to lie below one of
// them. Without import paths these are the folders of the files. The standard
// imports (google/protobuf/*.proto, google/api/annotations.proto and the like)
// need not be there.
//
// The error has all that is wrong, one to a line, as file:line:column where that
// is known, the file by its path below the import path.
func Compile(ctx context.Context, files, importPaths []string) (*Schema, error) {
	s, err := newSources(files, importPaths)
	if err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	var found problems
	compiler := protocompile.Compiler{Resolver: s, Reporter: found.reporter(), SourceInfoMode: protocompile.SourceInfoStandard}
	linked, err := compiler.Compile(ctx, s.roots...)
	if err != nil {
		return nil, found.or(err)
	}
	protos, err := protosOf(linked)
	if err != nil {
		return nil, err
	}
	return linkAll(ctx, protos, func(string) error { return errors.New("it has not been compiled") })
}

// protosOf returns the files that have been compiled, and all that they import,
// as they cross the wire: with options that are decoded like everybody's.
func protosOf(files compiled.Files) (map[string]*descriptorpb.FileDescriptorProto, error) {
	protos := make(map[string]*descriptorpb.FileDescriptorProto)
	var add func(f protoreflect.FileDescriptor) error
	add = func(f protoreflect.FileDescriptor) error {
		if protos[f.Path()] != nil {
			return nil
		}
		b, err := proto.Marshal(protoutil.ProtoFromFileDescriptor(f))
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path(), err)
		}
		p := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(b, p); err != nil {
			return fmt.Errorf("%s: %w", f.Path(), err)
		}
		protos[f.Path()] = p
		for i := range f.Imports().Len() {
			if err := add(f.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range files {
		if err := add(f); err != nil {
			return nil, err
		}
	}
	return protos, nil
}
