package tracing

import (
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// What spans say beside OpenTelemetry's attributes.
const (
	routeKey    = attribute.Key("kitexproxy.route")
	clusterKey  = attribute.Key("kitexproxy.cluster")
	modeKey     = attribute.Key("kitexproxy.mode")
	instanceKey = attribute.Key("kitexproxy.instance")
	attemptsKey = attribute.Key("kitexproxy.attempts")
	attemptKey  = attribute.Key("kitexproxy.attempt")
	resultKey   = attribute.Key("kitexproxy.result")
	reasonKey   = attribute.Key("kitexproxy.error") // as the trailer x-kitexproxy-error
)

// name returns what spans of a call are called: the method without the first slash.
func name(c *intercept.Call) string { return strings.TrimPrefix(c.Method(), "/") }

// rpc returns what spans of all kinds say of a call.
func rpc(c *intercept.Call) []attribute.KeyValue {
	service, method, _ := strings.Cut(name(c), "/")
	kvs := make([]attribute.KeyValue, 0, 8) // with what comes to it
	return append(kvs, semconv.RPCSystemGRPC, semconv.RPCService(service), semconv.RPCMethod(method))
}

// beginning returns what is known of a call as it begins.
func beginning(c *intercept.Call) []attribute.KeyValue {
	server := c.Authority()
	if server == "" {
		server = c.Listener()
	}
	kvs := address(rpc(c), server, semconv.ServerAddressKey, semconv.ServerPortKey)
	if peer := c.Peer(); peer != nil {
		kvs = address(kvs, peer.String(), semconv.ClientAddressKey, semconv.ClientPortKey)
	}
	return kvs
}

// attempting returns what is known of an attempt as it begins.
func attempting(c *intercept.Call, a *intercept.Attempt) []attribute.KeyValue {
	kvs := address(rpc(c), a.Instance, semconv.ServerAddressKey, semconv.ServerPortKey)
	return append(kvs, clusterKey.String(a.Cluster), instanceKey.String(a.Instance), attemptKey.Int(a.Number))
}

// ending returns what is known of a call when it has ended.
func ending(c *intercept.Call, out *intercept.Outcome) []attribute.KeyValue {
	kvs := []attribute.KeyValue{
		semconv.RPCGRPCStatusCodeKey.Int64(int64(out.Status.Code)),
		routeKey.String(c.Route()), clusterKey.String(c.Cluster()), modeKey.String(c.Mode()), attemptsKey.Int(c.Attempts()),
	}
	if out.Reason != "" {
		kvs = append(kvs, reasonKey.String(string(out.Reason)))
	}
	return kvs
}

// address adds a host and its port, or what is no such as it is.
func address(kvs []attribute.KeyValue, addr string, host, port attribute.Key) []attribute.KeyValue {
	name, number, err := net.SplitHostPort(addr)
	if err != nil {
		return append(kvs, host.String(addr))
	}
	kvs = append(kvs, host.String(name))
	if n, err := strconv.ParseUint(number, 10, 16); err == nil {
		kvs = append(kvs, port.Int64(int64(n)))
	}
	return kvs
}

func resultName(r cluster.Result) string {
	switch r {
	case cluster.Succeeded:
		return "succeeded"
	case cluster.Failed:
		return "failed"
	default:
		return "unknown" // given up before there was an answer
	}
}
