package rule

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/types"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// rejection is the status that a call ends with.
type rejection struct {
	code    codes.Code
	message *expression // nil for the default
}

// ending compiles what becomes of the message or the call.
func (b *builder) ending() {
	b.program.drop = b.rule.Drop
	if b.rule.Reject == nil {
		return
	}
	b.program.reject = &rejection{code: b.code(b.rule.Reject.Code)}
	if text := b.rule.Reject.Message; text != "" {
		b.program.reject.message = b.typed("reject.message", text, types.StringType)
	}
}

// code returns the code of that name.
func (b *builder) code(name string) codes.Code {
	const field, defined = "reject.code", 17
	var names []string
	for c := range stream.Code(defined) {
		if c.String() == name && c != stream.OK {
			return codes.Code(c)
		}
		if c != stream.OK {
			names = append(names, c.String())
		}
	}
	switch name {
	case "":
		b.add(&Error{Field: field, Problem: "it is missing", Hint: "give the name of a gRPC code, such as PERMISSION_DENIED"})
	case stream.OK.String():
		b.add(&Error{Field: field, Problem: "a call cannot be rejected with OK"})
	default:
		e := &Error{Field: field, Problem: fmt.Sprintf("%q is no gRPC code", name), Hint: didYouMean(name, names)}
		if e.Hint == "" {
			e.Hint = "they are " + strings.Join(names, ", ")
		}
		b.add(e)
	}
	return codes.Unknown
}

// evaluateReason evaluates the text of a rejection.
func (p *program) evaluateReason(r *run) error {
	switch {
	case p.reject == nil:
		return nil
	case p.reject.message == nil:
		r.reason = fmt.Sprintf("rejected by rule %q", p.name)
		return nil
	}
	text, err := eval1[types.String](p.reject.message, &r.activation)
	if err != nil {
		return err
	}
	r.reason = strings.ToValidUTF8(string(text[:min(len(text), MaxValue)]), "")
	return nil
}
