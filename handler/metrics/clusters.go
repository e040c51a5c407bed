package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// ClusterSnapshot is how one instance of a cluster does.
type ClusterSnapshot struct {
	Cluster, Instance string
	Connections       int   // that take new streams
	Streams           int64 // on those, and on others that are to end with their streams
	Active            int64 // calls under way
	Healthy           bool  // as health checks see it
	Ejected           bool  // it is out because its calls failed
	Ejections         int64 // so far
	Dials             int64 // attempts to connect so far
	DialFailures      int64 // those of them that failed
}

// clusters collects figures of instances when they are read. Each instance is told of
// once, as it is an error to have the same figure twice.
type clusters struct{ now func() []ClusterSnapshot }

// instance is what names one.
type instance struct{ cluster, address string }

// figure is one that each instance has.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *ClusterSnapshot) float64
}

var figures = []figure{
	{
		describe("instance_connections", "Connections to the instance that take new calls."), prometheus.GaugeValue,
		func(s *ClusterSnapshot) float64 { return float64(s.Connections) },
	},
	{
		describe("instance_streams", "HTTP/2 streams on connections to the instance."), prometheus.GaugeValue,
		func(s *ClusterSnapshot) float64 { return float64(s.Streams) },
	},
	{
		describe("instance_active_calls", "Calls under way at the instance."), prometheus.GaugeValue,
		func(s *ClusterSnapshot) float64 { return float64(s.Active) },
	},
	{
		describe("instance_healthy", "1 if health checks have nothing against the instance, else 0."), prometheus.GaugeValue,
		func(s *ClusterSnapshot) float64 { return number(s.Healthy) },
	},
	{
		describe("instance_ejected", "1 while the instance is left out for its failures, else 0."), prometheus.GaugeValue,
		func(s *ClusterSnapshot) float64 { return number(s.Ejected) },
	},
	{
		describe("instance_ejections_total", "How often the instance has been left out."), prometheus.CounterValue,
		func(s *ClusterSnapshot) float64 { return float64(s.Ejections) },
	},
	{
		describe("instance_dials_total", "Attempts to connect to the instance."), prometheus.CounterValue,
		func(s *ClusterSnapshot) float64 { return float64(s.Dials) },
	},
	{
		describe("instance_dial_failures_total", "Attempts to connect to the instance that failed."), prometheus.CounterValue,
		func(s *ClusterSnapshot) float64 { return float64(s.DialFailures) },
	},
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{"cluster", "instance"}, nil)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c clusters) Describe(out chan<- *prometheus.Desc) {
	for i := range figures {
		out <- figures[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c clusters) Collect(out chan<- prometheus.Metric) {
	seen := make(map[instance]bool)
	for _, s := range c.now() {
		in := instance{label(s.Cluster), label(s.Instance)}
		if seen[in] {
			continue
		}
		seen[in] = true
		for i := range figures {
			f := &figures[i]
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(&s), in.cluster, in.address)
		}
	}
}

// label returns s as a value that Prometheus takes.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
