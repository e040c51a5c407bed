package conf

import (
	"errors"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
)

const (
	methodHint    = `write "/package.Service/Method"`
	serviceHint   = `write "package.Service"`
	packageHint   = `write one such as "company.orders"`
	authorityHint = `write "host", "host:port" or "*.example.com"`
	peerHint      = `write one such as "10.0.0.0/8" or "10.1.2.3"`
)

var (
	serviceName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	methodName  = regexp.MustCompile(`^/[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)
)

func (v *validator) match(path string, m *Match) {
	if v.isBroken(path) {
		return
	}
	v.matchMethods(path, m)
	v.authority(KeyPath(path, "authority"), m.Authority)
	v.metadataMatches(KeyPath(path, "metadata"), m.Metadata)
	v.peers(KeyPath(path, "peer"), m.Peer)
	if m.Method == "" && m.Service == "" && m.Package == "" && !m.hasMore() {
		v.require(path, "has no condition", `add one, such as "service: package.Service"`)
	}
}

// hasMore tells whether there are conditions besides the one on the method.
func (m *Match) hasMore() bool {
	return m.Authority != "" || len(m.Metadata) > 0 || len(m.Peer) > 0
}

// matchMethods checks the condition on the method, of which there may be one.
func (v *validator) matchMethods(path string, m *Match) {
	methodPath, servicePath, packagePath := KeyPath(path, "method"), KeyPath(path, "service"), KeyPath(path, "package")
	if v.bothOf(path, m) || v.isBroken(path) {
		return
	}
	alone := !m.hasMore() && !v.touched[path] // a condition may be there and broken
	switch {
	case m.Method != "" && v.method(methodPath, m.Method) && alone:
		service, _, _ := strings.Cut(m.Method[1:], "/")
		v.take(methodPath, m.Method, service)
	case m.Service != "" && v.service(servicePath, m.Service) && alone:
		v.take(servicePath, m.Service, "")
	case m.Package != "" && v.pkg(packagePath, m.Package) && alone:
		v.once(packagePath, m.Package, m.Package+".", v.taken)
	}
}

// bothOf reports more than one condition on the method.
func (v *validator) bothOf(path string, m *Match) bool {
	var set []string
	for _, c := range []struct{ name, value string }{
		{"a method", m.Method}, {"a service", m.Service}, {"a package", m.Package},
	} {
		if c.value != "" {
			set = append(set, c.name)
		}
	}
	switch {
	case len(set) < 2 || v.isBroken(path):
		return false
	case len(set) == 2:
		v.badField(path, "has both "+listed(set), "keep one, and give the other a route of its own")
	default:
		v.badField(path, "has "+listed(set), "keep one, and give the others routes of their own")
	}
	return true
}

func (v *validator) method(path, method string) bool {
	switch {
	case v.isBroken(path):
	case methodName.MatchString(method):
		return true
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
	switch bare := strings.Trim(service, "/"); {
	case v.isBroken(path):
	case serviceName.MatchString(service):
		return true
	case serviceName.MatchString(bare):
		v.badValue(path, service, `has a "/"`, `write "`+bare+`"`)
	case methodName.MatchString("/" + bare):
		v.badValue(path, service, "is a method", "match it as one, or "+serviceHint)
	default:
		v.badValue(path, service, "is not a full service name", serviceHint)
	}
	return false
}

// pkg checks the name of a package, which has the form of that of a service.
func (v *validator) pkg(path, name string) bool {
	switch bare := strings.TrimRight(name, ".*/"); {
	case v.isBroken(path):
	case serviceName.MatchString(name):
		return true
	case serviceName.MatchString(bare):
		v.badValue(path, name, "has more than the name", `write "`+bare+`", which takes the packages below, too`)
	default:
		v.badValue(path, name, "is not the name of a package", packageHint)
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

func (v *validator) authority(path, authority string) {
	v.notBlank(path, authority, authorityHint)
	if authority == "" || v.isBroken(path) {
		return
	}
	if problem, hint := authorityProblem(authority); problem != "" {
		v.badValue(path, authority, problem, hint)
	}
}

// authorityProblem returns what is wrong with an authority, "" if nothing is. It
// is an address that may lack its port and may begin with a wildcard.
func authorityProblem(authority string) (problem, hint string) {
	host, wildcard := strings.CutPrefix(authority, "*.")
	parsed, problem, hint := parseAddress(host)
	if problem == "has no port" {
		parsed, problem, hint = parseAddress(host + ":1")
	}
	_, notIP := netip.ParseAddr(parsed.host)
	switch {
	case strings.Contains(host, "*"):
		problem, hint = `has a wildcard that is not "*." in front`, authorityHint
	case problem == "" && parsed.path != "":
		problem = "is the address of a socket, not an authority"
	case problem == "" && parsed.host == "":
		problem = "has no host"
	case problem == "" && wildcard && notIP == nil:
		problem = "has a wildcard in front of an IP address"
	}
	if hint == "" {
		hint = authorityHint
	}
	return problem, hint
}

func (v *validator) metadataMatches(path string, matches []MetadataMatch) {
	for i := range matches {
		path, m := ItemPath(path, i), &matches[i]
		if v.isBroken(path) {
			continue
		}
		v.readableKey(KeyPath(path, "key"), m.Key)
		v.notBlank(KeyPath(path, "prefix"), m.Prefix, "write what values begin with, or present: true for any")
		v.regexp(KeyPath(path, "regexp"), m.Regexp)
		if m.Exact == nil {
			v.notNull(KeyPath(path, "exact"))
		}
		if m.Present == nil {
			v.notNull(KeyPath(path, "present"))
		}
		v.exactlyOne(path, option{"exact", m.Exact != nil}, option{"prefix", m.Prefix != ""},
			option{"regexp", m.Regexp != ""}, option{"present", m.Present != nil})
	}
}

func (v *validator) regexp(path, expression string) {
	v.notBlank(path, expression, "write a regular expression, or present: true for any")
	if expression == "" || v.isBroken(path) {
		return
	}
	var wrong *syntax.Error
	if _, err := regexp.Compile(expression); errors.As(err, &wrong) {
		v.badValue(path, expression, "is not a regular expression: "+wrong.Code.String()+" at "+quote(wrong.Expr),
			"write it in the syntax of RE2, https://github.com/google/re2/wiki/Syntax")
	}
}

// peers checks networks and addresses; each may be there once.
func (v *validator) peers(path string, peers []string) {
	seen := map[string]string{}
	for i, peer := range peers {
		path := ItemPath(path, i)
		if v.isBroken(path) {
			continue
		}
		network, problem, hint := parseNetwork(peer)
		if problem != "" {
			v.badValue(path, peer, problem, hint)
			continue
		}
		v.once(path, peer, network.String(), seen)
	}
}

// parseNetwork reads a network or an IP address, which is a network of one. It
// returns what is wrong with others, and what to do about it.
func parseNetwork(text string) (network netip.Prefix, problem, hint string) {
	if strings.TrimSpace(text) == "" {
		return network, "must not be empty", peerHint
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip, ip.BitLen()), "", ""
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return network, "is neither a network nor an IP address", peerHint
	case network != network.Masked():
		return network, "has more than the address of the network", `write "` + network.Masked().String() + `"`
	}
	return network, "", ""
}
