package schema

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// linker makes descriptors of files, those first that a file imports. It is for
// one goroutine.
type linker struct {
	ctx    context.Context // ends work that takes too long
	protos map[string]*descriptorpb.FileDescriptorProto
	absent func(path string) error // why a file is not among protos

	files  *protoregistry.Files
	done   map[string]error // of the files that have been tried
	chain  []string         // the files that are being linked, each imported by the one before
	names  int              // bytes of all full names so far
	steps  map[string]int   // how many a file takes that is imported; see maxSteps
	spent  int              // steps so far
	faults []error          // all that is wrong, once
}

func newLinker(ctx context.Context, protos map[string]*descriptorpb.FileDescriptorProto, absent func(path string) error) *linker {
	return &linker{
		ctx: ctx, protos: protos, absent: absent,
		files: new(protoregistry.Files), done: make(map[string]error), steps: make(map[string]int),
	}
}

// all links all files. The error has all that is wrong, one to a line.
func (l *linker) all() error {
	for _, path := range slices.Sorted(maps.Keys(l.protos)) {
		_ = l.link(path) // it is among the faults
	}
	return joined(l.faults)
}

// joined returns errs, or as many of them as anybody reads, one to a line.
func joined(errs []error) error {
	const most = 50
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return errors.Join(errs...)
}

// linked returns the files that have been linked, sorted by path.
func (l *linker) linked() []*descriptorpb.FileDescriptorProto {
	var all []*descriptorpb.FileDescriptorProto
	for _, path := range slices.Sorted(maps.Keys(l.done)) {
		if l.done[path] == nil {
			all = append(all, l.protos[path])
		}
	}
	return all
}

// services returns those of all files that have been linked.
func (l *linker) services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	l.files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			all = append(all, f.Services().Get(i))
		}
		return true
	})
	return all
}

// link links a file and all that it imports.
func (l *linker) link(path string) error {
	if err, ok := l.done[path]; ok {
		return err
	}
	if i := slices.Index(l.chain, path); i >= 0 {
		return l.fault(fmt.Errorf("files import each other in a circle: %s", clip(strings.Join(append(l.chain[i:], path), " -> "))))
	}
	if len(l.chain) == maxDepth {
		return l.fault(fmt.Errorf("%s: it is the last of %d files that import each other in a row", clip(path), maxDepth+1))
	}
	l.chain = append(l.chain, path)
	err := l.linkNew(path)
	l.chain = l.chain[:len(l.chain)-1]
	l.done[path] = err
	return err
}

func (l *linker) linkNew(path string) error {
	p := l.protos[path]
	if err := l.check(p); err != nil {
		return l.fault(fmt.Errorf("%s: %w", clip(path), err))
	}
	var failed error
	for _, dep := range p.GetDependency() {
		if l.protos[dep] == nil {
			failed = l.fault(fmt.Errorf("%s imports %s: %w", clip(path), clip(dep), l.absent(dep)))
		} else if err := l.link(dep); err != nil {
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	if err := l.countSteps(p); err != nil {
		return l.fault(fmt.Errorf("%s: %w", clip(path), err))
	}
	if err := l.register(p); err != nil {
		return l.fault(fmt.Errorf("%s: %w", clip(path), err))
	}
	return nil
}

func (l *linker) fault(err error) error {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, err)
	}
	return err
}

func (l *linker) register(p *descriptorpb.FileDescriptorProto) (err error) {
	defer recovered(&err)
	f, err := protodesc.NewFile(p, l)
	if err != nil {
		return errors.New(clip(err.Error())) // which quotes names of any length
	}
	if err := l.files.RegisterFile(f); err != nil {
		return errors.New(clip(err.Error()))
	}
	return nil
}

// FindFileByPath implements protodesc.Resolver.
func (l *linker) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return l.files.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver. It is asked for each name
// in a file, often more than once, and that can take long.
func (l *linker) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if l.ctx.Err() != nil {
		return nil, context.Cause(l.ctx)
	}
	return l.files.FindDescriptorByName(name)
}
