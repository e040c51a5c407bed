package tries

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func clusterOf(on *conf.HashOn, instances ...string) *cluster.Cluster {
	return cluster.New("c", &conf.Cluster{Instances: instances, HashOn: on, Limits: conf.ClusterLimits{Calls: 1}}, cluster.Options{})
}

func none(string) bool { return false }

func TestCallsThatNoBackendBeganGoOn(t *testing.T) {
	cases := map[string]struct {
		failure   stream.Failure
		instances []string
		made      int // in all
	}{
		"refused by the only instance":   {stream.Failure{Reason: stream.BackendRefused, Unprocessed: true}, []string{"a"}, MaxMade},
		"refused by more than are tried": {stream.Failure{Reason: stream.BackendRefused, Unprocessed: true}, []string{"a", "b", "c", "d", "e", "f", "g"}, 7},
		"no answer from any":             {stream.Failure{Reason: stream.BackendUnreachable, Unprocessed: true}, []string{"a", "b"}, 2},
		"begun":                          {stream.Failure{Reason: stream.BackendDisconnected}, []string{"a", "b"}, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var tried Tries
			tried.Begin(clusterOf(nil, c.instances...), "")
			asked := map[string]bool{}
			for more := true; more; more = tried.MayGoOn(&c.failure) {
				e, f := tried.Next(none)
				require.Nil(t, f)
				asked[e.Address()] = true
			}
			assert.Equal(t, c.made, tried.Made())
			assert.Len(t, asked, min(c.made, len(c.instances)), "others come before one is asked again")
		})
	}
}

func TestClusterWithoutInstances(t *testing.T) {
	var tried Tries
	tried.Begin(clusterOf(nil), "")
	_, f := tried.Next(none)
	require.NotNil(t, f)
	assert.Equal(t, stream.Unavailable, f.Code)
	assert.Zero(t, tried.Made())
}

func TestEnter(t *testing.T) {
	c := clusterOf(nil, "a")
	require.Nil(t, Enter(c))
	f := Enter(c)
	require.NotNil(t, f)
	assert.Equal(t, stream.Overloaded, f.Reason)
	assert.Equal(t, stream.ResourceExhausted, f.Code)
	c.Leave()
	assert.Nil(t, Enter(c), "what was too much is not counted in")
}

func TestAffinity(t *testing.T) {
	metadata := func(key string) string { return map[string]string{"user": "alice"}[key] }
	tcp := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}
	cases := map[string]struct {
		on   *conf.HashOn
		peer net.Addr
		want string
	}{
		"nothing":       {nil, tcp, ""},
		"metadata":      {&conf.HashOn{Metadata: "user"}, tcp, "alice"},
		"no such key":   {&conf.HashOn{Metadata: "other"}, tcp, ""},
		"peer":          {&conf.HashOn{Peer: true}, tcp, "192.0.2.1"},
		"peer, no IP":   {&conf.HashOn{Peer: true}, &net.UnixAddr{Name: "socket"}, ""},
		"peer, unknown": {&conf.HashOn{Peer: true}, nil, ""},
	}
	for name, c := range cases {
		assert.Equal(t, c.want, Affinity(clusterOf(c.on, "a"), c.peer, metadata), name)
	}
}

func TestResults(t *testing.T) {
	for code := range stream.Code(17) {
		want := cluster.Succeeded
		switch code {
		case stream.Unavailable, stream.Internal, stream.Unknown, stream.DataLoss, stream.DeadlineExceeded:
			want = cluster.Failed
		}
		assert.Equal(t, want, ResultOf(code), code)
	}
	for reason, want := range map[stream.Reason][2]cluster.Result{ // without and with the whole request
		stream.BackendReset:   {cluster.Failed, cluster.Failed},
		stream.DeadlinePassed: {cluster.Unknown, cluster.Failed},
		stream.ClientCanceled: {cluster.Unknown, cluster.Unknown},
		stream.Shutdown:       {cluster.Unknown, cluster.Unknown},
	} {
		f := &stream.Failure{Reason: reason}
		assert.Equal(t, want, [2]cluster.Result{ResultOfFailure(f, false), ResultOfFailure(f, true)}, reason)
	}
}
