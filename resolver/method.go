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
