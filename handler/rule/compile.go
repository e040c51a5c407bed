package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/handler/filter"
)

// Compile returns the filter that a rule is for a method, for messages that are
// *dynamicpb.Message of the method's own descriptors. t may be nil.
//
// The error joins an *Error for each thing that is wrong.
func Compile(r *Rule, method protoreflect.MethodDescriptor, t Types) (*filter.Filter, error) {
	b, err := newBuilder(r, method, t)
	if err != nil {
		return nil, err
	}
	if b.build(); len(b.problems) > 0 {
		return nil, b.err()
	}
	return b.program.filter("/" + string(method.Parent().FullName()) + "/" + string(method.Name())), nil
}

// Check tells what is wrong with a rule that can be told without knowing the
// messages of a method. Its error is as Compile's.
func Check(r *Rule) error {
	b, err := newBuilder(r, nil, nil)
	if err != nil {
		return err
	}
	b.build()
	return b.err()
}

// builder makes a program of a rule, and collects what is wrong with that.
type builder struct {
	problems
	compiler
	rule    *Rule
	method  protoreflect.MethodDescriptor  // nil without a schema
	message protoreflect.MessageDescriptor // nil where there is none, and without a schema
	program program
}

func newBuilder(r *Rule, method protoreflect.MethodDescriptor, t Types) (*builder, error) {
	if r.On > filter.AtEnd {
		return nil, errors.Join(&Error{Field: "on", Problem: "there is no such point in a call"})
	}
	base, err := language()
	if err != nil {
		return nil, errors.Join(&Error{Problem: oneLine(err.Error())})
	}
	b := &builder{rule: r, method: method}
	b.at = r.On
	if method != nil {
		var wrong *Error
		if b.schema, wrong = newSchema(base, method, t); wrong != nil {
			return nil, errors.Join(wrong)
		}
		if r.onMessages() {
			b.message = messageAt(r.On, method)
		}
	}
	b.program = program{name: r.Name, at: r.On, schema: b.schema}
	if b.env, err = environment(base, r.On, b.schema, method); err != nil {
		return nil, errors.Join(&Error{Problem: oneLine(err.Error())})
	}
	return b, nil
}

func (b *builder) build() {
	b.combinations()
	if b.rule.If != "" {
		b.program.condition = b.typed("if", b.rule.If, types.BoolType)
	}
	if b.rule.Cluster != "" {
		b.program.cluster = b.typed("cluster", b.rule.Cluster, types.StringType)
		b.knownCluster(b.program.cluster)
	}
	if b.rule.Affinity != "" {
		b.program.affinity = b.typed("affinity", b.rule.Affinity, types.StringType)
	}
	b.metadata()
	b.sets()
	b.program.clears = b.paths("clear", b.rule.Clear, b.clearable)
	b.program.redacts = b.paths("redact", b.rule.Redact, b.redactable)
	b.ending()
}

// knownCluster checks a cluster that is known already.
func (b *builder) knownCluster(e *expression) {
	if e == nil || b.rule.Clusters == nil {
		return
	}
	name, ok := e.literal.(types.String)
	if ok && !slices.Contains(b.rule.Clusters, string(name)) {
		b.add(&Error{
			Field: "cluster", Problem: "is no cluster that is configured",
			Hint: didYouMean(string(name), b.rule.Clusters),
		})
	}
}

// combinations checks what a rule does at its point.
func (b *builder) combinations() {
	r := b.rule
	if r.Name == "" {
		b.addf("name", "it is missing")
	}
	if !r.changes() && !r.Drop && r.Reject == nil && r.Cluster == "" && r.Affinity == "" && r.Metadata.empty() {
		b.add(&Error{Problem: "the rule does nothing", Hint: "give it metadata, cluster, set, clear, redact, drop or reject"})
	}
	for _, action := range []struct {
		field string
		given bool
	}{{"set", len(r.Set) > 0}, {"clear", len(r.Clear) > 0}, {"redact", len(r.Redact) > 0}, {"drop", r.Drop}} {
		if action.given && !r.onMessages() {
			b.add(&Error{
				Field: action.field, Problem: fmt.Sprintf("there is no message at %s", r.On),
				Hint: "there is at request and response",
			})
		}
	}
	if r.Cluster != "" && r.On != filter.AtStart && r.On != filter.AtRequest {
		b.add(&Error{
			Field: "cluster", Problem: fmt.Sprintf("the call has its cluster already at %s", r.On),
			Hint: "it can be chosen at start and request",
		})
	}
	if r.Affinity != "" && r.On != filter.AtRequest {
		b.addf("affinity", "it is of the first request")
	}
	if !r.Metadata.empty() && r.On == filter.AtResponse {
		b.add(&Error{
			Field: "metadata", Problem: "the response's header has been sent already at response",
			Hint: "change it at header, or the trailer at end",
		})
	}
	switch {
	case r.Drop && r.Reject != nil:
		b.addf("drop", "a rule cannot drop and reject as well")
	case (r.Drop || r.Reject != nil) && r.changes() && r.onMessages():
		b.addf("", "the rule changes a message that it does not let through")
	case r.Reject != nil && r.On != filter.AtEnd && (r.Cluster != "" || !r.Metadata.empty()):
		b.addf("", "the rule changes a call that it rejects")
	}
	if r.Drop && b.message != nil && !b.streams() {
		b.add(&Error{
			Field: "drop", Problem: fmt.Sprintf("%s has one %s only, and a call without it fails", b.method.FullName(), r.On),
			Hint: "use reject",
		})
	}
}

// streams reports whether there may be several messages in the rule's direction.
func (b *builder) streams() bool {
	if b.rule.On == filter.AtRequest {
		return b.method.IsStreamingClient()
	}
	return b.method.IsStreamingServer()
}

// typed compiles an expression that must have one of some types.
func (b *builder) typed(field, text string, want ...*cel.Type) *expression {
	e, wrong := b.compile(field, text)
	for _, w := range wrong {
		b.add(w)
	}
	if e == nil || untyped(e.t) {
		return e
	}
	names := make([]string, len(want))
	for i, t := range want {
		if t.Kind() == e.t.Kind() {
			return e
		}
		names[i] = t.TypeName()
	}
	b.addf(field, "it must be of type %s, and is %s", strings.Join(names, " or "), cel.FormatCELType(e.t))
	return e
}
