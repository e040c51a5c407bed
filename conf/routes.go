package conf

import (
	"regexp"
	"strings"
)

// Valid values of an Action.
var (
	modes        = []string{string(ModeFrame), string(ModeStruct), string(ModeDynamic)}
	undecodables = []string{UndecodableReject, UndecodableForward}
)

var (
	serviceName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	methodName  = regexp.MustCompile(`^/[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)
)

const (
	methodHint  = `write "/package.Service/Method"`
	serviceHint = `write "package.Service"`
)

// routes checks the routes and the default action.
func (v *validator) routes() {
	if len(v.config.Routes) == 0 && v.config.Default == nil && !v.isBroken("default") {
		v.require("routes", "there are neither routes nor a default, so that no call could be answered",
			"add a default with the name of a cluster")
	}
	for i := range v.config.Routes {
		path, route := ItemPath("routes", i), &v.config.Routes[i]
		if v.isBroken(path) {
			continue
		}
		v.match(KeyPath(path, "match"), route.Match)
		v.action(path, &route.Action)
		v.rules(path, &route.Action, &route.Match)
	}
	if v.config.Default != nil {
		v.action("default", v.config.Default)
		v.rules("default", v.config.Default, nil)
	}
}

func (v *validator) match(path string, m Match) {
	methodPath, servicePath := KeyPath(path, "method"), KeyPath(path, "service")
	switch {
	case v.isBroken(path) || v.touched[path]:
	case m.Method != "" && m.Service != "":
		v.badField(path, "has both a method and a service", "keep one, and give the other a route of its own")
	case m.Method != "":
		if v.method(methodPath, m.Method) {
			service, _, _ := strings.Cut(m.Method[1:], "/")
			v.take(methodPath, m.Method, service)
		}
	case m.Service != "":
		if v.service(servicePath, m.Service) {
			v.take(servicePath, m.Service, "")
		}
	default:
		v.badField(path, "has neither a method nor a service", `add one, such as "service: package.Service"`)
	}
}

func (v *validator) method(path, method string) bool {
	if methodName.MatchString(method) {
		return true
	}
	switch {
	case methodName.MatchString("/" + method):
		v.badValue(path, method, `does not begin with "/"`, `write "/`+method+`"`)
	case strings.HasSuffix(method, "/*"):
		v.badValue(path, method, "has a wildcard, which is not known here", "match a service to take all its methods")
	default:
		v.badValue(path, method, "is not a full method name", methodHint)
	}
	return false
}

func (v *validator) service(path, service string) bool {
	if serviceName.MatchString(service) {
		return true
	}
	switch bare := strings.Trim(service, "/"); {
	case serviceName.MatchString(bare):
		v.badValue(path, service, `has a "/"`, `write "`+bare+`"`)
	case methodName.MatchString("/" + bare):
		v.badValue(path, service, "is a method", "match it as one, or "+serviceHint)
	default:
		v.badValue(path, service, "is not a full service name", serviceHint)
	}
	return false
}

// take reports a matcher whose calls all go to an earlier route, and otherwise
// takes them. service is the method's service; "" if the matcher is a service.
func (v *validator) take(path, matcher, service string) {
	if earlier, ok := v.taken[matcher]; ok {
		v.badValue(path, matcher, "is already "+v.reference(earlier), "remove one of the two")
		return
	}
	if earlier, ok := v.taken[service]; ok {
		v.badValue(path, matcher, "is never reached, as "+v.reference(earlier)+" takes the whole service",
			"move this route above that one")
		return
	}
	v.taken[matcher] = path
}

func (v *validator) action(path string, a *Action) {
	v.clusterRef(KeyPath(path, "cluster"), a.Cluster)
	v.oneOf(KeyPath(path, "mode"), string(a.Mode), modes)
	between(v, KeyPath(path, "timeout"), a.Timeout, 0, maxTimeout)
	between(v, KeyPath(path, "message_limit"), a.MessageLimit, 0, maxMessage)
	if undecodable := KeyPath(path, "undecodable"); a.Undecodable != "" || v.has(undecodable) {
		v.oneOf(undecodable, a.Undecodable, undecodables)
	}
	v.schemaRef(path, a)
}

func (v *validator) clusterRef(path, name string) {
	if v.isBroken(path) || v.isBroken("clusters") {
		return
	}
	if _, ok := v.config.Clusters[name]; !ok {
		v.choice(path, name, "is not a cluster", "clusters", v.clusterNames)
	}
}

// schemaRef checks that an action has a schema if its mode takes one.
func (v *validator) schemaRef(path string, a *Action) {
	path = KeyPath(path, "schema")
	if v.isBroken(path) || v.isBroken(KeyPath(parent(path), "mode")) {
		return
	}
	_, known := v.config.Schemas[a.Schema]
	switch {
	case a.Mode != ModeDynamic && a.Schema != "":
		v.badValue(path, a.Schema, "is not for "+modeReason(a.Mode), "remove it, or write mode: dynamic")
	case a.Mode != ModeDynamic:
		v.notBlank(path, a.Schema, "remove it")
	case known || v.isBroken("schemas"):
	case len(v.schemaNames) == 0:
		v.badField(path, "is needed with mode: dynamic, and there are no schemas", "add one under schemas, as conf/proxy.yaml does")
	case a.Schema == "":
		v.badField(path, "is needed with mode: dynamic", "schemas: "+enumerate(v.schemaNames))
	default:
		v.choice(path, a.Schema, "is not a schema", "schemas", v.schemaNames)
	}
}

// modeReason names a mode other than dynamic, and why it has no schema and no
// rules.
func modeReason(m Mode) string {
	if m == ModeStruct {
		return "mode: struct, which has generated types and filters in Go"
	}
	return "mode: frame, which looks into no message"
}
