package resolver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// clustersOf returns clusters of these names, without instances.
func clustersOf(names ...string) map[string]*cluster.Cluster {
	clusters := make(map[string]*cluster.Cluster)
	for _, name := range names {
		clusters[name] = cluster.New(name, &conf.Cluster{}, cluster.Options{})
	}
	return clusters
}

func table(fallback bool, routes ...conf.Route) *Table {
	cfg := &conf.Config{Routes: routes}
	if fallback {
		cfg.Default = &conf.Action{Cluster: "rest"}
	}
	return New(cfg, clustersOf("a", "b", "rest"), nil)
}

func route(match conf.Match, cluster string) conf.Route {
	return conf.Route{Match: match, Action: conf.Action{Cluster: cluster}}
}

func byMethod(method, cluster string) conf.Route {
	return route(conf.Match{Method: method}, cluster)
}

func byService(service, cluster string) conf.Route {
	return route(conf.Match{Service: service}, cluster)
}

func byPackage(pkg, cluster string) conf.Route {
	return route(conf.Match{Package: pkg}, cluster)
}

func byMetadata(cluster string, conditions ...conf.MetadataMatch) conf.Route {
	return route(conf.Match{Metadata: conditions}, cluster)
}

func clusterOf(t *Table, c *Call) string {
	target := t.Resolve(c)
	if target == nil {
		return ""
	}
	return target.Cluster.Name()
}

func clusterOfMethod(t *Table, method string) string { return clusterOf(t, &Call{Method: method}) }

func TestFirstMatchWins(t *testing.T) {
	methodFirst := table(true, byMethod("/x.Y/Z", "a"), byService("x.Y", "b"))
	require.Equal(t, "a", clusterOfMethod(methodFirst, "/x.Y/Z"))
	require.Equal(t, "b", clusterOfMethod(methodFirst, "/x.Y/Other"))
	require.Equal(t, "rest", clusterOfMethod(methodFirst, "/x.YY/Z"))

	serviceFirst := table(true, byService("x.Y", "b"), byMethod("/x.Y/Z", "a"))
	require.Equal(t, "b", clusterOfMethod(serviceFirst, "/x.Y/Z"))

	twice := table(true, byMethod("/x.Y/Z", "a"), byMethod("/x.Y/Z", "b"))
	require.Equal(t, "a", clusterOfMethod(twice, "/x.Y/Z"))

	outerFirst := table(true, byPackage("x", "a"), byPackage("x.y", "b"))
	require.Equal(t, "a", clusterOfMethod(outerFirst, "/x.y.S/M"))
}

func TestPackagesEndAtADot(t *testing.T) {
	routes := table(true, byPackage("shop.orders.v1", "a"), byPackage("shop.orders", "b"))
	for method, want := range map[string]string{
		"/shop.orders.v1.Orders/Get": "a", "/shop.orders.v1.deep.Orders/Get": "a", "/shop.orders.Orders/Get": "b",
		"/shop.orders.v11.Orders/Get": "b", "/shop.ordersX.Orders/Get": "rest", "/shop.orders/Get": "rest",
		"/shop.Orders/Get": "rest", "/Orders/Get": "rest", "/x.shop.orders.Orders/Get": "rest",
	} {
		require.Equal(t, want, clusterOfMethod(routes, method), method)
	}
}

func TestAuthorities(t *testing.T) {
	for _, c := range []struct {
		pattern     string
		takes, none []string
	}{
		{
			"api.example.com",
			[]string{"api.example.com", "api.example.com:443", "API.Example.com:8443", "api.example.com:"},
			[]string{"", "example.com", "x.api.example.com", "api.example.com:http", "api.example.com:1:2", "api.example.com."},
		},
		{
			"API.example.com:443",
			[]string{"api.example.com:443", "api.EXAMPLE.com:443"},
			[]string{"api.example.com", "api.example.com:80"},
		},
		{
			"*.example.com",
			[]string{"a.example.com", "a.b.example.com", "A.Example.com:443"},
			[]string{"example.com", ".example.com", "aexample.com", "a.example.com.evil", "a.example.org"},
		},
		{"*.example.com:443", []string{"a.example.com:443"}, []string{"a.example.com", "a.example.com:80"}},
		{"[::1]", []string{"[::1]", "[::1]:80"}, []string{"::1", "[::1", "[::11]"}},
		{"::1", []string{"::1"}, []string{"::1:80", "[::1]"}},
		{"k.example", []string{"K.example"}, []string{"\u212a.example"}}, // the sign of Kelvin is no K
	} {
		routes := table(false, route(conf.Match{Authority: c.pattern}, "a"))
		for _, authority := range c.takes {
			assert.Equal(t, "a", clusterOf(routes, &Call{Method: "/S/M", Authority: authority}), "%q, %q", c.pattern, authority)
		}
		for _, authority := range c.none {
			assert.Empty(t, clusterOf(routes, &Call{Method: "/S/M", Authority: authority}), "%q, %q", c.pattern, authority)
		}
	}
}

func TestMetadata(t *testing.T) {
	k := func(values ...string) pairs {
		p := pairs{{"other", "v"}}
		for _, v := range values {
			p = append(p, Field{"k", v}, Field{"other", "v"})
		}
		return p
	}
	for name, c := range map[string]struct {
		condition   conf.MetadataMatch
		takes, none []pairs
	}{
		"exact":     {exact("v1"), []pairs{k("v1"), k("v0", "v1")}, []pairs{k(), k("v11"), k("V1"), k("v1=")}},
		"exact ''":  {exact(""), []pairs{k(""), k("v", "")}, []pairs{k(), k("v")}},
		"prefix":    {prefix("v1"), []pairs{k("v1"), k("v11"), k("x", "v1.2")}, []pairs{k(), k("v"), k("xv1")}},
		"regexp":    {matching("v[0-9]|w"), []pairs{k("v1"), k("w"), k("x", "v2")}, []pairs{k(), k("v12"), k("xw"), k("v")}},
		"open \\Q":  {matching(`\Qa.b`), []pairs{k("a.b")}, []pairs{k("axb"), k("a.b)"), k(`a.b)\z`)}},
		"lines":     {matching(`(?m)^a$`), []pairs{k("a")}, []pairs{k("a\nb"), k("b\na")}},
		"regexp ''": {matching("a*"), []pairs{k(""), k("aa")}, []pairs{k(), k("b")}},
		"present":   {present(true), []pairs{k(""), k("v")}, []pairs{k(), nil}},
		"absent":    {present(false), []pairs{k(), nil}, []pairs{k(""), k("v")}},
	} {
		c.condition.Key = "K"
		routes := table(false, byMetadata("a", c.condition))
		for _, metadata := range c.takes {
			assert.Equal(t, "a", clusterOf(routes, &Call{Method: "/S/M", Metadata: metadata}), "%s, %q", name, metadata)
		}
		for _, metadata := range c.none {
			assert.Empty(t, clusterOf(routes, &Call{Method: "/S/M", Metadata: metadata}), "%s, %q", name, metadata)
		}
	}
}

func TestNoMetadataIsNone(t *testing.T) {
	routes := table(true, byMetadata("a", conf.MetadataMatch{Key: "k", Exact: new("")}),
		byMetadata("b", conf.MetadataMatch{Key: "k", Present: new(false)}))
	require.Equal(t, "b", clusterOf(routes, &Call{Method: "/S/M"}))
}

// TestAllConditionsHold: those that the index looks at and those that it leaves.
func TestAllConditionsHold(t *testing.T) {
	routes := table(false, byMetadata("a", conf.MetadataMatch{Key: "k", Exact: new("1")},
		conf.MetadataMatch{Key: "k", Exact: new("2")}, conf.MetadataMatch{Key: "l", Prefix: "x"}))
	require.Equal(t, "a", clusterOf(routes, &Call{Method: "/S/M", Metadata: pairs{{"l", "xy"}, {"k", "2"}, {"k", "1"}}}))
	for _, metadata := range []pairs{
		{{"l", "xy"}, {"k", "2"}}, {{"l", "xy"}, {"k", "1"}}, {{"k", "2"}, {"k", "1"}}, {{"l", "y"}, {"k", "2"}, {"k", "1"}},
	} {
		require.Empty(t, clusterOf(routes, &Call{Method: "/S/M", Metadata: metadata}), "%q", metadata)
	}
}

// TestBinaryMetadataWithAndWithoutPadding: a client must not get round a route by
// the spelling.
func TestBinaryMetadataWithAndWithoutPadding(t *testing.T) {
	for _, condition := range []conf.MetadataMatch{
		{Key: "K-Bin", Exact: new("YQ==")},
		{Key: "k-bin", Exact: new("YQ")},
		{Key: "k-bin", Prefix: "YQ="},
		{Key: "k-bin", Regexp: "YQ"},
	} {
		routes := table(false, byMetadata("a", condition))
		for _, value := range []string{"YQ", "YQ=="} {
			require.Equal(t, "a", clusterOf(routes, &Call{Method: "/S/M", Metadata: pairs{{"k-bin", value}}}), value)
		}
		require.Empty(t, clusterOf(routes, &Call{Method: "/S/M", Metadata: pairs{{"k-bin", "Yg=="}}}))
	}
}

// textAddr is an address of which only the text is known.
type textAddr struct{ network, text string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.text }

func TestPeers(t *testing.T) {
	for _, c := range []struct {
		networks    []string
		takes, none []net.Addr
	}{
		{
			[]string{"10.1.0.0/16", "192.0.2.1"},
			[]net.Addr{
				tcpAddr("10.1.2.3"), tcpAddr("192.0.2.1"), &net.TCPAddr{IP: net.IP{10, 1, 0, 0}}, textAddr{"tcp", "10.1.2.3:4"},
			},
			[]net.Addr{
				nil, tcpAddr("10.2.0.0"), tcpAddr("192.0.2.2"), tcpAddr("::1"), &net.UnixAddr{Net: "unix", Name: "@"},
				(*net.TCPAddr)(nil),
				textAddr{"unix", "10.1.2.3:4"},
				textAddr{"tcp", "somewhere"},
			},
		},
		{[]string{"::ffff:10.1.0.0/112"}, []net.Addr{tcpAddr("10.1.2.3")}, []net.Addr{tcpAddr("10.2.0.0"), tcpAddr("::1")}},
		{[]string{"10.1.2.3/8"}, []net.Addr{tcpAddr("10.200.0.1")}, []net.Addr{tcpAddr("11.1.2.3")}},
		{[]string{"0.0.0.0/0"}, []net.Addr{tcpAddr("10.2.0.0")}, []net.Addr{tcpAddr("::1"), &net.UnixAddr{Net: "unix"}}},
		{[]string{"::/0"}, []net.Addr{tcpAddr("::1"), tcpAddr("fd00::1")}, []net.Addr{tcpAddr("10.2.0.0")}},
		{
			[]string{"fe80::/10"},
			[]net.Addr{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}},
			[]net.Addr{tcpAddr("fd00::1")},
		},
	} {
		routes := table(false, route(conf.Match{Peer: c.networks}, "a"))
		for _, peer := range c.takes {
			assert.Equal(t, "a", clusterOf(routes, &Call{Method: "/S/M", Peer: peer}), "%q, %v", c.networks, peer)
		}
		for _, peer := range c.none {
			assert.Empty(t, clusterOf(routes, &Call{Method: "/S/M", Peer: peer}), "%q, %v", c.networks, peer)
		}
	}
}

// TestMalformedMethodsHaveNoRoute: what is no method name must not go past the
// routes by the default.
func TestMalformedMethodsHaveNoRoute(t *testing.T) {
	routes := table(true, byService("x.Y", "a"))
	for _, method := range []string{"", "/", "//", "///", "x.Y/Z", "/x.Y", "//x.Y/Z", "///x.Y/Z", "x.Y", "*"} {
		require.Empty(t, clusterOfMethod(routes, method), "%q", method)
	}
	for _, method := range []string{"/x.Z/Y", "/x.Y/Z/more", "/x/"} {
		require.Equal(t, "rest", clusterOfMethod(routes, method), "%q", method)
	}
	require.Equal(t, routes.Default(), routes.Resolve(&Call{Method: "/x.Z/Y"}))
}

func TestNoRouteWithoutDefault(t *testing.T) {
	routes := table(false, byService("x.Y", "a"))
	require.Nil(t, routes.Default())
	for _, method := range []string{"/x.Z/Y", "", "/", "//", "x.Y/Z", "/x.Y", "/x.Y/Z/more", "/x.y/Z"} {
		require.Empty(t, clusterOfMethod(routes, method), "%q", method)
	}
	require.Equal(t, "a", clusterOfMethod(routes, "/x.Y/"), "a method without a name is its service's to refuse")
}

func TestNeedsMetadata(t *testing.T) {
	others := []conf.Route{byMethod("/x.Y/Z", "a"), route(conf.Match{Authority: "x", Peer: []string{"::/0"}}, "a")}
	require.False(t, table(true, others...).NeedsMetadata())
	require.True(t, table(true, append(others, byMetadata("a", present(false)), byService("x.Y", "a"))...).NeedsMetadata())
}

func TestMatchesMethod(t *testing.T) {
	require.True(t, MatchesMethod(&conf.Match{Authority: "x"}, "/x.Y/Z"))
	require.True(t, MatchesMethod(&conf.Match{Package: "x"}, "/x.Y/Z"))
	require.True(t, MatchesMethod(&conf.Match{Service: "x.Y", Authority: "x"}, "/x.Y/Z"))
	require.False(t, MatchesMethod(&conf.Match{Method: "/x.Y/A"}, "/x.Y/Z"))
	require.False(t, MatchesMethod(&conf.Match{Service: "x"}, "/x.Y/Z"))
	require.False(t, MatchesMethod(&conf.Match{Package: "x.Y"}, "/x.Y/Z"))
}

func TestServiceOf(t *testing.T) {
	for method, want := range map[string]string{
		"/p.S/M": "p.S", "/S/M": "S", "/a/b/M": "a/b", "//M": "", "/p.S": "", "p.S/M": "", "": "", "/": "",
	} {
		require.Equal(t, want, ServiceOf(method), "%q", method)
	}
}

func FuzzServiceOf(f *testing.F) {
	f.Add("/p.S/M")
	f.Add("//")
	f.Fuzz(func(t *testing.T, method string) {
		service := ServiceOf(method)
		if service != "" && !strings.HasPrefix(method, "/"+service+"/") {
			t.Fatalf("%q is not the service of %q", service, method)
		}
	})
}

// requireReference checks that a table decides as the reference does.
func requireReference(t *testing.T, routes []conf.Route, c *Call) {
	t.Helper()
	want := "none"
	if i := referenceWinner(routes, c); i >= 0 {
		want = fmt.Sprintf("routes[%d]", i)
	}
	got := "none"
	if target := table(false, routes...).Resolve(c); target != nil {
		got = target.Route
	}
	require.Equal(t, want, got, "%+v among %+v", c, routes)
}

func TestResolvesAsTheReferenceDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		routes := randomRoutes(r, 8)
		for range 4 {
			requireReference(t, routes, randomCall(r))
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add(uint64(1), "/a.b.S/M", "y.x.io:443", "*.x.io", "a", "a")
	f.Add(uint64(2), "//S/M", "[::1]:80", "[::1]", "YQ==", "YQ")
	f.Fuzz(func(t *testing.T, seed uint64, method, authority, pattern, value, exact string) {
		r := rand.New(rand.NewPCG(seed, 0))
		routes := randomRoutes(r, 8)
		routes[0].Match.Metadata = append(routes[0].Match.Metadata, conf.MetadataMatch{Key: "k", Exact: &exact})
		if pattern != "*." { // which package conf refuses
			routes[len(routes)-1].Match.Authority = pattern
		}
		c := randomCall(r)
		c.Method, c.Authority = method, authority
		c.Metadata = pairs{{"l", value}, {"k", "a"}, {"k", value}, {"t-bin", value}}
		requireReference(t, routes, c)
	})
}

// TestResolveConcurrently is for the race detector.
func TestResolveConcurrently(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	routes := append(randomRoutes(r, 50), byService("S", "a"))
	routes[0].Split = []conf.WeightedCluster{{Cluster: "a", Weight: 1}, {Cluster: "b", Weight: 1}}
	shared := table(true, routes...)
	var calls []*Call
	for range 100 {
		calls = append(calls, randomCall(r))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, c := range calls {
				want := "default"
				if i := referenceWinner(routes, c); i >= 0 {
					want = fmt.Sprintf("routes[%d]", i)
				}
				assert.Equal(t, want, shared.Resolve(c).Route)
			}
		})
	}
	wg.Wait()
}

// TestListOfManyValues: each value comes once and in order, whatever is asked for in
// between, and the list is gone through once for all of them.
func TestListOfManyValues(t *testing.T) {
	fields := []Field{{"a", "1"}, {"b", "x"}, {"a", "2"}, {"a", "3"}}
	looked := 0
	l := NewList(fields, func(f *Field) (string, string) { looked++; return f.Key, f.Value })
	for i, want := range []string{"1", "2", "3"} {
		v, ok := l.Value("a", i)
		require.True(t, ok)
		require.Equal(t, want, v)
	}
	_, ok := l.Value("a", 3)
	require.False(t, ok)
	require.Equal(t, len(fields), looked)
	v, ok := l.Value("b", 0)
	require.True(t, ok)
	require.Equal(t, "x", v)
	v, ok = l.Value("a", 1)
	require.True(t, ok)
	require.Equal(t, "2", v)
	v, _ = l.Value("a", 0)
	require.Equal(t, "1", v, "back again")
	_, ok = l.Value("c", 0)
	require.False(t, ok)
}
