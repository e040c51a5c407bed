package resolver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func TestTargetCarriesTheAction(t *testing.T) {
	retry := &conf.Retry{Attempts: 2}
	owner := &struct{ name string }{"the proxy"}
	cfg := &conf.Config{Routes: []conf.Route{{
		Name: "orders", Match: conf.Match{Service: "x.Y"},
		Action: conf.Action{
			Cluster: "a", Mode: conf.ModeStruct, Retry: retry, MessageLimit: 5, Undecodable: conf.UndecodableForward,
			Timeout: conf.Duration(time.Second), UnaryTimeout: conf.Duration(time.Minute), IdleTimeout: conf.Duration(time.Hour),
			Mirror:          &conf.Mirror{Cluster: "b", Percent: 25},
			RequestMetadata: conf.HeaderChanges{Set: map[string]string{"B": "2", "a": "1", "C": "3"}, Remove: []string{"Z", "y"}},
			ResponseHeader:  conf.HeaderChanges{Add: map[string]string{"K": "V"}},
			ResponseTrailer: conf.HeaderChanges{Remove: []string{"T"}},
		},
	}}}
	clusters := clustersOf("a", "b")
	routes := New(cfg, clusters, owner)
	require.Equal(t, &Target{
		Cluster: clusters["a"], Route: "orders", Mode: conf.ModeStruct, MaxMessage: 5, ForwardUndecodable: true, Retry: retry,
		Timeout: time.Second, UnaryTimeout: time.Minute, IdleTimeout: time.Hour, Owner: owner,
		Mirror:          &Mirror{Cluster: clusters["b"], Share: 0.25},
		RequestMetadata: &Changes{Set: []Field{{"a", "1"}, {"b", "2"}, {"c", "3"}}, Remove: []string{"y", "z"}},
		ResponseHeader:  &Changes{Add: []Field{{"k", "V"}}},
		ResponseTrailer: &Changes{Remove: []string{"t"}},
	}, routes.Resolve(&Call{Method: "/x.Y/Z"}))
	require.Same(t, clusters["b"], routes.Cluster("b"))
	require.Nil(t, routes.Cluster("c"))
}

func TestPlainTarget(t *testing.T) {
	r := byMethod("/x.Y/Z", "a")
	r.Mirror = &conf.Mirror{Cluster: "b"} // of 0 percent
	routes := table(true, r)
	target := routes.Resolve(&Call{Method: "/x.Y/Z"})
	require.Equal(t, &Target{Cluster: routes.Cluster("a"), Route: "routes[0]", Mode: conf.ModeFrame}, target)
	require.True(t, target.IsPlain())
	require.Equal(t, &Target{Cluster: routes.Cluster("rest"), Route: "default", Mode: conf.ModeFrame}, routes.Default())
}

func TestSplitGoesByWeight(t *testing.T) {
	split := []conf.WeightedCluster{
		{Cluster: "none", Weight: 0}, {Cluster: "a", Weight: 1}, {Cluster: "none", Weight: 0}, {Cluster: "b", Weight: 3},
	}
	cfg := &conf.Config{
		Routes:  []conf.Route{{Match: conf.Match{Service: "x.Y"}, Action: conf.Action{Split: split}}},
		Default: &conf.Action{Split: split},
	}
	routes := New(cfg, clustersOf("a", "b", "none"), nil)
	for _, method := range []string{"/x.Y/Z", "/other/Z"} {
		got := make(map[string]int)
		for range 10_000 {
			got[clusterOfMethod(routes, method)]++
		}
		require.Len(t, got, 2, method)
		// Eleven standard deviations: what is right fails once in 10^28 runs.
		require.InDelta(t, 2500, got["a"], 480, method)
	}
}

func TestSplitWithOneClusterLeft(t *testing.T) {
	r := byService("x.Y", "")
	r.Split = []conf.WeightedCluster{{Cluster: "a", Weight: 0}, {Cluster: "b", Weight: 1_000_000}}
	require.Equal(t, "b", clusterOfMethod(table(false, r), "/x.Y/Z"))
}
