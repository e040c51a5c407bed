package conf

import "reflect"

// Cluster is a named set of backend instances that answer alike. The instances
// are either listed or discovered. NewCluster returns one with the defaults.
type Cluster struct {
	// Instances are the backends' addresses: "host:port" or
	// "unix:///path/to/socket". One of Instances and Discovery is set.
	Instances []string `yaml:"instances,omitempty"`
	// Weights give listed instances a share of calls by address, as that is
	// written in Instances: 0 to 1000, default 1; not 0 for all. Discovered ones
	// bring their own.
	Weights map[string]int `yaml:"weights,omitempty"`
	// Discovery finds the instances.
	Discovery *Discovery `yaml:"discovery,omitempty"`

	// Balance is how calls are spread: BalanceRoundRobin (the default, which ""
	// stands for), BalanceRandom, BalanceLeastActive or BalanceHash.
	Balance string `yaml:"balance,omitempty"`
	// HashOn says what calls have in common that go to the same instance;
	// required with BalanceHash, and an error without.
	HashOn *HashOn `yaml:"hash_on,omitempty"`
	// Health says which instances are left out. Default nil: those that cannot be
	// reached.
	Health *Health `yaml:"health,omitempty"`

	// Connections is how many connections an instance gets at most. One is
	// opened at first, others when those are busy. Default 4.
	Connections int `yaml:"connections"`
	// Pool says how long connections are kept.
	Pool ClusterPool `yaml:"pool"`
	// Limits bound what the cluster takes at a time.
	Limits ClusterLimits `yaml:"limits"`
	// TLS encrypts the connections to backends. Default nil: plaintext.
	TLS *ClusterTLS `yaml:"tls,omitempty"`
}

// Equal reports whether two clusters are configured alike. It takes nil.
func (c *Cluster) Equal(other *Cluster) bool { return reflect.DeepEqual(c, other) }

// The values of Cluster.Balance.
const (
	// BalanceRoundRobin gives calls to instances in turn, by weight.
	BalanceRoundRobin = "round_robin"
	// BalanceRandom gives them to any, by weight.
	BalanceRandom = "random"
	// BalanceLeastActive gives them to the instance that has the fewest under way
	// for its weight.
	BalanceLeastActive = "least_active"
	// BalanceHash gives calls that have something in common to the same instance,
	// as long as that is there.
	BalanceHash = "hash"
)

// HashOn is what of a call decides about the instance; exactly one field is set.
// Calls that do not have it go to instances in turn.
type HashOn struct {
	// Metadata is a key, lower-case if it comes from a file.
	Metadata string `yaml:"metadata,omitempty"`
	// Field is the path of a field of the first message. All routes to the cluster
	// need ModeDynamic.
	Field string `yaml:"field,omitempty"`
	// Peer is true for the client's IP address.
	Peer bool `yaml:"peer,omitempty"`
}

// Discovery is where the instances of a cluster are learned from; one of File,
// DNS, Etcd and Registry is set. What was found last stays in use while the source
// does not answer.
type Discovery struct {
	// File is a YAML or JSON file with a list of addresses, or of maps with
	// "address" and "weight". It is read again when it changes.
	File string `yaml:"file,omitempty"`
	// DNS is "name:port": an instance for each address of the name, which is not
	// an IP address.
	DNS string `yaml:"dns,omitempty"`
	// Etcd has the instances that Kitex servers register there (kitex-contrib,
	// registry-etcd).
	Etcd *Etcd `yaml:"etcd,omitempty"`
	// Registry is the name of a discovery.Resolver of Kitex that the program was
	// given (proxy.WithRegistry).
	Registry string `yaml:"registry,omitempty"`
	// Service is the name to ask Etcd or Registry for; required with those, and an error
	// with others.
	Service string `yaml:"service,omitempty"`
	// Refresh is how often the source is asked again: 1s to 24h. Default 5s.
	// Files and etcd tell of changes, and are asked all the same.
	Refresh Duration `yaml:"refresh"`
}

// Etcd is how etcd is reached.
type Etcd struct {
	// Endpoints are its members, "host:port"; at least one.
	Endpoints []string `yaml:"endpoints"`
	// Prefix is what keys of services begin with. Default "kitex/registry-etcd".
	Prefix string `yaml:"prefix,omitempty"`
	// Username and PasswordFile are for etcd with authentication. Both or none.
	Username     string `yaml:"username,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	// TLS encrypts the connections. Default nil: plaintext.
	TLS *ClusterTLS `yaml:"tls,omitempty"`
}

// Health says which instances of a cluster get no calls.
type Health struct {
	// Check asks instances how they are. Default nil: they are not asked.
	Check *HealthCheck `yaml:"check,omitempty"`
	// Eject leaves out for a while those whose calls fail. Default nil: none.
	Eject *Eject `yaml:"eject,omitempty"`
	// SlowStart is how long an instance that is new, or back, takes to get its
	// whole share of calls: up to 1h. Default 0: no time.
	SlowStart Duration `yaml:"slow_start,omitempty"`
}

// HealthCheck asks instances by grpc.health.v1.
type HealthCheck struct {
	// Service is what they are asked about. Default "": the server as a whole.
	Service string `yaml:"service,omitempty"`
	// Interval is the pause between two questions: 100ms to 1h. Default 5s.
	Interval Duration `yaml:"interval"`
	// Timeout is how long an answer may take: more than 0, up to 1m. Default 1s.
	Timeout Duration `yaml:"timeout"`
	// Unhealthy is how many bad answers in a row take an instance out, 1 to 100.
	// Default 2.
	Unhealthy int `yaml:"unhealthy"`
	// Healthy is how many good ones bring it back, 1 to 100. Default 1.
	Healthy int `yaml:"healthy"`
}

// Eject takes out instances whose calls fail with UNAVAILABLE, INTERNAL, UNKNOWN,
// DATA_LOSS or DEADLINE_EXCEEDED of their own, or get no answer. One of Consecutive
// and FailurePercent at least is set.
type Eject struct {
	// Consecutive is how many failures in a row take an instance out, 1 to 1000;
	// 0: none do. Default 5.
	Consecutive int `yaml:"consecutive"`
	// FailurePercent is the share of calls within Interval that must have failed,
	// 1 to 100, if there were MinCalls; 0 (the default): none does.
	FailurePercent int `yaml:"failure_percent,omitempty"`
	// MinCalls is how many calls FailurePercent needs, 1 to 100000. Default 20.
	MinCalls int `yaml:"min_calls"`
	// Interval is how long calls count for FailurePercent: 1s to 1h. Default 10s.
	Interval Duration `yaml:"interval"`
	// For is how long an instance is out the first time: 100ms to 1h. Each time
	// again it is as much longer, up to ten times. Default 30s.
	For Duration `yaml:"for"`
	// MaxPercent is how many of the instances may be out, 0 to 100; one always
	// may, if there are others. Default 10.
	MaxPercent int `yaml:"max_percent"`
}

// ClusterPool is how long connections to instances are kept.
type ClusterPool struct {
	// TTL is how old a connection gets before another one takes its place; its
	// calls go on: 100ms to 720h. Default 0: any age.
	TTL Duration `yaml:"ttl,omitempty"`
	// Idle is how many connections without a call an instance keeps, 0 to
	// Connections. Default nil: all, until Timeouts.IdleConnection.
	Idle *int `yaml:"idle,omitempty"`
	// StreamsPerConnection is how many calls a connection has at a time, 1 to
	// 2147483647; 0 (the default): as many as the backend allows.
	StreamsPerConnection int `yaml:"streams_per_connection,omitempty"`
}

// ClusterLimits bound what a cluster takes at a time, 1 to 2147483647. A call beyond
// them ends at once. 0, the default, is no limit.
type ClusterLimits struct {
	// Calls is how many may be under way; one more is RESOURCE_EXHAUSTED.
	Calls int `yaml:"calls,omitempty"`
	// Pending is how many may wait for a connection; one more is UNAVAILABLE.
	Pending int `yaml:"pending,omitempty"`
}

// ClusterTLS is how connections to backends are encrypted: version 1.2 or later,
// with "h2" by ALPN. The files are read again when they change.
type ClusterTLS struct {
	// CA is a PEM file with the certificates that those of backends are verified
	// by. Default "": the system's.
	CA string `yaml:"ca,omitempty"`
	// Cert and Key are the PEM files of the proxy's own certificate, for backends
	// that ask for one. Both or none.
	Cert string `yaml:"cert,omitempty"`
	Key  string `yaml:"key,omitempty"`
	// ServerName is what the backend's certificate must be for, and what it is
	// asked for (SNI). Default "": the host of its address; required for sockets,
	// which have none.
	ServerName string `yaml:"server_name,omitempty"`
	// MinVersion is "1.2" (the default, which "" stands for) or "1.3".
	MinVersion string `yaml:"min_version,omitempty"`
}
