package conf

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// balances are the valid values of Cluster.Balance.
var balances = []string{BalanceRoundRobin, BalanceRandom, BalanceLeastActive, BalanceHash}

func (v *validator) clusters() {
	if len(v.clusterNames) == 0 {
		v.require("clusters", "at least one is needed", "name the backends that answer calls, as conf/proxy.yaml does")
	}
	for _, name := range v.clusterNames {
		path, cluster := KeyPath("clusters", name), v.config.Clusters[name]
		if cluster == nil {
			v.badField(path, "must not be nil", "")
			continue
		}
		v.cluster(path, cluster)
		v.name(path, name, "a cluster") // last, as it silences checks below path
	}
}

func (v *validator) cluster(path string, c *Cluster) {
	v.whereInstances(path, c)
	v.instances(KeyPath(path, "instances"), c.Instances)
	v.weights(path, c)
	v.discovery(KeyPath(path, "discovery"), c.Discovery)
	v.balance(path, c)
	v.health(KeyPath(path, "health"), c.Health)
	between(v, KeyPath(path, "connections"), c.Connections, 1, maxConnections)
	v.pool(KeyPath(path, "pool"), c)
	v.clusterLimits(KeyPath(path, "limits"), &c.Limits)
	v.clusterTLS(KeyPath(path, "tls"), c.TLS)
	v.socketName(path, c)
}

// socketName checks that TLS to sockets, which have no host, has a name for their
// certificates.
func (v *validator) socketName(path string, c *Cluster) {
	name := KeyPath(KeyPath(path, "tls"), "server_name")
	if c.TLS == nil || c.TLS.ServerName != "" || v.isBroken(name) {
		return
	}
	isSocket := func(address string) bool { return strings.HasPrefix(address, unixScheme) }
	if i := slices.IndexFunc(c.Instances, isSocket); i >= 0 {
		instance := ItemPath(KeyPath(path, "instances"), i)
		v.badField(name, "is needed for "+v.reference(instance)+", which is a socket and has no host",
			"write the name in its certificate")
	}
}

// whereInstances checks that instances are either listed or discovered.
func (v *validator) whereInstances(path string, c *Cluster) {
	instances, discovery := KeyPath(path, "instances"), KeyPath(path, "discovery")
	switch {
	case len(c.Instances) == 0 && c.Discovery == nil && !v.has(discovery):
		v.require(instances, "at least one is needed", `add one, such as "- 127.0.0.1:9000"`)
	case len(c.Instances) > 0 && c.Discovery != nil && !v.isBroken(discovery):
		v.badField(discovery, "is not possible beside instances", "remove one of the two")
	}
}

func (v *validator) instances(path string, instances []string) {
	seen := map[parsedAddress]string{}
	for i, address := range instances {
		path := ItemPath(path, i)
		parsed, ok := v.reachable(path, address, instanceHint)
		if !ok {
			continue
		}
		switch earlier, again := seen[parsed]; {
		case again:
			v.badValue(path, address, "is already "+v.reference(earlier), "remove one of the two")
		case v.listening[parsed] != "":
			v.badValue(path, address, "is the proxy itself, "+v.reference(v.listening[parsed]),
				"write the backend's address, or calls go round in a circle")
		default:
			seen[parsed] = path
		}
	}
}

// weights checks that weights are for listed instances, and leave one of them a
// share.
func (v *validator) weights(path string, c *Cluster) {
	instances, path := KeyPath(path, "instances"), KeyPath(path, "weights")
	switch {
	case len(c.Weights) == 0 || v.isBroken(path):
		return
	case c.Discovery != nil:
		v.badField(path, "are for listed instances, and these are discovered",
			"remove them, and give weights where they are found")
		return
	}
	for _, address := range slices.Sorted(maps.Keys(c.Weights)) {
		path := KeyPath(path, address)
		if !slices.Contains(c.Instances, address) {
			if !v.touched[instances] {
				v.notInstance(path, address, c.Instances)
			}
			continue
		}
		between(v, path, c.Weights[address], 0, maxWeight)
	}
	if !v.touched[path] && !slices.ContainsFunc(c.Instances, c.hasShare) {
		v.badField(path, "leave no instance with a share of calls", "give one a weight of more than 0")
	}
}

func (v *validator) notInstance(path, address string, instances []string) {
	switch {
	case v.isBroken(path):
	case v.full(): // the nearest of many addresses takes a while to find
		v.more = true
	default:
		v.badField(path, "is not an instance", didYouMean(address, "instances", instances))
	}
}

// hasShare tells whether a listed instance gets any calls.
func (c *Cluster) hasShare(address string) bool {
	weight, isSet := c.Weights[address]
	return !isSet || weight > 0
}

// balance checks how calls are spread, and that what they have in common is there
// if it is needed.
func (v *validator) balance(path string, c *Cluster) {
	balance, hashOn := KeyPath(path, "balance"), KeyPath(path, "hash_on")
	if c.Balance != "" || v.has(balance) {
		v.oneOf(balance, c.Balance, balances)
	}
	switch {
	case c.HashOn == nil && v.has(hashOn):
		v.notNull(hashOn)
	case v.isBroken(hashOn) || v.isBroken(balance):
	case c.Balance == BalanceHash && c.HashOn == nil:
		v.badField(hashOn, "is needed with balance: hash", "add it, with metadata, field or peer")
	case c.Balance == BalanceHash:
		v.hashOn(hashOn, c.HashOn)
	case c.HashOn != nil:
		v.badField(hashOn, "is for balance: hash only", "remove it, or write balance: hash")
	}
}

func (v *validator) hashOn(path string, h *HashOn) {
	key := KeyPath(path, "metadata")
	if h.Metadata != "" || v.has(key) {
		v.readableKey(key, h.Metadata)
	}
	v.notBlank(KeyPath(path, "field"), h.Field, `write the path of a field, such as "user.name"`)
	v.exactlyOne(path, option{"metadata", h.Metadata != ""}, option{"field", h.Field != ""}, option{"peer", h.Peer})
}

// hashFields checks that who sends calls to a cluster that looks at a field of
// their messages decodes these.
func (v *validator) hashFields() {
	for i := range v.config.Routes {
		v.decodesFor(ItemPath("routes", i), &v.config.Routes[i].Action)
	}
	if v.config.Default != nil {
		v.decodesFor("default", v.config.Default)
	}
}

func (v *validator) decodesFor(path string, a *Action) {
	if a.Mode == ModeDynamic || v.isBroken(KeyPath(path, "mode")) {
		return
	}
	for _, name := range a.Clusters() {
		c := v.config.Clusters[name]
		field := KeyPath(KeyPath(KeyPath("clusters", name), "hash_on"), "field")
		if c == nil || c.HashOn == nil || c.HashOn.Field == "" || v.isBroken(field) {
			continue
		}
		v.badValue(field, c.HashOn.Field, "is a field of messages, which "+v.reference(path)+" does not decode",
			"write mode: dynamic there, or hash on metadata or peer")
	}
}

func (v *validator) pool(path string, c *Cluster) {
	v.zeroOr(KeyPath(path, "ttl"), c.Pool.TTL, minPoolTTL, maxPoolTTL, "0 is any age")
	if !v.isBroken(KeyPath(parent(path), "connections")) {
		if c.Pool.Idle != nil {
			between(v, KeyPath(path, "idle"), *c.Pool.Idle, 0, c.Connections)
		}
	}
	between(v, KeyPath(path, "streams_per_connection"), c.Pool.StreamsPerConnection, 0, math.MaxInt32)
}

func (v *validator) clusterLimits(path string, l *ClusterLimits) {
	between(v, KeyPath(path, "calls"), l.Calls, 0, math.MaxInt32)
	between(v, KeyPath(path, "pending"), l.Pending, 0, math.MaxInt32)
}
