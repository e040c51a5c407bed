package conf

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

const expressionHint = "write an expression in CEL"

// points are the valid values of Rule.On.
var points = []string{OnStart, OnRequest, OnHeader, OnResponse, OnEnd}

var (
	bareMethod = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	ruleName   = regexp.MustCompile(`^[^\pC\pZ]([^\pC\p{Zl}\p{Zp}]{0,61}[^\pC\pZ])?$`)
)

// rules checks what can be seen without the schema and without CEL. match is the
// route's; nil for the default action.
func (v *validator) rules(path string, a *Action, match *Match) {
	rules := KeyPath(path, "rules")
	if len(a.Rules) == 0 || v.isBroken(rules) || v.isBroken(KeyPath(path, "mode")) {
		return
	}
	if a.Mode != ModeDynamic {
		v.badField(rules, "are not for "+modeReason(a.Mode), "remove them, or write mode: dynamic")
		return
	}
	names := map[string]string{}
	for i := range a.Rules {
		path := ItemPath(rules, i)
		if v.isBroken(path) {
			continue
		}
		v.ruleName(KeyPath(path, "name"), a.Rules[i].Name, names)
		v.rule(path, &a.Rules[i])
		v.ruleMethod(KeyPath(path, "method"), a.Rules[i].Method, KeyPath(parent(rules), "match"), match)
	}
}

func (v *validator) ruleName(path, name string, names map[string]string) {
	switch {
	case v.isBroken(path):
	case name == "":
		v.badField(path, "must not be empty", "write a name that no other rule of the route has")
	case !ruleName.MatchString(name):
		v.badValue(path, name, "is not a name for a rule", "write one line of 1 to 63 characters, with no space at the ends")
	case names[name] != "":
		v.badValue(path, name, "is already "+v.reference(names[name]), "rename one of the two")
	default:
		names[name] = path
	}
}

// ruleMethod checks a method that is only a part of what the route matches.
// matchPath is where that is.
func (v *validator) ruleMethod(path, method, matchPath string, match *Match) {
	v.notBlank(path, method, "write the bare name of a method, or remove it")
	if method == "" || v.isBroken(path) {
		return
	}
	switch {
	case match == nil:
		v.badValue(path, method, "is a method of no known service, as the default takes all", "give the method a route of its own")
	case v.touched[matchPath]:
	case match.Method != "":
		v.badValue(path, method, "is for routes that match a service, and this one matches a method", "remove it")
	case match.Service == "":
		v.badValue(path, method, "is a method of no known service, as the route matches none", "give the method a route of its own")
	case !bareMethod.MatchString(method):
		hint := "write the last part of the full method name"
		if bare := method[strings.LastIndex(method, "/")+1:]; bareMethod.MatchString(bare) {
			hint = "write " + quote(bare)
		}
		v.badValue(path, method, "is not the bare name of a method", hint)
	default:
		if earlier, ok := v.taken["/"+match.Service+"/"+method]; ok {
			v.badValue(path, method, "never comes here, as "+v.reference(earlier)+" takes it", "move the rule to that route")
		}
	}
}

// rule checks everything that does not depend on the route.
func (v *validator) rule(path string, r *Rule) {
	v.oneOf(KeyPath(path, "on"), r.On, points)
	v.notBlank(KeyPath(path, "if"), r.If, "write a condition in CEL, or remove it")
	v.notBlank(KeyPath(path, "cluster"), r.Cluster, expressionHint)
	v.reject(KeyPath(path, "reject"), r.Reject)
	v.fields(path, r)
	v.metadata(KeyPath(path, "metadata"), &r.Metadata)
	v.actions(path, r)
}

func (v *validator) reject(path string, r *Reject) {
	if r == nil {
		v.notNull(path)
		return
	}
	v.code(KeyPath(path, "code"), r.Code)
	v.notBlank(KeyPath(path, "message"), r.Message, expressionHint+", or remove it")
}

// fields checks that set, clear and redact have each field once.
func (v *validator) fields(path string, r *Rule) {
	seen := map[string]string{}
	v.expressions(KeyPath(path, "set"), r.Set, fieldKeys, seen)
	v.keys(KeyPath(path, "clear"), r.Clear, fieldKeys, seen)
	v.keys(KeyPath(path, "redact"), r.Redact, fieldKeys, seen)
}

// metadata checks that no key is in one map twice, or removed and given values.
func (v *validator) metadata(path string, m *MetadataChanges) {
	set, add := map[string]string{}, map[string]string{}
	v.expressions(KeyPath(path, "set"), m.Set, metadataKeys, set)
	v.expressions(KeyPath(path, "add"), m.Add, metadataKeys, add)
	maps.Copy(set, add)
	v.keys(KeyPath(path, "remove"), m.Remove, metadataKeys, set)
}

// keyKind is what a rule's maps and lists have as keys.
type keyKind struct {
	problem func(key string) (problem, hint string) // "" if it is one
	fold    func(string) string                     // gives keys that are the same one form
}

// What is a field is the schema's business, but for nothing at all.
var fieldKeys = keyKind{
	problem: func(key string) (problem, hint string) {
		if strings.TrimSpace(key) == "" {
			return "is not the path of a field", `write one such as "name" or "user.name"`
		}
		return "", ""
	},
	fold: func(key string) string { return key },
}

var metadataKeys = keyKind{problem: metadataKeyProblem, fold: strings.ToLower}

var metadataKey = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func metadataKeyProblem(key string) (problem, hint string) {
	if metadataKey.MatchString(key) {
		return "", ""
	}
	return "is not a key of metadata", `write letters, digits, "-", "_" and "."`
}

// expressions checks a map from keys to expressions. seen holds the path of each
// key so far.
func (v *validator) expressions(path string, byKey map[string]string, kind keyKind, seen map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		path := KeyPath(path, key)
		problem, hint := kind.problem(key)
		switch {
		case v.isBroken(path):
		case problem != "":
			v.badField(path, problem, hint)
		case strings.TrimSpace(byKey[key]) == "":
			v.badField(path, "must not be empty", expressionHint)
		default:
			v.once(path, "", kind.fold(key), seen)
		}
	}
}

// keys checks a list of keys; see expressions.
func (v *validator) keys(path string, keys []string, kind keyKind, seen map[string]string) {
	for i, key := range keys {
		path := ItemPath(path, i)
		problem, hint := kind.problem(key)
		switch {
		case v.isBroken(path):
		case problem != "":
			v.badValue(path, key, problem, hint)
		default:
			v.once(path, key, kind.fold(key), seen)
		}
	}
}

// actions checks that a rule does something, and nothing that is not possible at
// its point or together.
func (v *validator) actions(path string, r *Rule) {
	some := false
	for _, a := range r.actions() {
		path := KeyPath(path, a.key)
		some = some || a.isSet || v.touched[path]
		if !a.isSet || v.isBroken(path) {
			continue
		}
		if slices.Contains(points, r.On) && !slices.Contains(a.on, r.On) {
			v.badField(path, "is not possible on "+r.On, "possible on: "+enumerate(a.on))
			continue
		}
		if beside := r.endsMessage(a.key); beside != "" {
			v.badField(path, "is not possible beside "+beside+", after which there is no message", "remove one of the two")
		}
	}
	if !some && !v.isBroken(path) {
		v.badField(path, "does nothing", "add reject, drop, set, clear, redact, metadata or cluster")
	}
}

// endsMessage returns the action of r that leaves nothing to do for another one
// that is for messages; "" if there is none.
func (r *Rule) endsMessage(other string) string {
	switch other {
	case "set", "clear", "redact":
		if r.Drop {
			return "drop"
		}
		fallthrough
	case "drop":
		if r.Reject != nil {
			return "reject"
		}
	}
	return ""
}
