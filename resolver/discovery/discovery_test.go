package discovery

import (
	"context"
	"testing"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

func TestRegistriesAreAskedByName(t *testing.T) {
	registry := discovery.SynthesizedResolver{
		TargetFunc: func(_ context.Context, target rpcinfo.EndpointInfo) string { return "prod/" + target.ServiceName() },
		ResolveFunc: func(_ context.Context, key string) (discovery.Result, error) {
			assert.Equal(t, "prod/orders", key)
			return discovery.Result{Instances: tcp("10.0.0.1:1")}, nil
		},
	}
	source, err := Open(&conf.Discovery{Registry: "nacos", Service: "orders"}, map[string]discovery.Resolver{"nacos": registry})
	require.NoError(t, err)
	w := watch(t, source, never)
	assert.Equal(t, "10.0.0.1:1", w.next(t))
	assert.Equal(t, `service "orders" in registry "nacos"`, w.Status().Source)
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(&conf.Discovery{}, nil)
	require.EqualError(t, err, "no source of instances is set: one of file, dns, etcd and registry is wanted")
	_, err = Open(&conf.Discovery{Registry: "nacos"}, nil)
	require.EqualError(t, err, `the program has no registry "nacos"; it was given none`)
	_, err = Open(&conf.Discovery{Registry: "nacos"}, map[string]discovery.Resolver{"polaris": nil, "consul": nil})
	require.EqualError(t, err, `the program has no registry "nacos"; it was given consul, polaris`)
}

func TestWhatRegistryEtcdWrites(t *testing.T) {
	for value, want := range map[string]struct {
		address string
		weight  int
	}{
		`{"network":"tcp","address":"10.0.0.1:8888","weight":30,"tags":{"zone":"a"}}`: {"10.0.0.1:8888", 30},
		`{"network":"tcp","address":"10.0.0.1:8888","weight":0,"tags":null}`:          {"10.0.0.1:8888", 10},
		`{"network":"tcp","address":"2001:db8::1:8888","weight":10,"tags":null}`:      {"[2001:db8::1]:8888", 10},
		`{"network":"tcp","address":"[2001:db8::1]:8888","weight":10}`:                {"[2001:db8::1]:8888", 10},
		`{"network":"unix","address":"/run/x.sock","weight":10}`:                      {"unix:///run/x.sock", 10},
	} {
		in, err := parseRegistered([]byte(value))
		require.NoError(t, err, value)
		address, err := addressOf(in)
		require.NoError(t, err, value)
		assert.Equal(t, want.address, address)
		assert.Equal(t, want.weight, in.Weight())
	}
	for _, value := range []string{"", "10.0.0.1:8888", `{"weight":1}`, `[]`, `{"address":7}`} {
		_, err := parseRegistered([]byte(value))
		assert.ErrorContains(t, err, "not what registry-etcd writes", value)
	}
}

// Nothing listens at the address, and the files are not there.
func TestEtcdThatCannotBeUsedSaysWhy(t *testing.T) {
	for problem, cfg := range map[string]*conf.Etcd{
		"connection refused":        {Endpoints: []string{"127.0.0.1:1"}},
		"no such file or directory": {Endpoints: []string{"127.0.0.1:1"}, Username: "proxy", PasswordFile: "/nowhere/password"},
		"nowhere/ca.pem":            {Endpoints: []string{"127.0.0.1:1"}, TLS: &conf.ClusterTLS{CA: "/nowhere/ca.pem"}},
	} {
		source, err := Open(&conf.Discovery{Etcd: cfg, Service: "orders"}, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
		_, err = source.Resolver.Resolve(ctx, "orders")
		cancel()
		assert.ErrorContains(t, err, problem)
		require.NoError(t, source.Close())
	}
}
