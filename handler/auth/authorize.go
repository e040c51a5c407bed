package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// Anonymous is the pattern for calls without an identity.
const Anonymous = "anonymous"

// Rule says whether calls may go on that are as all of its conditions say. One without
// conditions is for every call.
type Rule struct {
	// Methods are full method names, "/package.Service/Method", services,
	// "package.Service", packages with all below them, "package.*", or "*"; the call's is
	// among them. None is any.
	Methods []string
	// Identities are who calls, at least one of them: the name of an identity, the
	// beginning of one before "*", "*" for anybody with an identity, or Anonymous. Behind
	// a kind and ":" ("api-key:alice", "jwt:*", "mtls:spiffe://prod/*"; "api_keys" is
	// KindAPIKey, too) it is only for identities of that kind, and otherwise for all
	// kinds: where tokens and keys come from different hands, write the kind. None is
	// anybody, with or without an identity.
	Identities []string
	// Claims are what the caller's token says: for each claim, one of the values. Of a
	// claim that is a list, one element is enough, and of "scope" one word (RFC 8693
	// section 4.2). None is anything.
	Claims map[string][]string
	// Allow is whether such a call may go on.
	Allow bool
}

// NewAuthorize returns a guard that asks rules in order: the first that is for a call
// decides, and a call that none is for is refused, with PERMISSION_DENIED, or with
// UNAUTHENTICATED if nobody knows who calls (as gRPC has it,
// https://grpc.io/docs/guides/status-codes/). An error names the rule and what is wrong
// with it.
func NewAuthorize(rules []Rule) (intercept.Guard, error) {
	if len(rules) == 0 {
		return nil, errors.New("there are no rules, so that nobody could call anything; add one")
	}
	compiled := make([]compiledRule, len(rules))
	for i := range rules {
		var err error
		if compiled[i], err = compileRule(&rules[i]); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return func(c *intercept.Call) error {
		id := c.Identity()
		if isMethod(c.Method()) {
			for i := range compiled {
				if compiled[i].isFor(c.Method(), &id) {
					return compiled[i].decide(c.Method(), &id)
				}
			}
		}
		return forbidden(c.Method(), &id)
	}, nil
}

// forbidden is how a call ends that may not be made.
func forbidden(method string, id *intercept.Identity) error {
	if id.Kind == "" {
		return unauthenticated("nobody may call %s without credentials", quote(method))
	}
	return intercept.Refuse(stream.Forbidden, stream.PermissionDenied,
		fmt.Sprintf("%s %s may not call %s", id.Kind, quote(id.Name), quote(method)))
}

type compiledRule struct {
	methods    []methodPattern
	identities []identityPattern
	claims     map[string][]string
	allow      bool
}

func compileRule(r *Rule) (compiledRule, error) {
	compiled := compiledRule{claims: r.Claims, allow: r.Allow}
	for _, text := range r.Methods {
		p, err := compileMethod(text)
		if err != nil {
			return compiledRule{}, err
		}
		compiled.methods = append(compiled.methods, p)
	}
	for _, text := range r.Identities {
		p, err := compileIdentity(text)
		if err != nil {
			return compiledRule{}, err
		}
		compiled.identities = append(compiled.identities, p)
	}
	for claim, values := range r.Claims {
		if len(values) == 0 {
			return compiledRule{}, fmt.Errorf("claim %q has no values, one of which a token must have; add one", claim)
		}
	}
	return compiled, nil
}

func (r *compiledRule) decide(method string, id *intercept.Identity) error {
	if r.allow {
		return nil
	}
	return forbidden(method, id)
}

func (r *compiledRule) isFor(method string, id *intercept.Identity) bool {
	for claim, values := range r.claims {
		if !claimHas(claim, id.Claims[claim], values) {
			return false
		}
	}
	return isForMethod(r.methods, method) && isForIdentity(r.identities, id)
}

func isForMethod(patterns []methodPattern, method string) bool {
	for i := range patterns {
		if patterns[i].matches(method) {
			return true
		}
	}
	return len(patterns) == 0
}

func isForIdentity(patterns []identityPattern, id *intercept.Identity) bool {
	for i := range patterns {
		if patterns[i].matches(id) {
			return true
		}
	}
	return len(patterns) == 0
}

// isMethod reports whether a method is as gRPC has it, "/package.Service/Method". Others
// are for no rule: a backend might take one for a method that a rule is to keep it from.
func isMethod(method string) bool {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return ok && strings.HasPrefix(method, "/") && service != "" && name != "" && !strings.Contains(name, "/")
}

// methodPattern is a method, or how those begin that are meant.
type methodPattern struct {
	text     string
	isPrefix bool
}

func compileMethod(text string) (methodPattern, error) {
	switch {
	case text == "*":
		return methodPattern{text: "/", isPrefix: true}, nil
	case strings.Contains(strings.TrimSuffix(text, ".*"), "*"):
	case isMethod(text):
		return methodPattern{text: text}, nil
	case strings.Contains(text, "/"), strings.TrimSuffix(text, ".*") == "":
	case strings.HasSuffix(text, ".*"):
		return methodPattern{text: "/" + strings.TrimSuffix(text, "*"), isPrefix: true}, nil
	default:
		return methodPattern{text: "/" + text + "/", isPrefix: true}, nil
	}
	return methodPattern{}, fmt.Errorf(
		`%q selects no methods; write "/package.Service/Method", "package.Service", "package.*" or "*"`, text)
}

func (p *methodPattern) matches(method string) bool {
	return method == p.text || p.isPrefix && strings.HasPrefix(method, p.text)
}

// identityPattern is who calls.
type identityPattern struct {
	anonymous bool   // nobody is known; nothing else is set
	kind      string // "" for any
	name      string
	isPrefix  bool
}

// kindNames are the kinds that a pattern may begin with. Other text before a ":" is a
// part of the name, as in "spiffe://...". That the two are compared apart makes it
// impossible to get what is somebody else's by a token for the subject "api-key:alice".
var kindNames = map[string]string{
	KindAPIKey: KindAPIKey, "api_keys": KindAPIKey, KindJWT: KindJWT, KindMTLS: KindMTLS,
}

func compileIdentity(text string) (identityPattern, error) {
	if text == Anonymous {
		return identityPattern{anonymous: true}, nil
	}
	p := identityPattern{name: text}
	if before, after, ok := strings.Cut(text, ":"); ok && kindNames[before] != "" {
		p.kind, p.name = kindNames[before], after
	}
	p.name, p.isPrefix = strings.CutSuffix(p.name, "*")
	if p.name == "" && !p.isPrefix || strings.Contains(p.name, "*") {
		return identityPattern{}, fmt.Errorf(
			`%q is no identity; write a name, the beginning of one before "*", or %s`, text, Anonymous)
	}
	return p, nil
}

func (p *identityPattern) matches(id *intercept.Identity) bool {
	switch {
	case p.anonymous || id.Kind == "":
		return p.anonymous && id.Kind == ""
	case p.kind != "" && p.kind != id.Kind:
		return false
	}
	return id.Name == p.name || p.isPrefix && strings.HasPrefix(id.Name, p.name)
}

// claimHas reports whether a claim has one of the values.
func claimHas(claim string, has any, values []string) bool {
	switch has := has.(type) {
	case string:
		return slices.Contains(values, has) || claim == "scope" && claimHas("", words(has), values)
	case []any:
		return slices.ContainsFunc(has, func(one any) bool { return claimHas("", one, values) })
	case bool:
		return slices.Contains(values, strconv.FormatBool(has))
	case int64:
		return slices.Contains(values, strconv.FormatInt(has, 10))
	default: // an object, or a fraction, which nobody means to compare
		return false
	}
}

func words(text string) []any {
	var all []any
	for word := range strings.FieldsSeq(text) {
		all = append(all, word)
	}
	return all
}
