package resolver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func table(fallback bool, routes ...conf.Route) *Table {
	cfg := &conf.Config{Clusters: map[string]*conf.Cluster{}, Routes: routes}
	for _, name := range []string{"a", "b", "rest"} {
		cfg.Clusters[name] = &conf.Cluster{Instances: []string{name + ":1"}}
	}
	if fallback {
		cfg.Default = &conf.Action{Cluster: "rest"}
	}
	return New(cfg)
}

func byMethod(method, cluster string) conf.Route {
	return conf.Route{Match: conf.Match{Method: method}, Action: conf.Action{Cluster: cluster}}
}

func byService(service, cluster string) conf.Route {
	return conf.Route{Match: conf.Match{Service: service}, Action: conf.Action{Cluster: cluster}}
}

func clusterOf(t *Table, method string) string {
	target := t.Resolve(&Call{Method: method})
	if target == nil {
		return ""
	}
	return target.Cluster.Name
}

func TestFirstMatchWins(t *testing.T) {
	methodFirst := table(true, byMethod("/x.Y/Z", "a"), byService("x.Y", "b"))
	require.Equal(t, "a", clusterOf(methodFirst, "/x.Y/Z"))
	require.Equal(t, "b", clusterOf(methodFirst, "/x.Y/Other"))
	require.Equal(t, "rest", clusterOf(methodFirst, "/x.YY/Z"))

	serviceFirst := table(true, byService("x.Y", "b"), byMethod("/x.Y/Z", "a"))
	require.Equal(t, "b", clusterOf(serviceFirst, "/x.Y/Z"))

	twice := table(true, byMethod("/x.Y/Z", "a"), byMethod("/x.Y/Z", "b"))
	require.Equal(t, "a", clusterOf(twice, "/x.Y/Z"))
}

// TestMalformedMethodsHaveNoRoute: what is no method name must not go past the
// routes by the default.
func TestMalformedMethodsHaveNoRoute(t *testing.T) {
	routes := table(true, byService("x.Y", "a"))
	for _, method := range []string{"", "/", "//", "///", "x.Y/Z", "/x.Y", "//x.Y/Z", "///x.Y/Z", "x.Y", "*"} {
		require.Empty(t, clusterOf(routes, method), "%q", method)
	}
	for _, method := range []string{"/x.Z/Y", "/x.Y/Z/more", "/x/"} {
		require.Equal(t, "rest", clusterOf(routes, method), "%q", method)
	}
	require.Equal(t, routes.Default(), routes.Resolve(&Call{Method: "/x.Z/Y"}))
}

func TestNoRouteWithoutDefault(t *testing.T) {
	routes := table(false, byService("x.Y", "a"))
	for _, method := range []string{"/x.Z/Y", "", "/", "//", "x.Y/Z", "/x.Y", "/x.Y/Z/more", "/x.y/Z"} {
		require.Empty(t, clusterOf(routes, method), "%q", method)
	}
	require.Equal(t, "a", clusterOf(routes, "/x.Y/"), "a method without a name is its service's to refuse")
}

func TestTargetCarriesTheAction(t *testing.T) {
	r := byMethod("/x.Y/Z", "a")
	r.Timeout = conf.Duration(time.Second)
	target := table(false, r).Resolve(&Call{Method: "/x.Y/Z"})
	require.Equal(t, time.Second, target.Timeout)
	require.Equal(t, conf.ModeFrame, target.Mode)
}

func TestCallsTakeTurnsAndTryEveryInstance(t *testing.T) {
	cfg := &conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: []string{"one", "two", "three"}}},
		Default:  &conf.Action{Cluster: "c"},
	}
	c := New(cfg).Resolve(&Call{Method: "/x.Y/Z"}).Cluster
	require.Equal(t, 3, c.Instances())
	for _, first := range []string{"one", "two", "three", "one"} {
		start := c.Start()
		require.Equal(t, first, c.Pick(start, 0))
		tried := map[string]bool{}
		for attempt := range 3 {
			tried[c.Pick(start, attempt)] = true
		}
		require.Len(t, tried, 3)
	}
	c.next.Store(1<<32 - 1)
	require.Equal(t, "one", c.Pick(c.Start(), 0), "%d is divisible by 3", uint32(1<<32-1))
	require.Equal(t, "one", c.Pick(c.Start(), 0), "and it begins anew")
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

func BenchmarkResolveAmong10000Routes(b *testing.B) {
	var routes []conf.Route
	for i := range 5000 {
		routes = append(routes, byMethod(fmt.Sprintf("/p.S%d/M", i), "a"), byService(fmt.Sprintf("p.T%d", i), "b"))
	}
	t := table(true, routes...)
	calls := []*Call{{Method: "/p.S4999/M"}, {Method: "/p.T4999/M"}, {Method: "/p.Nothing/M"}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t.Resolve(calls[i%len(calls)])
	}
}
