package function

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	// maxName is how long the name of a function may be: as long as one in DNS, where
	// OpenFaaS's functions are found (RFC 1035 section 2.3.4, without the dot at its end).
	maxName = 253
	// defaultPort is where OpenFaaS's functions listen.
	defaultPort = "8080"
)

// refusal is why a request is not passed on, as the client is told.
type refusal struct {
	status int
	text   string
}

var (
	noName     = &refusal{http.StatusBadRequest, "Provide function name in the request path"}
	badName    = &refusal{http.StatusBadRequest, `Function names have letters, digits, "-", "_" and "." in them, and are not "." or ".."`}
	longName   = &refusal{http.StatusRequestURITooLong, fmt.Sprintf("Function names have at most %d bytes", maxName)}
	emptyFirst = &refusal{http.StatusBadRequest, `The path below the function begins with an empty segment: remove a "/"`}
	dotSegment = &refusal{http.StatusBadRequest, `The path below the function has a segment "." or "..": resolve it first`}
	backslash  = &refusal{http.StatusBadRequest, `The path below the function has a backslash in it: use "/"`}
	control    = &refusal{http.StatusBadRequest, "The path below the function has a control character in it"}
	malformed  = &refusal{http.StatusBadRequest, "The path below the function is not percent-encoded as it should be"}
	badQuery   = &refusal{http.StatusBadRequest, `The query has a space, a control character or "#" in it: percent-encode it`}
)

// subPath is what follows a function's name in a path: "", or something with a "/" in
// front.
type subPath struct {
	plain, escaped string
}

// split takes a URL apart that begins with prefix: into the name of a function and the
// path below it.
func split(u *url.URL, prefix string) (name string, sub subPath, _ *refusal) {
	rest, ok := strings.CutPrefix(escapedPath(u), prefix)
	if !ok {
		return "", subPath{}, noName
	}
	name, escaped := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		name, escaped = rest[:slash], rest[slash:]
	}
	if refused := checkName(name); refused != nil {
		return "", subPath{}, refused
	}
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return "", subPath{}, malformed
	}
	if refused := checkSub(plain); refused != nil {
		return "", subPath{}, refused
	}
	if strings.ContainsFunc(u.RawQuery, notInQuery) {
		return "", subPath{}, badQuery
	}
	return name, subPath{plain: plain, escaped: escaped}, nil
}

// escapedPath returns a path as it came, with what should have been percent-encoded
// encoded. net/url decodes everything else in such a path before that, so that "%2f"
// becomes "/".
func escapedPath(u *url.URL) string {
	escaped := u.EscapedPath()
	if u.RawPath == "" || u.RawPath == escaped {
		return escaped
	}
	if plain, err := url.PathUnescape(u.RawPath); err != nil || plain != u.Path {
		return escaped // RawPath is not that of Path, which goes by net/url's rules
	}
	var b strings.Builder
	for _, c := range []byte(u.RawPath) {
		if isOfPath(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// isOfPath is for the characters of a path (RFC 3986 section 3.3), "%" among them, and
// the brackets that net/url allows.
func isOfPath(c byte) bool {
	return !notInName(rune(c)) || strings.IndexByte("~!$&'()*+,;=:@/%[]", c) >= 0
}

func checkName(name string) *refusal {
	switch {
	case name == "":
		return noName
	case len(name) > maxName:
		return longName
	case name == ".", name == "..", strings.ContainsFunc(name, notInName):
		return badName
	}
	return nil
}

func notInName(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}

// checkSub refuses what a server might take for a path that is not below: decoded, since
// servers decode before they resolve dot segments, or after. Parameters of segments
// (";") do not count, as for Java's servers.
func checkSub(plain string) *refusal {
	switch {
	case strings.HasPrefix(plain, "//"): // a host might follow
		return emptyFirst
	case strings.IndexByte(plain, '\\') >= 0:
		return backslash
	case strings.ContainsFunc(plain, isControl):
		return control
	}
	for segment := range strings.SplitSeq(plain, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return dotSegment
		}
	}
	return nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// notInQuery is for what would end a query in the request line, or in the eyes of whoever
// reads that. HTTP/2 lets spaces through.
func notInQuery(c rune) bool { return isControl(c) || c == ' ' || c == '#' }

// under puts a sub-path and the client's query below the URL that a resolver gave.
func under(base *url.URL, sub subPath, client *url.URL) *url.URL {
	u := &url.URL{Scheme: base.Scheme, RawQuery: client.RawQuery, ForceQuery: client.ForceQuery}
	if base.Host != "" {
		u.Host = withPort(base)
	}
	u.Path = below(base.Path, sub.plain)
	u.RawPath = below(base.EscapedPath(), sub.escaped) // even if it is the same: net/url has its own way to escape
	return u
}

// below joins two paths with one slash between them.
func below(base, sub string) string {
	switch {
	case sub != "":
		return strings.TrimSuffix(base, "/") + sub
	case base != "":
		return base
	}
	return "/"
}

func withPort(base *url.URL) string {
	if base.Port() != "" {
		return base.Host
	}
	return strings.TrimSuffix(base.Host, ":") + ":" + defaultPort
}

// checkBase says what is wrong with a URL that a resolver gave, if anything. A part that
// would not be heeded is wrong too.
func checkBase(base *url.URL) error {
	switch {
	case base.Scheme != "http" && base.Scheme != "https":
		return fmt.Errorf("the resolver's URL has the scheme %q, not http or https", base.Scheme)
	case !isHost(base):
		return fmt.Errorf("the resolver's URL has the host %q, which is none", base.Host)
	case base.Opaque != "", base.User != nil, base.RawQuery != "", base.ForceQuery, base.Fragment != "":
		return errors.New("the resolver's URL has more than a scheme, a host, a port and a path")
	}
	return checkBasePath(base.Path)
}

func checkBasePath(path string) error {
	if path != "" && path[0] != '/' {
		return fmt.Errorf("the resolver's URL has the path %q, which does not begin with a slash", path)
	}
	return nil
}

// isHost reports whether a URL has a host, and in the place of the host and port nothing
// but these.
func isHost(u *url.URL) bool {
	name := u.Hostname()
	if name == "" || strings.ContainsFunc(name, notInHost) {
		return false
	}
	if strings.HasPrefix(u.Host, "[") {
		return true // an IPv6 address, which has colons
	}
	return !strings.ContainsAny(name, ":%")
}

func notInHost(c rune) bool {
	return c <= ' ' || c == 0x7f || strings.ContainsRune(`/\?#@<>"^{|}[]`+"`", c)
}
