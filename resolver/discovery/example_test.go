package discovery_test

import (
	"context"
	"fmt"

	kitex "github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
	"github.com/kitexproxy/kitexproxy/resolver/discovery"
)

// phoneBook is a registry. Those of kitex-contrib, such as nacos, consul, zookeeper or
// polaris, are the same to the proxy: each comes with a resolver.
type phoneBook map[string][]string

func (b phoneBook) Target(_ context.Context, target rpcinfo.EndpointInfo) string {
	return target.ServiceName()
}

func (b phoneBook) Resolve(_ context.Context, service string) (kitex.Result, error) {
	var result kitex.Result
	for _, address := range b[service] {
		result.Instances = append(result.Instances, kitex.NewInstance("tcp", address, kitex.DefaultWeight, nil))
	}
	return result, nil
}

func (b phoneBook) Diff(key string, prev, next kitex.Result) (kitex.Change, bool) {
	return kitex.DefaultDiff(key, prev, next)
}

func (b phoneBook) Name() string { return "phone book" }

// A registry from Go is plugged in by a name that clusters use.
func ExampleOpen_registry() {
	registries := map[string]kitex.Resolver{
		"phone-book": phoneBook{"orders": {"10.0.0.2:8888", "10.0.0.1:8888"}},
	}
	source, err := discovery.Open(&conf.Discovery{Registry: "phone-book", Service: "orders"}, registries)
	if err != nil {
		panic(err)
	}
	watch := discovery.NewWatch(discovery.Options{
		Cluster: "orders",
		Source:  source,
		Update:  func(all []cluster.Instance) { fmt.Println(all) },
	})
	defer watch.Close()
	if err := watch.Await(context.Background()); err != nil {
		panic(err)
	}
	// Output: [{10.0.0.1:8888 10} {10.0.0.2:8888 10}]
}
