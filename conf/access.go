package conf

import (
	"maps"
	"slices"
	"strings"
)

const (
	methodPatternHint = `write "/package.Service/Method", "package.Service", "package.*" or "*"`
	identityHint      = `write an identity, the beginning of one before "*", or anonymous`
)

// authorize checks who may call what.
func (v *validator) authorize(path string, rules []AccessRule) {
	if len(rules) == 0 && v.has(path) {
		v.require(path, "has no rules, so that nobody could call anything",
			`add one, such as {identities: ["*"], allow: true}`)
	}
	all := "" // the path of a rule that matches every call
	for i := range rules {
		path := ItemPath(path, i)
		if v.isBroken(path) {
			continue
		}
		v.accessRule(path, &rules[i])
		switch {
		case all != "" && !v.touched[path]:
			v.badField(path, "is never reached, as "+v.reference(all)+" has no conditions", "move it above that one")
		case rules[i].takesAll() && !v.touched[path]:
			all = path
		}
	}
}

func (v *validator) accessRule(path string, r *AccessRule) {
	v.methodPatterns(KeyPath(path, "methods"), r.Methods)
	v.identities(KeyPath(path, "identities"), r.Identities)
	claims := KeyPath(path, "claims")
	for _, claim := range slices.Sorted(maps.Keys(r.Claims)) {
		v.claimValues(KeyPath(claims, claim), claim, r.Claims[claim])
	}
	if allow := KeyPath(path, "allow"); v.has(path) && !v.has(allow) {
		v.require(allow, "is needed", "write true or false")
	}
}

func (v *validator) methodPatterns(path string, patterns []string) {
	seen := map[string]string{}
	for i, pattern := range patterns {
		path := ItemPath(path, i)
		if v.isBroken(path) {
			continue
		}
		if problem, hint := methodPatternProblem(pattern); problem != "" {
			v.badValue(path, pattern, problem, hint)
			continue
		}
		v.once(path, pattern, pattern, seen)
	}
}

// methodPatternProblem returns what is wrong with text that selects methods, "" if
// nothing is.
func methodPatternProblem(pattern string) (problem, hint string) {
	bare := strings.TrimSuffix(pattern, ".*")
	service := strings.Trim(strings.TrimSuffix(pattern, "/*"), "/")
	switch {
	case pattern == "*" || methodName.MatchString(pattern) || serviceName.MatchString(bare):
		return "", ""
	case pattern == "":
		return "must not be empty", methodPatternHint
	case methodName.MatchString("/" + pattern):
		return `does not begin with "/"`, `write "/` + pattern + `"`
	case serviceName.MatchString(service):
		return `is a service with a "/"`, `write "` + service + `"`
	}
	return "selects no methods", methodPatternHint
}

func (v *validator) identities(path string, identities []string) {
	seen := map[string]string{}
	for i, identity := range identities {
		path := ItemPath(path, i)
		switch {
		case v.isBroken(path):
		case strings.TrimSpace(identity) == "":
			v.badField(path, "must not be empty", identityHint)
		case strings.Contains(strings.TrimSuffix(identity, "*"), "*"):
			v.badValue(path, identity, `has a "*" that is not at its end`, identityHint)
		default:
			v.once(path, identity, identity, seen)
		}
	}
}

func (v *validator) claimValues(path, claim string, values []string) {
	switch {
	case v.isBroken(path):
	case strings.TrimSpace(claim) == "":
		v.badField(path, "is not a claim", claimHint)
	case len(values) == 0:
		v.require(path, "has no values, one of which the claim must have", "add one")
	default:
		v.texts(path, values, "write a value of the claim")
	}
}
