package proxy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kitexproxy/kitexproxy/conf"
)

// TestFiguresOfClusters: what is asked for when something is wrong is told as it is.
func TestFiguresOfClusters(t *testing.T) {
	well, ill := startNamed(t, "well", nil), startNamed(t, "ill", nil)
	ill.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	cfg := faultConfig()
	cfg.Clusters["default"] = newInstanceFile(t, well, ill).discovered()
	cfg.Clusters["default"].Health = checking()
	cfg.Clusters["unused"] = conf.NewCluster(well.addr)
	f := startCluster(t, cfg)
	require.Eventually(t, func() bool { return len(f.answers(10)) == 1 }, faultSafety, 1)
	s := f.stream()
	_, err := s.Header() // it has come to its backend
	require.NoError(t, err)
	f.standing = 1

	clusters := f.p.Clusters()
	require.Len(t, clusters, 3, "default, healthy, unused")
	at := clusters[0]
	require.Equal(t, "default", at.Name)
	require.EqualValues(t, 1, at.Calls)
	require.Equal(t, 2, at.Discovery.Instances)
	require.NoError(t, at.Discovery.Err)
	require.Len(t, at.Instances, 2)
	for _, in := range at.Instances {
		require.Equal(t, in.Address == well.addr, in.Healthy, in.Address)
	}
	var streams int64
	for _, c := range at.Connections {
		require.Equal(t, "default", c.Cluster)
		if c.Address == well.addr {
			streams = c.Streams
			require.Positive(t, c.Connections)
			require.Positive(t, c.Dials)
		}
	}
	require.Positive(t, streams)

	unused := clusters[2]
	require.Equal(t, "unused", unused.Name)
	require.Zero(t, unused.Calls)
	require.Empty(t, unused.Connections)
	require.Nil(t, unused.Discovery)
	require.Len(t, unused.Instances, 1)
	endOn(t, s)
}
