package resolver

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// pairs is the metadata of a call in a test. Value allocates nothing.
type pairs []Field

func (p pairs) Value(key string, i int) (string, bool) {
	for k := range p {
		if p[k].Key != key {
			continue
		}
		if i == 0 {
			return p[k].Value, true
		}
		i--
	}
	return "", false
}

func (p pairs) values(key string) []string {
	var values []string
	for _, f := range p {
		if f.Key == key {
			values = append(values, f.Value)
		}
	}
	return values
}

// referenceWinner goes through the routes one by one, as package conf describes
// them. It returns -1 if none matches.
func referenceWinner(routes []conf.Route, c *Call) int {
	if !WellFormed(c.Method) {
		return -1
	}
	return slices.IndexFunc(routes, func(r conf.Route) bool { return referenceMatches(&r.Match, c) })
}

func referenceMatches(m *conf.Match, c *Call) bool {
	service := c.Method[1:strings.LastIndex(c.Method, "/")]
	switch {
	case m.Method != "" && c.Method != m.Method,
		m.Service != "" && service != m.Service,
		m.Package != "" && !strings.HasPrefix(service, m.Package+"."),
		m.Authority != "" && !referenceAuthority(m.Authority, c.Authority),
		len(m.Peer) > 0 && !referencePeer(m.Peer, c.Peer):
		return false
	}
	for i := range m.Metadata {
		if !referenceMetadata(&m.Metadata[i], c) {
			return false
		}
	}
	return true
}

var withPort = regexp.MustCompile(`^([^:]*|\[.*\]):[0-9]*$`)

func referenceAuthority(pattern, authority string) bool {
	names := []string{authority}
	if port := withPort.FindStringSubmatch(authority); port != nil {
		names = append(names, port[1])
	}
	return slices.ContainsFunc(names, func(name string) bool {
		name, pattern := asciiLower(name), asciiLower(pattern)
		if wild, ok := strings.CutPrefix(pattern, "*"); ok {
			return strings.HasSuffix(name, wild) && len(name) > len(wild)
		}
		return name == pattern
	})
}

func asciiLower(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= 'A' && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b)
}

func referencePeer(networks []string, peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return false
	}
	return slices.ContainsFunc(networks, func(n string) bool {
		n = strings.TrimPrefix(n, "::ffff:")
		n = strings.TrimSuffix(n, "/112") + map[bool]string{true: "/16"}[strings.HasSuffix(n, "/112")]
		if addr, err := netip.ParseAddr(n); err == nil {
			return tcp.IP.Equal(addr.AsSlice())
		}
		_, network, err := net.ParseCIDR(n)
		if err != nil {
			panic(err)
		}
		isV4 := tcp.IP.To4() != nil
		return network.Contains(tcp.IP) && isV4 == (len(network.IP) == net.IPv4len)
	})
}

func referenceMetadata(m *conf.MetadataMatch, c *Call) bool {
	var values []string
	if c.Metadata != nil {
		values = c.Metadata.(pairs).values(asciiLower(m.Key))
	}
	trim := func(s string) string { return s }
	if strings.HasSuffix(m.Key, "-bin") {
		trim = func(s string) string { return strings.TrimRight(s, "=") }
	}
	if m.Present != nil {
		return *m.Present == (len(values) > 0)
	}
	return slices.ContainsFunc(values, func(v string) bool {
		switch v = trim(v); {
		case m.Exact != nil:
			return v == trim(*m.Exact)
		case m.Prefix != "":
			return strings.HasPrefix(v, trim(m.Prefix))
		default:
			whole := regexp.MustCompile(m.Regexp)
			whole.Longest()
			found := whole.FindStringIndex(v)
			return found != nil && found[0] == 0 && found[1] == len(v)
		}
	})
}

// What random routes and calls are made of: little, so that they meet.
var (
	someServices    = []string{"S", "a.S", "a.b.S", "a.b.c.S", "a.b.c.d.S", "ab.S"}
	somePackages    = []string{"a", "a.b", "a.b.c", "ab"}
	someAuthorities = []string{
		"x.io", "x.io:443", "X.Io", "*.x.io", "*.Y.x.io", "*.io", "*.io:443", "[::1]", "[::1]:80", "::1", "z.y.x.io",
	}
	someAsked = []string{
		"", "x.io", "x.io:443", "X.IO:8443", "y.x.io", "z.Y.x.io:443", ".x.io", "x.io:", "a:b.x.io:443",
		"[::1]", "[::1]:80", "::1", "*.x.io", "..x.io", "x.io.",
	}
	someKeys     = []string{"k", "K", "l", "t-bin"}
	someValues   = []string{"", "a", "ab", "b", "YQ", "YQ=="}
	somePrefixes = []string{"a", "ab", "Y"}
	someRegexps  = []string{"a.*", "a|ab", "(?i)A", `\Qab`, "a|b", "ab?|b", "b$", "^a", ".*", "Y.+"}
	someNetworks = []string{
		"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::/0", "0.0.0.0/0", "::ffff:10.1.0.0/112", "fd00::/8", "fd00::1",
		"::ffff:10.1.2.3",
	}
	somePeers = []net.Addr{
		nil, &net.UnixAddr{Name: "10.1.2.3:4", Net: "unix"}, tcpAddr("10.1.2.3"), tcpAddr("10.1.9.9"), tcpAddr("10.9.9.9"),
		tcpAddr("192.0.2.1"), &net.TCPAddr{IP: net.IP{10, 1, 2, 3}}, tcpAddr("fd00::1"), tcpAddr("fe80::1"),
	}
)

func tcpAddr(ip string) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 5} }

func oneOf[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// randomRoutes returns up to n routes that ask for up to four things.
func randomRoutes(r *rand.Rand, n int) []conf.Route {
	routes := make([]conf.Route, 1+r.IntN(n))
	for i := range routes {
		m := &routes[i].Match
		routes[i].Cluster = "c"
		switch r.IntN(6) {
		case 0:
			m.Method = "/" + oneOf(r, someServices) + "/" + oneOf(r, []string{"M", "N"})
		case 1:
			m.Service = oneOf(r, someServices)
		case 2:
			m.Package = oneOf(r, somePackages)
		}
		if r.IntN(3) == 0 {
			m.Authority = oneOf(r, someAuthorities)
		}
		for r.IntN(2) == 0 {
			m.Metadata = append(m.Metadata, randomMetadata(r))
		}
		for r.IntN(3) == 0 {
			m.Peer = append(m.Peer, oneOf(r, someNetworks))
		}
	}
	return routes
}

func randomMetadata(r *rand.Rand) conf.MetadataMatch {
	m := conf.MetadataMatch{Key: oneOf(r, someKeys)}
	switch r.IntN(5) {
	case 0, 1:
		m.Exact = new(oneOf(r, someValues))
	case 2:
		m.Prefix = oneOf(r, somePrefixes)
	case 3:
		m.Regexp = oneOf(r, someRegexps)
	default:
		m.Present = new(r.IntN(2) == 0)
	}
	return m
}

func randomCall(r *rand.Rand) *Call {
	c := &Call{
		Method:    "/" + oneOf(r, someServices) + "/" + oneOf(r, []string{"M", "N"}),
		Authority: oneOf(r, someAsked), Peer: oneOf(r, somePeers),
	}
	var metadata pairs
	for r.IntN(3) > 0 {
		metadata = append(metadata, Field{Key: asciiLower(oneOf(r, someKeys)), Value: oneOf(r, someValues)})
	}
	if len(metadata) > 0 {
		c.Metadata = metadata
	}
	return c
}
