package openapi

import (
	"cmp"
	"errors"
	"fmt"
	"sort"
	"strings"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/gateway/binding"
)

// Info is what a document says beside the services: of the API as a whole, and of
// the gateway in so far as its settings show in what it reads and writes. The zero
// value stands for a gateway with its defaults.
type Info struct {
	// Title is the API's name. Default "gRPC services".
	Title string
	// Version is the API's, not OpenAPI's. Default "1".
	Version string
	// Description may have several paragraphs, in Markdown.
	Description string
	// Servers are the URLs at which the gateway is reached. Default is where the
	// document comes from.
	Servers []string
	// Marshal is what the gateway writes with. Of it UseProtoNames, UseEnumNumbers
	// and EmitUnpopulated show.
	Marshal protojson.MarshalOptions
	// Envelope, if set, is around all JSON that the gateway writes.
	Envelope *Envelope
	// NoDefaultPOST leaves out POST /package.Service/Method.
	NoDefaultPOST bool
}

// Document returns the document of services, in JSON and the same for the same
// services. Of two methods with one verb and path, and of two messages with one name,
// the document has the first. It ends before the first service that it would be too
// large with; left has the names of that and all further ones. Info's description says
// which methods and services it leaves out.
//
// The error has each method whose annotations are not right, one to a line.
func Document(info Info, services []protoreflect.ServiceDescriptor) (document []byte, left []string, err error) {
	b, err := build(info, services)
	if err != nil {
		return nil, nil, err
	}
	if b.tooLarge() {
		b, left = buildFitting(info, services)
	}
	document, err = encode(b.document(), "  ")
	return document, left, err
}

// build puts services together, or as many parts of them as show that they are too many.
func build(info Info, services []protoreflect.ServiceDescriptor) (*builder, error) {
	b := newBuilder(info)
	var errs []error
	for _, service := range services {
		errs = append(errs, b.service(service))
	}
	b.schemas.finish()
	return b, errors.Join(errs...)
}

// buildFitting is build for too many services, whose annotations are right. left are
// those that do not fit.
func buildFitting(info Info, services []protoreflect.ServiceDescriptor) (b *builder, left []string) {
	fit := sort.Search(len(services), func(n int) bool {
		b, _ := build(info, services[:n+1])
		return b.tooLarge()
	})
	b, _ = build(info, services[:fit])
	for _, service := range services[fit:] {
		left = append(left, string(service.FullName()))
		b.left = append(b.left, fmt.Sprintf("%s: with it there would be more than %d fields and parameters", service.FullName(), maxParts))
	}
	return b, left
}

func (b *builder) tooLarge() bool { return b.schemas.parts > maxParts }

// maxParts is how many fields and parameters a document has at most. Services may be
// what a backend makes up.
const maxParts = 100_000

// builder has what a document consists of while it is being made.
type builder struct {
	info    Info
	schemas *schemas
	tags    []tag
	paths   *paths
	ids     map[string]bool // of operations
	left    []string        // what the document cannot have, and why
	failed  responseRef     // see failure
}

func newBuilder(info Info) *builder {
	b := &builder{info: info, schemas: newSchemas(info.Marshal), paths: newPaths(), ids: make(map[string]bool)}
	b.failed = b.failure()
	return b
}

// document returns all that has been added.
func (b *builder) document() *document {
	d := &document{
		OpenAPI: "3.0.3",
		Info: info{
			Title: cmp.Or(b.info.Title, "gRPC services"), Version: cmp.Or(b.info.Version, "1"),
			Description: paragraphs(b.info.Description, b.leftOut()),
		},
		Tags: b.tags, Paths: b.paths.items,
		Components: components{Schemas: b.schemas.all, Responses: map[string]responseRef{failureName: b.failed}},
	}
	for _, url := range b.info.Servers {
		d.Servers = append(d.Servers, server{url})
	}
	return d
}

func (b *builder) leftOut() string {
	if len(b.left) == 0 {
		return ""
	}
	return "Not in this document:\n\n- " + strings.Join(b.left, "\n- ")
}

// failureName is that of the response that all operations refer to.
const failureName = "Error"

// failure is how the gateway answers when there is no reply.
func (b *builder) failure() responseRef {
	status := b.schemas.message((&statuspb.Status{}).ProtoReflect().Descriptor())
	if b.info.Envelope != nil {
		status = b.info.Envelope.around(nil)
	}
	text := "The call failed: its gRPC status. The HTTP status follows from the code."
	return responseRef{Description: &text, Content: content{jsonType: {status}}}
}

// service adds the methods of a service.
func (b *builder) service(d protoreflect.ServiceDescriptor) error {
	b.tags = append(b.tags, tag{Name: string(d.FullName()), Description: comment(d)})
	var errs []error
	for i := range d.Methods().Len() {
		if err := b.method(d.Methods().Get(i)); err != nil {
			errs = append(errs, fmt.Errorf("OpenAPI document: %w", err))
		}
	}
	return errors.Join(errs...)
}

// method adds the operations of a method: one for each binding.
func (b *builder) method(m protoreflect.MethodDescriptor) error {
	bindings, err := binding.Of(m)
	if err != nil {
		return err
	}
	if !b.info.NoDefaultPOST {
		bindings = append(bindings, binding.Default(m))
	}
	for _, one := range bindings {
		b.bind(one)
		if b.tooLarge() {
			return nil // which Document finds, too
		}
	}
	return nil
}
