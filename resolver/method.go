package resolver

import "strings"

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
