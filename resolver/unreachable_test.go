package resolver

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func exact(v string) conf.MetadataMatch { return conf.MetadataMatch{Key: "k", Exact: &v} }

func prefix(v string) conf.MetadataMatch { return conf.MetadataMatch{Key: "K", Prefix: v} }

func matching(v string) conf.MetadataMatch { return conf.MetadataMatch{Key: "k", Regexp: v} }

func present(there bool) conf.MetadataMatch { return conf.MetadataMatch{Key: "k", Present: &there} }

func metadata(m ...conf.MetadataMatch) conf.Match { return conf.Match{Metadata: m} }

func peers(networks ...string) conf.Match { return conf.Match{Peer: networks} }

func TestLaterRouteThatAnEarlierOneCovers(t *testing.T) {
	for name, c := range map[string]struct{ earlier, later conf.Match }{
		"method, again":             {conf.Match{Method: "/x.Y/Z"}, conf.Match{Method: "/x.Y/Z"}},
		"method of a service":       {conf.Match{Service: "x.Y"}, conf.Match{Method: "/x.Y/Z"}},
		"method of a package":       {conf.Match{Package: "x"}, conf.Match{Method: "/x.y.Z/A"}},
		"service of a package":      {conf.Match{Package: "x"}, conf.Match{Service: "x.y.Z"}},
		"package, again":            {conf.Match{Package: "x.y"}, conf.Match{Package: "x.y"}},
		"package in a package":      {conf.Match{Package: "x"}, conf.Match{Package: "x.y"}},
		"method of an authority":    {conf.Match{Authority: "x"}, conf.Match{Authority: "X", Method: "/x.Y/Z"}},
		"authority with port":       {conf.Match{Authority: "x"}, conf.Match{Authority: "x:80"}},
		"authority below":           {conf.Match{Authority: "*.x"}, conf.Match{Authority: "a.b.x:80"}},
		"wildcard, again":           {conf.Match{Authority: "*.x"}, conf.Match{Authority: "*.X"}},
		"wildcard below":            {conf.Match{Authority: "*.x"}, conf.Match{Authority: "*.a.x"}},
		"exact value, again":        {metadata(exact("a")), metadata(present(true), exact("b"), exact("a"))},
		"exact value with a prefix": {metadata(prefix("a")), metadata(exact("ab"))},
		"exact value of a regexp":   {metadata(matching("a+")), metadata(exact("aa"))},
		"longer prefix":             {metadata(prefix("a")), metadata(prefix("ab"))},
		"regexp, again":             {metadata(matching("a+")), metadata(matching("a+"))},
		"key that is there":         {metadata(present(true)), metadata(matching("a*"))},
		"key that is not": {
			metadata(present(false)),
			conf.Match{Service: "x.Y", Metadata: []conf.MetadataMatch{present(false)}},
		},
		"more conditions":      {metadata(prefix("a"), present(true)), metadata(exact("ab"))},
		"address of a network": {peers("10.0.0.0/8"), peers("10.1.2.3")},
		"networks of networks": {peers("10.0.0.0/8", "fd00::/8"), peers("fd00:1::/32", "10.0.0.0/8")},
		"IPv4 in IPv6":         {peers("10.0.0.0/8"), peers("::ffff:10.1.0.0/112")},
		"everything at once": {
			conf.Match{Package: "x", Authority: "*.x", Peer: []string{"::/0"}},
			conf.Match{Service: "x.Y", Authority: "a.x", Peer: []string{"::1"}},
		},
		"service with one more wish": {conf.Match{Service: "x.Y"}, conf.Match{Service: "x.Y", Peer: []string{"::1"}}},
	} {
		got := Unreachable(&conf.Config{Routes: []conf.Route{{Match: c.earlier}, {Match: c.later}}})
		require.Len(t, got, 1, name)
		require.Equal(t, [2]int{1, 0}, [2]int{got[0].Route, got[0].By}, name)
	}
}

func TestRoutesThatAreReached(t *testing.T) {
	for name, c := range map[string]struct{ earlier, later conf.Match }{
		"service of a method":        {conf.Match{Method: "/x.Y/Z"}, conf.Match{Service: "x.Y"}},
		"package of a service":       {conf.Match{Service: "x.Y"}, conf.Match{Package: "x"}},
		"package above":              {conf.Match{Package: "x.y"}, conf.Match{Package: "x"}},
		"package with a like name":   {conf.Match{Package: "x"}, conf.Match{Package: "xy"}},
		"service named as a package": {conf.Match{Package: "x.Y"}, conf.Match{Service: "x.Y"}},
		"any method":                 {conf.Match{Method: "/x.Y/Z", Authority: "x"}, conf.Match{Authority: "x"}},
		"authority without port":     {conf.Match{Authority: "x:80"}, conf.Match{Authority: "x"}},
		"any authority":              {conf.Match{Service: "x.Y", Authority: "x"}, conf.Match{Service: "x.Y"}},
		"authority itself":           {conf.Match{Authority: "*.x"}, conf.Match{Authority: "x"}},
		"wildcard of a name":         {conf.Match{Authority: "a.x"}, conf.Match{Authority: "*.x"}},
		"another value":              {metadata(exact("a")), metadata(exact("b"))},
		"another key":                {metadata(exact("a")), metadata(conf.MetadataMatch{Key: "l", Exact: new("a")})},
		"shorter prefix":             {metadata(prefix("ab")), metadata(prefix("a"))},
		"regexp like a prefix":       {metadata(prefix("a")), metadata(matching("a?"))},
		"another regexp":             {metadata(matching("a+")), metadata(matching("a*"))},
		"key that is not":            {metadata(present(true)), metadata(present(false))},
		"fewer conditions":           {metadata(exact("a"), exact("b")), metadata(exact("a"))},
		"wider network":              {peers("10.0.0.0/9"), peers("10.0.0.0/8")},
		"one network outside":        {peers("10.0.0.0/8"), peers("10.1.0.0/16", "11.0.0.0/8")},
		"second network outside":     {peers("fd00::/8", "10.0.0.0/9"), peers("fd00::/8", "10.0.0.0/8")},
		"any peer":                   {peers("0.0.0.0/0", "::/0"), conf.Match{Service: "x.Y"}},
	} {
		require.Empty(t, Unreachable(&conf.Config{Routes: []conf.Route{{Match: c.earlier}, {Match: c.later}}}), name)
	}
}

func TestRouteThatNothingMatches(t *testing.T) {
	route := conf.Route{Name: "never", Match: metadata(exact("a"), present(false))}
	got := Unreachable(&conf.Config{Routes: []conf.Route{route, {Match: metadata(exact("a"))}}})
	require.Equal(t, []Shadow{{
		Route: 0, By: -1, Reason: "never is never reached, as it wants k in the metadata both there and not there",
	}}, got)
}

func TestUnreachableSaysWhy(t *testing.T) {
	earlier := byPackage("shop", "a")
	earlier.Name, earlier.Match.Authority, earlier.Match.Peer = "web", "*.example.com", []string{"10.0.0.0/8", "::1"}
	earlier.Match.Metadata = []conf.MetadataMatch{exact("a"), prefix("a"), matching("a."), present(true)}
	last := conf.MetadataMatch{Key: "l", Present: new(false)}
	earlier.Match.Metadata = append(earlier.Match.Metadata, last)
	later := earlier
	later.Name = ""
	routes := []conf.Route{byService("x.Y", "a"), earlier, later, byMethod("/x.Y/Z", "b")}
	require.Equal(t, []Shadow{
		{Route: 2, By: 1, Reason: `routes[2] is never reached, as web takes all calls of package shop ` +
			`to authority *.example.com with k "a" and k that begins with "a" and k that matches "a." ` +
			`and k and no l from 10.0.0.0/8, ::1/128`},
		{Route: 3, By: 0, Reason: "routes[3] is never reached, as routes[0] takes all calls of service x.Y"},
	}, Unreachable(&conf.Config{Routes: routes}))
}

// requireNeverReached checks that no reported route takes the call, and that the
// route that is said to take its calls matches this one if it is one of them.
func requireNeverReached(t *testing.T, routes []conf.Route, shadows []Shadow, c *Call) {
	t.Helper()
	for _, s := range shadows {
		m := &routes[s.Route].Match
		require.NotEqual(t, s.Route, referenceWinner(routes, c), "%s: %+v", s.Reason, c)
		if WellFormed(c.Method) && referenceMatches(m, c) {
			require.GreaterOrEqual(t, s.By, 0, "%s: %+v", s.Reason, c)
			require.True(t, referenceMatches(&routes[s.By].Match, c), "%s: %+v", s.Reason, c)
		}
	}
}

func TestUnreachableRoutesNeverWin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	reported, matched := 0, 0
	for range 3000 {
		routes := randomRoutes(r, 8)
		shadows := Unreachable(&conf.Config{Routes: routes})
		reported += len(shadows)
		for range 40 * min(1, len(shadows)) {
			c := randomCall(r)
			requireNeverReached(t, routes, shadows, c)
			for _, s := range shadows {
				if referenceMatches(&routes[s.Route].Match, c) {
					matched++
				}
			}
		}
	}
	require.Greater(t, reported, 1000, "there was something to check")
	require.Greater(t, matched, 1000, "there was something to check")
}

// TestUnreachableFindsWhatGoingThroughAllFinds: the index leads to each route that
// covers another.
func TestUnreachableFindsWhatGoingThroughAllFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		routes := randomRoutes(r, 8)
		matchers := newMatchers(routes)
		want := make(map[int]int)
		for i, m := range matchers {
			if m.contradiction() != "" {
				want[i] = -1
				continue
			}
			for j, earlier := range matchers[:i] {
				if earlier.contradiction() == "" && earlier.covers(m) {
					want[i] = j
					break
				}
			}
		}
		got := make(map[int]int)
		for _, s := range Unreachable(&conf.Config{Routes: routes}) {
			got[s.Route] = s.By
		}
		require.Equal(t, want, got, "%+v", routes)
	}
}

func FuzzUnreachable(f *testing.F) {
	f.Add(uint64(1), "*.x.io", "*.y.x.io", "z.y.x.io:443", "a", "ab")
	f.Add(uint64(2), "a", "a:1", "a:1:2", "YQ==", "YQ")
	f.Fuzz(func(t *testing.T, seed uint64, pattern, other, authority, value, begin string) {
		if pattern == "*." || other == "*." { // which package conf refuses
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		routes := append(randomRoutes(r, 4), randomRoutes(r, 4)...)
		routes[0].Match.Authority, routes[len(routes)-1].Match.Authority = pattern, other
		last := &routes[len(routes)-1].Match
		last.Metadata = append(last.Metadata, conf.MetadataMatch{Key: "t-bin", Exact: &value})
		if begin != "" {
			routes[0].Match.Metadata = []conf.MetadataMatch{{Key: "t-bin", Prefix: begin}}
		}
		shadows := Unreachable(&conf.Config{Routes: routes})
		for range 10 {
			c := randomCall(r)
			requireNeverReached(t, routes, shadows, c)
			c.Authority, c.Metadata = authority, pairs{{"t-bin", value}, {"k", "a"}, {"l", value}}
			requireNeverReached(t, routes, shadows, c)
		}
	})
}

// BenchmarkUnreachableAmong10000Routes: to look for them is part of reading a file, and does not
// compare each route with each other one.
func BenchmarkUnreachableAmong10000Routes(b *testing.B) {
	cfg := &conf.Config{}
	for i := range 10_000 {
		cfg.Routes = append(cfg.Routes, byMetadata("a", exact(fmt.Sprint(i))))
	}
	for b.Loop() {
		Unreachable(cfg)
	}
}
