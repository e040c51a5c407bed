package resolver

import (
	"iter"
	"math"
	"net/netip"
	"slices"
)

// index finds the first route that takes a call without going through all of them.
// It is a tree of four levels: the method, service or package that a route asks
// for, then the authority, then one exact value of metadata, then the network of
// the peer. On each level a route is where its own condition puts it, or under all
// if it has none there. A call looks into each place that it belongs to: these are
// as many as its names have labels, keys have values and networks have lengths,
// as far as routes have them, and do not grow with the number of routes.
//
// Routes are added in the order of the file. What the places do not decide, such
// as regular expressions, is gone through in that order. The zero value is empty.
type index struct {
	all      authorityLevel
	methods  map[string]*authorityLevel
	services map[string]*authorityLevel
	packages map[string]*authorityLevel
	longest  int // package, in bytes: a long name from a client is not looked up label by label to its end
}

type authorityLevel struct {
	all       metadataLevel
	exact     map[string]*metadataLevel
	wildcards map[string]*metadataLevel // by what is behind "*."
	longest   int                       // of those
}

type metadataLevel struct {
	all  networkLevel
	keys []keyLevel
}

type keyLevel struct {
	key    string
	values map[string]*networkLevel
}

type networkLevel struct {
	all      []*matcher
	networks map[netip.Prefix][]*matcher
	bits     []int // the lengths of networks that there are
}

// at returns what a level has for a key, and makes it if there is nothing yet.
func at[K comparable, Level any](m *map[K]*Level, key K) *Level {
	if *m == nil {
		*m = make(map[K]*Level)
	}
	level, ok := (*m)[key]
	if !ok {
		level = new(Level)
		(*m)[key] = level
	}
	return level
}

func (x *index) add(m *matcher) {
	switch p := m.path; {
	case p.method != "":
		at(&x.methods, p.method).add(m)
	case p.service != "":
		at(&x.services, p.service).add(m)
	case p.pkg != "":
		x.longest = max(x.longest, len(p.pkg))
		at(&x.packages, p.pkg).add(m)
	default:
		x.all.add(m)
	}
}

func (l *authorityLevel) add(m *matcher) {
	switch a := m.authority; {
	case a.name == "":
		l.all.add(m)
	case a.wildcard:
		l.longest = max(l.longest, len(a.name))
		at(&l.wildcards, a.name).add(m)
	default:
		at(&l.exact, a.name).add(m)
	}
}

func (l *metadataLevel) add(m *matcher) {
	if m.indexed < 0 {
		l.all.add(m)
		return
	}
	want := m.metadata[m.indexed].field()
	i := slices.IndexFunc(l.keys, func(k keyLevel) bool { return k.key == want.Key })
	if i < 0 {
		i = len(l.keys)
		l.keys = append(l.keys, keyLevel{key: want.Key})
	}
	at(&l.keys[i].values, want.Value).add(m)
}

func (l *networkLevel) add(m *matcher) {
	if len(m.networks) == 0 {
		l.all = append(l.all, m)
		return
	}
	if l.networks == nil {
		l.networks = make(map[netip.Prefix][]*matcher)
	}
	for _, n := range m.networks {
		l.networks[n] = append(l.networks[n], m)
		if !slices.Contains(l.bits, n.Bits()) {
			l.bits = append(l.bits, n.Bits())
		}
	}
}

// search looks for the first route that takes a call, or for the first that takes
// all calls of another route. The places to look into are the same: those of what
// the call has, or of what the route asks for.
type search struct {
	method, service string
	authority, host string // in lower case, with and without the port
	metadata        Metadata
	peer            netip.Prefix
	inner           *matcher // the other route, nil for a call
	found           *matcher // nil as long as none is
}

func searchCall(c *Call) search {
	asked := lower(c.Authority)
	s := search{
		method: c.Method, service: ServiceOf(c.Method), authority: asked, host: hostOf(asked),
		metadata: c.Metadata, peer: peerOf(c.Peer),
	}
	if s.metadata == nil {
		s.metadata = exactValues(nil)
	}
	return s
}

func searchCovering(m *matcher) search {
	s := search{
		method: m.path.method, service: m.path.scope(), authority: m.authority.pattern(),
		metadata: exactValues(m.metadata), inner: m,
	}
	s.host = s.authority
	if !m.authority.wildcard {
		s.host = hostOf(s.authority)
	}
	if len(m.networks) > 0 {
		s.peer = m.networks[0] // what covers the route covers each of them
	}
	return s
}

// takes reports whether a route that the search has come to is one to be found.
func (s *search) takes(m *matcher) bool {
	if s.inner != nil {
		return m.covers(s.inner)
	}
	return m.takesRest(s.metadata)
}

// rank returns the place in the file before which a route is still worth finding.
func (s *search) rank() int {
	if s.found == nil {
		return math.MaxInt
	}
	return s.found.rank
}

// through goes through routes that are in order.
func (s *search) through(routes []*matcher) {
	for _, m := range routes {
		if m.rank >= s.rank() {
			return
		}
		if s.takes(m) {
			s.found = m
			return
		}
	}
}

// find has the search find the first route of the index.
func (x *index) find(s *search) {
	x.all.find(s)
	x.methods[s.method].find(s)
	x.services[s.service].find(s)
	for pkg := range prefixes(s.service, x.longest) {
		x.packages[pkg].find(s)
	}
}

// prefixes are what is before each dot of a name, up to a length.
func prefixes(name string, longest int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range min(len(name), longest+1) {
			if name[i] == '.' && !yield(name[:i]) {
				return
			}
		}
	}
}

func (l *authorityLevel) find(s *search) {
	if l == nil {
		return
	}
	l.all.find(s)
	l.findNamed(s, s.authority)
	if s.host != s.authority {
		l.findNamed(s, s.host)
	}
}

func (l *authorityLevel) findNamed(s *search, name string) {
	l.exact[name].find(s)
	for parent := range suffixes(name, l.longest) {
		l.wildcards[parent].find(s)
	}
}

// suffixes are what is behind each dot of a name but one that it begins with, up to
// a length.
func suffixes(name string, longest int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := len(name) - 1; i > 0 && len(name)-i-1 <= longest; i-- {
			if name[i] == '.' && !yield(name[i+1:]) {
				return
			}
		}
	}
}

func (l *metadataLevel) find(s *search) {
	if l == nil {
		return
	}
	l.all.find(s)
	for k := range l.keys {
		l.keys[k].find(s)
	}
}

func (l *keyLevel) find(s *search) {
	value, ok := valueOf(s.metadata, l.key, 0)
	for i := 1; ok; i++ {
		l.values[value].find(s)
		value, ok = valueOf(s.metadata, l.key, i)
	}
}

func (l *networkLevel) find(s *search) {
	if l == nil {
		return
	}
	s.through(l.all)
	for _, bits := range l.bits {
		if bits <= s.peer.Bits() { // -1 for none
			network, _ := s.peer.Addr().Prefix(bits)
			s.through(l.networks[network])
		}
	}
}
