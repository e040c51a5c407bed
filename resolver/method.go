package resolver

import (
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// ServiceOf returns the full service name, "package.Service", of a full method
// name, "/package.Service/Method". It returns "" if method is not of that form.
func ServiceOf(method string) string {
	rest, ok := strings.CutPrefix(method, "/")
	if !ok {
		return ""
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return ""
	}
	return rest[:i]
}

// WellFormed reports whether method is a full method name: a slash, the service,
// a slash and the method, which may be empty (gRPC over HTTP/2, Path). Servers
// disagree about what others mean, some of which take the first slash for
// optional: such a call would pass by the route of the method that it reaches.
func WellFormed(method string) bool {
	service := ServiceOf(method)
	return service != "" && service[0] != '/'
}

// MatchesMethod reports whether m lets calls of a well-formed method through as
// far as Method, Service and Package go, whatever else it asks for.
func MatchesMethod(m *conf.Match, method string) bool {
	return pathOf(m).takes(method)
}

// path is what a route asks of the method: one field is set, or none for any.
type path struct{ method, service, pkg string }

func pathOf(m *conf.Match) path { return path{method: m.Method, service: m.Service, pkg: m.Package} }

func (p path) takes(method string) bool {
	switch {
	case p.method != "":
		return p.method == method
	case p.service != "":
		return p.service == ServiceOf(method)
	case p.pkg != "":
		return isBelow(ServiceOf(method), p.pkg)
	default:
		return true
	}
}

// covers reports whether p takes every method that q takes.
func (p path) covers(q path) bool {
	switch {
	case p.method != "":
		return p.method == q.method
	case p.service != "":
		return p.service == q.scope()
	case p.pkg != "":
		return isBelow(q.scope(), p.pkg)
	default:
		return true
	}
}

// scope returns what the services of all methods that p takes begin with: the
// service, or the package and a dot; "" if they have nothing in common.
func (p path) scope() string {
	switch {
	case p.method != "":
		return ServiceOf(p.method)
	case p.pkg != "":
		return p.pkg + "."
	default:
		return p.service
	}
}

// isBelow reports whether a service is in a package or in one below it.
func isBelow(service, pkg string) bool {
	rest, ok := strings.CutPrefix(service, pkg)
	return ok && strings.HasPrefix(rest, ".")
}
