package conf

import (
	"regexp"
	"strings"
)

// modes are the valid values of Action.Mode.
var modes = []string{string(ModeFrame), string(ModeStruct)}

var (
	serviceName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	methodName  = regexp.MustCompile(`^/[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)
)

const (
	methodHint  = `write "/package.Service/Method"`
	serviceHint = `write "package.Service"`
)

// routes checks the routes and the default action. taken holds the path of the
// matcher by the method ("/a.B/C") or service ("a.B") that it takes.
func (v *validator) routes() {
	if len(v.config.Routes) == 0 && v.config.Default == nil && !v.isBroken("default") {
		v.require("routes", "there are neither routes nor a default, so that no call could be answered",
			"add a default with the name of a cluster")
	}
	taken := map[string]string{}
	for i, route := range v.config.Routes {
		path := item("routes", i)
		if v.isBroken(path) {
			continue
		}
		v.match(join(path, "match"), route.Match, taken)
		v.action(path, route.Action)
	}
	if v.config.Default != nil {
		v.action("default", *v.config.Default)
	}
}

func (v *validator) match(path string, m Match, taken map[string]string) {
	methodPath, servicePath := join(path, "method"), join(path, "service")
	switch {
	case v.isBroken(path) || v.touched[path]:
	case m.Method != "" && m.Service != "":
		v.badField(path, "has both a method and a service", "keep one, and give the other a route of its own")
	case m.Method != "":
		if v.method(methodPath, m.Method) {
			service, _, _ := strings.Cut(m.Method[1:], "/")
			v.take(methodPath, m.Method, service, taken)
		}
	case m.Service != "":
		if v.service(servicePath, m.Service) {
			v.take(servicePath, m.Service, "", taken)
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
func (v *validator) take(path, matcher, service string, taken map[string]string) {
	if earlier, ok := taken[matcher]; ok {
		v.badValue(path, matcher, "is already "+v.reference(earlier), "remove one of the two")
		return
	}
	if earlier, ok := taken[service]; ok {
		v.badValue(path, matcher, "is never reached, as "+v.reference(earlier)+" takes the whole service",
			"move this route above that one")
		return
	}
	taken[matcher] = path
}

func (v *validator) action(path string, a Action) {
	v.clusterRef(join(path, "cluster"), a.Cluster)
	v.oneOf(join(path, "mode"), string(a.Mode), modes)
	between(v, join(path, "timeout"), a.Timeout, 0, maxTimeout)
	between(v, join(path, "message_limit"), a.MessageLimit, 0, maxMessage)
	v.oneOf(join(path, "undecodable"), a.Undecodable, []string{UndecodableReject, UndecodableForward})
}

func (v *validator) clusterRef(path, name string) {
	if v.isBroken(path) || v.isBroken("clusters") {
		return
	}
	if _, ok := v.config.Clusters[name]; !ok {
		v.choice(path, name, "is not a cluster", "clusters", v.clusterNames)
	}
}
