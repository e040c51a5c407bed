package conf

import (
	_ "embed" // for the shipped files
	"slices"
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
	// DefaultLimitKeys is the default of RateLimit.Keys and ConcurrencyLimit.Keys.
	DefaultLimitKeys = 10000
)

// Default returns a new Config with the defaults of timeouts, limits, log and metrics. It
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
		Metrics: Metrics{
			Methods: 1000,
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		},
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

func (a *APIKeys) setDefaults() { a.Header, a.Remove = "x-api-key", true }

func (j *JWT) setDefaults() {
	*j = JWT{
		Header:     "authorization",
		JWKS:       JWKS{Refresh: Duration(5 * time.Minute)},
		Algorithms: slices.Clone(asymmetric),
		Identity:   "sub",
		Leeway:     Duration(30 * time.Second),
	}
}

func (r *RequestID) setDefaults() { r.Header, r.Response = "x-request-id", true }

func (r *RateLimit) setDefaults() {
	r.Per, r.Key, r.Keys = Duration(time.Second), LimitKeyAll, DefaultLimitKeys
}

func (c *ConcurrencyLimit) setDefaults() { c.Key, c.Keys = LimitKeyAll, DefaultLimitKeys }

func (a *AccessLog) setDefaults() {
	*a = AccessLog{
		Output:        OutputStderr,
		Format:        "json",
		SamplePercent: 100,
		Errors:        true,
		Redact:        []string{"authorization", "cookie", "proxy-authorization", "x-api-key"},
		Buffer:        4096,
	}
}

func (t *Tracing) setDefaults() {
	*t = Tracing{
		OTLP:          OTLP{Protocol: OTLPGRPC, Timeout: Duration(10 * time.Second)},
		SamplePercent: 1,
		Propagate:     []string{PropagateTraceContext, PropagateBaggage},
		ServiceName:   "kitexproxy",
		Queue:         2048,
	}
}

func (a *Admin) setDefaults() { a.Address = "127.0.0.1:9901" }

func (g *Gateway) setDefaults() {
	*g = Gateway{
		OpenAPI:     "/openapi.json",
		DefaultPost: true,
		BodyLimit:   4 << 20,
		WebSocket:   WebSocket{MessageLimit: 4 << 20, Ping: Duration(30 * time.Second)},
		Keepalive:   Duration(15 * time.Second),
	}
}

func (e *Envelope) setDefaults() { e.Status = EnvelopeMapped }

func (f *Functions) setDefaults() {
	f.Prefix, f.Timeout = "/function/", Duration(10*time.Second)
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
// started without one. It sends every call from 127.0.0.1:8888, and from
// 127.0.0.1:8080 with JSON, to 127.0.0.1:9000.
func DefaultYAML() []byte { return []byte(defaultYAML) }
