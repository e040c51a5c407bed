package conf

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// url checks where requests go: http or https, a host, and perhaps a port and a path.
// u is nil if the URL is not valid. A user is not shown, as there may be a password.
func (v *validator) url(path, text, hint string) (u *url.URL, ok bool) {
	if v.isBroken(path) {
		return nil, false
	}
	u, err := url.Parse(text)
	if strings.Contains(text, "@") && (err != nil || u.User != nil) {
		v.badField(path, "has a user, and perhaps a password, in it", "remove both")
		return nil, false
	}
	if problem := urlProblem(u, err); problem != "" {
		v.badValue(path, text, problem, hint)
		return nil, false
	}
	return u, true
}

// urlProblem returns what is wrong with a URL, "" if nothing is. err is what parsing it
// has given.
func urlProblem(u *url.URL, err error) string {
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "does not begin with http:// or https://"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "has more than a host, a port and a path"
	case u.Host == "" || u.Opaque != "":
		return "has no host"
	case hasDots(u.Path):
		return `has "." or ".." in its path`
	}
	return hostProblem(u)
}

// hostProblem returns what is wrong with the host of a URL, or with its port.
func hostProblem(u *url.URL) string {
	if _, ok := parseHost(u.Hostname(), u.Host[0] == '['); !ok {
		return "has a host that is neither a name nor an IP address"
	}
	if u.Hostname() == "" {
		return "has no host"
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return "has a port that is not a number from 1 to 65535"
	}
	return ""
}

// hasDots tells whether a path leads elsewhere than it says, once it has been decoded.
func hasDots(path string) bool {
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' || c == '\\' })
	return slices.Contains(segments, ".") || slices.Contains(segments, "..") ||
		strings.ContainsFunc(path, unicode.IsControl)
}

// plainPath is a path of which nothing has to be escaped.
var plainPath = regexp.MustCompile(`^/([A-Za-z0-9._~!$&'()*+,;=:@-]+/)*([A-Za-z0-9._~!$&'()*+,;=:@-]+)?$`)

// urlPath checks the path of a URL, which begins with "/".
func (v *validator) urlPath(path, text, hint string) bool {
	switch {
	case v.isBroken(path):
		return false
	case text == "":
		v.badField(path, "must not be empty", hint)
	case text[0] != '/':
		v.badValue(path, text, `does not begin with "/"`, hint)
	case !plainPath.MatchString(text) || hasDots(text):
		v.badValue(path, text, "is not a plain path", hint)
	default:
		return true
	}
	return false
}
