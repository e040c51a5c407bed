package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Opener opens a call to a backend. The request is the Opener's to complete, with
// an authority and with metadata; when ctx ends, so must the call. The error is a
// *stream.Failure.
type Opener func(ctx context.Context, req *stream.Request) (stream.Outbound, error)

// Limits bound what a backend can make Reflect hold. 0 stands for the default.
type Limits struct {
	Bytes int // of all its answers; default 32 MiB
	Files int // that it names, and services; default 10,000
}

// reflectionMethods are the versions of server reflection, the best one first.
// Their messages are the same but for the package.
var reflectionMethods = []string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// Reflect returns the schema that a backend tells by server reflection
// (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md). A service
// for which it has no files, or none that are right, is left out: see
// Schema.Missing. The error says why there is no service at all.
//
// One call is open at a time, and none any more when Reflect returns. ctx bounds
// the time.
func Reflect(ctx context.Context, open Opener, limits Limits) (*Schema, error) {
	limits.Bytes = cmp.Or(limits.Bytes, 32<<20)
	limits.Files = cmp.Or(limits.Files, 10_000)
	for _, method := range reflectionMethods {
		r, err := ask(ctx, open, method, limits)
		if errors.Is(err, errUnimplemented) {
			continue
		}
		var s *Schema
		if err == nil {
			s, err = r.schema(ctx)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("server reflection: %w", err)
		}
		return s, nil
	}
	return nil, errors.New("the backend has no server reflection, neither v1 nor v1alpha")
}

// ask returns what a backend tells by one version of the protocol. The error is
// errUnimplemented if it does not have that.
func ask(ctx context.Context, open Opener, method string, limits Limits) (*reflected, error) {
	c, err := openConversation(ctx, open, method, limits.Bytes)
	if err != nil {
		return nil, err
	}
	defer c.close()
	names, err := serviceNames(c, limits)
	if isUnimplemented(err) {
		return nil, errUnimplemented
	}
	if err != nil {
		return nil, err
	}
	r := &reflected{
		conversation: c, limits: limits, services: names,
		protos: make(map[string]*descriptorpb.FileDescriptorProto), absent: make(map[string]error),
		declares: make(map[string]string), missing: make(map[string]error),
	}
	for _, name := range names {
		r.declares[name] = ""
	}
	if err := r.fetch(); err != nil {
		return nil, err
	}
	c.finish()
	return r, nil
}

var errUnimplemented = errors.New("the backend does not have the method")

// isUnimplemented reports whether err says that a backend does not have the method
// that was called: by its status, or by an HTTP status that stands for that.
func isUnimplemented(err error) bool {
	var ended *endedError
	if errors.As(err, &ended) {
		// Kitex servers have codes of their own for services they do not know.
		return ended.status.Code == stream.Unimplemented || ended.status.Code > stream.Unauthenticated
	}
	var failure *stream.Failure
	return errors.As(err, &failure) && failure.Code == stream.Unimplemented
}

// serviceNames returns the names of a backend's services, sorted.
func serviceNames(c *conversation, limits Limits) ([]string, error) {
	answer, err := c.ask(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	if err != nil {
		return nil, err
	}
	var names []string
	switch answer := answer.GetMessageResponse().(type) {
	case *reflection.ServerReflectionResponse_ListServicesResponse:
		for _, s := range answer.ListServicesResponse.GetService() {
			names = append(names, s.GetName())
		}
	case *reflection.ServerReflectionResponse_ErrorResponse:
		return nil, fmt.Errorf("the backend does not list its services: %w", refusalOf(answer.ErrorResponse))
	default:
		return nil, fmt.Errorf("the backend does not list its services, but answers with %T", answer)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > limits.Files {
		return nil, fmt.Errorf("the backend lists more than %d services", limits.Files)
	}
	return names, nil
}

// reflected is what a backend has told.
type reflected struct {
	*conversation
	limits   Limits
	services []string                                     // sorted
	protos   map[string]*descriptorpb.FileDescriptorProto // by path
	absent   map[string]error                             // the paths of files that it does not have
	declares map[string]string                            // the paths of files with the services; "" for none yet
	missing  map[string]error                             // services
}

// fetch gets the files of the services, and what these import. The error is one
// after which nothing more can be asked.
func (r *reflected) fetch() error {
	var queue []string
	for _, name := range r.services {
		path, err := r.fetchService(name)
		if errors.As(err, new(refusal)) {
			r.missing[name] = err
			continue
		}
		if err != nil {
			return err
		}
		queue = append(queue, path)
	}
	for seen := make(map[string]bool); len(queue) > 0; {
		path := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[path] {
			continue
		}
		seen[path] = true
		if err := r.fetchFile(path); err != nil {
			return err
		}
		queue = append(queue, r.protos[path].GetDependency()...)
	}
	return nil
}

// fetchService returns the path of the file that declares a service. The error is
// a refusal if it is only that service that cannot be had.
func (r *reflected) fetchService(name string) (string, error) {
	if !protoreflect.FullName(name).IsValid() {
		return "", refusal("it is no name that a service in protobuf can have")
	}
	if r.declares[name] == "" {
		err := r.fetchFiles(&reflection.ServerReflectionRequest{
			MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name},
		})
		if err != nil {
			return "", err
		}
	}
	if r.declares[name] == "" {
		return "", refusal("the backend gives a file that does not declare it")
	}
	return r.declares[name], nil
}

// fetchFile gets a file, or notes that it is absent.
func (r *reflected) fetchFile(path string) error {
	if r.protos[path] != nil {
		return nil
	}
	if len(r.protos)+len(r.absent) >= r.limits.Files {
		return r.tooMany()
	}
	err := r.fetchFiles(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_FileByFilename{FileByFilename: path},
	})
	if err != nil && !errors.As(err, new(refusal)) {
		return err
	}
	if r.protos[path] != nil {
		return nil
	}
	if d := standard(path); d != nil {
		r.protos[path] = protodesc.ToFileDescriptorProto(d)
		return nil
	}
	if err == nil {
		err = refusal("the backend gives another file instead")
	}
	r.absent[path] = err
	return nil
}

func (r *reflected) tooMany() error {
	return fmt.Errorf("the backend names more than %d files", r.limits.Files)
}

// fetchFiles asks for files. The error is a refusal if the next question may well
// be answered.
func (r *reflected) fetchFiles(question *reflection.ServerReflectionRequest) error {
	answer, err := r.ask(question)
	if err != nil {
		return err
	}
	switch answer := answer.GetMessageResponse().(type) {
	case *reflection.ServerReflectionResponse_FileDescriptorResponse:
		return r.keep(answer.FileDescriptorResponse.GetFileDescriptorProto())
	case *reflection.ServerReflectionResponse_ErrorResponse:
		return refusalOf(answer.ErrorResponse)
	default:
		return fmt.Errorf("the backend is asked for a file, and answers with %T", answer)
	}
}

// keep takes in the files of an answer.
func (r *reflected) keep(files [][]byte) error {
	for _, b := range files {
		p := new(descriptorpb.FileDescriptorProto)
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, p); err != nil {
			return refusal("the backend gives a file that is no FileDescriptorProto: " + clip(err.Error()))
		}
		if p.GetName() == "" {
			return refusal("the backend gives a file that has no name")
		}
		if err := keep(r.protos, p); err != nil {
			return refusal("the backend is not of one mind: " + err.Error())
		}
		if len(r.protos) > r.limits.Files {
			return r.tooMany()
		}
		if err := r.noteServices(p); err != nil {
			return err
		}
	}
	return nil
}

// noteServices notes which of the services that the backend lists are in a file.
// The names of others are not made: they may be many, and long.
func (r *reflected) noteServices(p *descriptorpb.FileDescriptorProto) error {
	if len(p.GetPackage()) > maxName {
		return refusal(errLong(p.GetPackage()).Error())
	}
	var scope []byte
	if p.GetPackage() != "" {
		scope = append([]byte(p.GetPackage()), '.')
	}
	for _, s := range p.GetService() {
		name := append(scope, s.GetName()...)
		if path, listed := r.declares[string(name)]; listed && path == "" {
			r.declares[string(name)] = p.GetName()
		}
		scope = name[:len(scope)] // with the space for the next name
	}
	return nil
}

// schema links what there is.
func (r *reflected) schema(ctx context.Context) (*Schema, error) {
	l := newLinker(ctx, r.protos, func(path string) error { return r.absent[path] })
	var services []protoreflect.ServiceDescriptor
	for _, name := range r.services {
		if r.missing[name] != nil {
			continue
		}
		if err := l.link(r.declares[name]); err != nil {
			r.missing[name] = err
			continue
		}
		d, err := l.files.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			r.missing[name] = err
			continue
		}
		services = append(services, d.(protoreflect.ServiceDescriptor))
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var missing []Missing
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.missing)) {
		missing = append(missing, Missing{clip(name), r.missing[name]})
		errs = append(errs, fmt.Errorf("service %s: %w", clip(name), r.missing[name]))
	}
	if len(services) == 0 && len(errs) > 0 {
		return nil, joined(errs)
	}
	return newSchema(l, services, missing), nil
}

// refusal is why a backend has not given what it was asked for. It can be asked
// for something else.
type refusal string

func (r refusal) Error() string { return string(r) }

func refusalOf(e *reflection.ErrorResponse) refusal {
	return refusal(fmt.Sprintf("the backend answers %v: %s", stream.Code(e.GetErrorCode()), clip(e.GetErrorMessage())))
}
