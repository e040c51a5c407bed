package conf

import (
	_ "embed" // for the shipped files
	"time"
)

const (
	// DefaultConnections is the default of Cluster.Connections.
	DefaultConnections = 4
	// DefaultRefresh is the default of Reflection.Refresh.
	DefaultRefresh = Duration(5 * time.Minute)
	// DefaultDiscoveryRefresh is the default of Discovery.Refresh.
	DefaultDiscoveryRefresh = Duration(5 * time.Second)
	// DefaultEtcdPrefix is the default of Etcd.Prefix.
	DefaultEtcdPrefix = "kitex/registry-etcd"
)

// Default returns a new Config with the defaults of timeouts, limits and log. It
// names no listeners, clusters or routes, as no choice of those is right for
// everyone, and so is not valid before they are added: see Simple.
func Default() *Config {
	return &Config{
		Timeouts: Timeouts{
			Connect:        Duration(3 * time.Second),
			Shutdown:       Duration(10 * time.Second),
			Keepalive:      Duration(30 * time.Second),
			IdleConnection: Duration(10 * time.Minute),
		},
		Limits: Limits{
			Message:              0,
			HeaderList:           1 << 20,
			StreamsPerConnection: 1000,
			Connections:          10000,
			StreamWindow:         16 << 20,
			ConnectionWindow:     32 << 20,
		},
		Transport: TransportNative,
		Log:       Log{Level: "info", Format: "text"},
	}
}

// NewCluster returns a cluster of listed instances that has the defaults of a
// file.
func NewCluster(instances ...string) *Cluster {
	c := &Cluster{Instances: instances}
	c.setDefaults()
	return c
}

func (c *Cluster) setDefaults() {
	c.Balance = BalanceRoundRobin
	c.Connections = DefaultConnections
}

func (d *Discovery) setDefaults() { d.Refresh = DefaultDiscoveryRefresh }

func (e *Etcd) setDefaults() { e.Prefix = DefaultEtcdPrefix }

func (h *HealthCheck) setDefaults() {
	*h = HealthCheck{
		Interval:  Duration(5 * time.Second),
		Timeout:   Duration(time.Second),
		Unhealthy: 2,
		Healthy:   1,
	}
}

func (e *Eject) setDefaults() {
	*e = Eject{
		Consecutive: 5,
		MinCalls:    20,
		Interval:    Duration(10 * time.Second),
		For:         Duration(30 * time.Second),
		MaxPercent:  10,
	}
}

func (t *ClusterTLS) setDefaults() { t.MinVersion = "1.2" }

func (t *ListenerTLS) setDefaults() { t.MinVersion = "1.2" }

func (r *Reflection) setDefaults() { r.Refresh = DefaultRefresh }

func (a *Action) setDefaults() { a.Mode, a.Undecodable = ModeFrame, UndecodableReject }

func (m *Mirror) setDefaults() { m.Percent = 100 }

func (r *Retry) setDefaults() {
	*r = Retry{
		Codes:         []Code{"UNAVAILABLE"},
		Attempts:      3,
		Backoff:       Duration(25 * time.Millisecond),
		MaxBackoff:    Duration(time.Second),
		Buffer:        64 << 10,
		BudgetPercent: 20,
	}
}

// Simple returns the Config of a proxy that accepts calls at listen and sends
// all of them to one backend: one listener, a cluster "default" with one
// instance, and no routes. The error is an Errors; Listener.Address and
// Cluster.Instances say what addresses look like.
func Simple(listen, backend string) (*Config, error) {
	const name = "default"
	c := Default()
	c.Listeners = []Listener{{Address: listen}}
	c.Clusters = map[string]*Cluster{name: NewCluster(backend)}
	c.Default = &Action{Cluster: name, Mode: ModeFrame, Undecodable: UndecodableReject}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

var (
	//go:embed proxy.yaml
	sampleYAML string
	//go:embed default.yaml
	defaultYAML string
)

// SampleYAML returns conf/proxy.yaml: a complete configuration with every key
// explained, to be copied and changed.
func SampleYAML() []byte { return []byte(sampleYAML) }

// DefaultYAML returns conf/default.yaml: the configuration of a proxy that is
// started without one. It sends every call from 127.0.0.1:8888 to
// 127.0.0.1:9000.
func DefaultYAML() []byte { return []byte(defaultYAML) }
