package resolver

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
)

// matcher is the conf.Match of a route made ready. It is read-only.
type matcher struct {
	rank      int // the place in the file: the first match wins
	path      path
	authority authority
	metadata  []condition
	// indexed is the condition that the index has taken care of: an exact one, of
	// which fewest routes have the same; -1 if there is none.
	indexed  int
	networks []netip.Prefix // the peer is in one of them; none for any
}

// newMatchers makes the matches of all routes ready, in order.
func newMatchers(routes []conf.Route) []*matcher {
	all := make([]*matcher, 0, len(routes))
	times := make(map[Field]int)
	for i := range routes {
		m := newMatcher(i, &routes[i].Match)
		all = append(all, m)
		for c := range m.metadata {
			times[m.metadata[c].field()]++
		}
	}
	for _, m := range all {
		m.indexed = m.rarest(times)
	}
	return all
}

func newMatcher(rank int, match *conf.Match) *matcher {
	m := &matcher{rank: rank, path: pathOf(match), authority: newAuthority(match.Authority)}
	for i := range match.Metadata {
		m.metadata = append(m.metadata, newCondition(&match.Metadata[i]))
	}
	for _, text := range match.Peer {
		m.networks = append(m.networks, newNetwork(text))
	}
	return m
}

// rarest returns which of the exact conditions fewest routes have.
func (m *matcher) rarest(times map[Field]int) int {
	rarest := -1
	for i := range m.metadata {
		c := &m.metadata[i]
		if c.kind == isExact && (rarest < 0 || times[c.field()] < times[m.metadata[rarest].field()]) {
			rarest = i
		}
	}
	return rarest
}

// takesRest reports whether a call that the index has led here is as the
// conditions want it that the index has not taken care of.
func (m *matcher) takesRest(metadata Metadata) bool {
	for i := range m.metadata {
		if i != m.indexed && !m.metadata[i].holds(metadata) {
			return false
		}
	}
	return true
}

// covers reports whether m takes every call that other takes. It goes condition by
// condition, and may say no where that is not enough to tell.
func (m *matcher) covers(other *matcher) bool {
	return m.path.covers(other.path) && m.authority.covers(other.authority) &&
		m.coversMetadata(other) && m.coversNetworks(other)
}

func (m *matcher) coversMetadata(other *matcher) bool {
	for i := range m.metadata {
		follows := func(d condition) bool { return m.metadata[i].followsFrom(&d) }
		if !slices.ContainsFunc(other.metadata, follows) {
			return false
		}
	}
	return true
}

func (m *matcher) coversNetworks(other *matcher) bool {
	if len(m.networks) == 0 {
		return true
	}
	outside := func(inner netip.Prefix) bool { return !anyContains(m.networks, inner) }
	return len(other.networks) > 0 && !slices.ContainsFunc(other.networks, outside)
}

// contradiction returns the key of a condition that another one rules out, "" if
// there is none.
func (m *matcher) contradiction() string {
	for i := range m.metadata {
		ruledOut := func(d condition) bool { return m.metadata[i].contradicts(&d) }
		if slices.ContainsFunc(m.metadata, ruledOut) {
			return m.metadata[i].key
		}
	}
	return ""
}

// String says in words which calls m takes.
func (m *matcher) String() string {
	parts := []string{"all calls"}
	add := func(what, name string) {
		if name != "" {
			parts = append(parts, what+" "+name)
		}
	}
	add("of method", m.path.method)
	add("of service", m.path.service)
	add("of package", m.path.pkg)
	add("to authority", m.authority.pattern())
	add("with", conditionList(m.metadata))
	add("from", networkList(m.networks))
	return strings.Join(parts, " ")
}
