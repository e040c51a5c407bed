package kitextracer

import (
	"strings"
	"sync"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/cloudwego/kitex/transport"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// infoOf returns what tracers are told of a call that begins.
func (o *Observer) infoOf(c *intercept.Call) rpcinfo.RPCInfo {
	service, method := o.names.of(c.Method())
	pkg, bare := "", service
	if dot := strings.LastIndexByte(service, '.'); dot >= 0 {
		pkg, bare = service[:dot], service[dot+1:]
	}
	config := rpcinfo.NewRPCConfig()
	_ = rpcinfo.AsMutableRPCConfig(config).SetTransportProtocol(transport.GRPC) // which cannot fail
	figures := rpcinfo.NewRPCStats()
	rpcinfo.AsMutableRPCStats(figures).SetLevel(stats.LevelDetailed)
	return rpcinfo.NewRPCInfo(
		rpcinfo.NewEndpointInfo("", "", c.Peer(), nil),
		rpcinfo.NewEndpointInfo(service, method, nil, nil),
		rpcinfo.NewInvocation(bare, method, pkg),
		config, figures,
	)
}

const defaultMethods = 1000

// other is what methods are called that are too many.
const other = "other"

// names are the methods that tracers are told of by name. The first ones are.
type names struct {
	limit int

	mu    sync.RWMutex
	known map[string]struct{}
}

// of returns service and method of a full method name.
func (n *names) of(full string) (service, method string) {
	if !n.isKnown(full) && !n.add(full) {
		return other, other
	}
	service, method, _ = strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service, method
}

func (n *names) isKnown(full string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.known[full]
	return ok
}

// add makes a method known, and returns false if there is no room.
func (n *names) add(full string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.known[full]; !ok && len(n.known) >= n.limit {
		return false
	}
	if n.known == nil {
		n.known = make(map[string]struct{})
	}
	n.known[strings.Clone(full)] = struct{}{}
	return true
}
