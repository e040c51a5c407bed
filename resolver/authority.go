package resolver

import "strings"

// authority is what a route asks of the :authority: the name in lower case, with
// what stands behind "*." if it is a wildcard. The zero value takes any.
type authority struct {
	name     string
	wildcard bool
}

func newAuthority(pattern string) authority {
	name, wildcard := strings.CutPrefix(lower(pattern), "*.")
	return authority{name: name, wildcard: wildcard}
}

// pattern is the inverse of newAuthority.
func (a authority) pattern() string {
	if a.wildcard {
		return "*." + a.name
	}
	return a.name
}

// covers reports whether a takes every call that b takes. That is so if a takes
// b's own name, with or without its port: hostOf changes nothing about what it
// has returned.
func (a authority) covers(b authority) bool {
	switch {
	case a.name == "":
		return true
	case b.name == "":
		return false
	case !a.wildcard:
		return !b.wildcard && (a.name == b.name || a.name == hostOf(b.name))
	default:
		return isSubdomain(b.pattern(), a.name) || !b.wildcard && isSubdomain(hostOf(b.name), a.name)
	}
}

// isSubdomain reports whether name is one or more labels, a dot and parent.
func isSubdomain(name, parent string) bool {
	rest, ok := strings.CutSuffix(name, parent)
	return ok && len(rest) > 1 && rest[len(rest)-1] == '.'
}

// hostOf returns an authority without its port, if it has one (RFC 3986 section
// 3.2.3). What is neither a name nor an IPv6 address in brackets has none.
func hostOf(authority string) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.Trim(authority[i+1:], "0123456789") != "" {
		return authority
	}
	host := authority[:i]
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if !bracketed && strings.Contains(host, ":") {
		return authority
	}
	return host
}

// lower returns s with the letters of ASCII in lower case: host names know no
// others (RFC 4343). It allocates only if there is a capital.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowered(s)
		}
	}
	return s
}

func lowered(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
