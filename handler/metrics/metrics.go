package metrics

import (
	"log/slog"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

// namespace begins the names of the proxy's own figures.
const namespace = "kitexproxy"

// maxScrapes is how many requests for the figures are answered at a time.
const maxScrapes = 4

// DefaultMethods is the default of Options.Methods.
const DefaultMethods = 1000

// DefaultBuckets returns the default of Options.Buckets.
func DefaultBuckets() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
}

// Options is what Metrics work with.
type Options struct {
	// Methods is how many methods are counted by their names. Default DefaultMethods.
	Methods int
	// Buckets are the upper bounds of the histograms of durations, in seconds, each more
	// than the one before. Default DefaultBuckets.
	Buckets []float64
	// Version is that of the proxy.
	Version string
	// Clusters returns how instances do, one entry for each; nil for none. It is called
	// concurrently.
	Clusters func() []ClusterSnapshot
	// AccessLogDropped returns how many lines of the access log are lost so far, nil if
	// there is no access log.
	AccessLogDropped func() int64
	// Logger is told of figures that cannot be read. Default slog.Default().
	Logger *slog.Logger
}

// Metrics are the figures of one proxy. Their methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	logger   *slog.Logger
	calls    *calls
	inFlight inFlight
	attempts attempts
	retries  *prometheus.CounterVec
	open     prometheus.Gauge
	opened   prometheus.Counter
	reloads  reloads
}

var (
	_ intercept.AttemptObserver = (*Metrics)(nil)
	_ intercept.ConnObserver    = (*Metrics)(nil)
)

// New returns figures that are all 0. It panics if Buckets do not rise.
func New(opts Options) *Metrics {
	opts.setDefaults()
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		logger:   opts.Logger,
		calls:    newCalls(opts.Methods, opts.Buckets),
		inFlight: newInFlight(),
		attempts: newAttempts(),
		retries:  counters("retries_total", "Calls sent to an instance once more, or to one more.", "cluster"),
		open:     gauge("client_connections", "Connections of clients."),
		opened:   counter("client_connections_opened_total", "Connections of clients so far."),
		reloads:  newReloads(),
	}
	m.registry.MustRegister(m.calls, m.inFlight, m.attempts, m.retries, m.open, m.opened, m.reloads)
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build(opts.Version),
	)
	if opts.Clusters != nil {
		m.registry.MustRegister(clusters{opts.Clusters})
	}
	if opts.AccessLogDropped != nil {
		m.registry.MustRegister(droppedLines(opts.AccessLogDropped))
	}
	return m
}

func (o *Options) setDefaults() {
	if o.Methods == 0 {
		o.Methods = DefaultMethods
	}
	if o.Buckets == nil {
		o.Buckets = DefaultBuckets()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Registry returns the figures, to which a program may add its own.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the figures in the formats of Prometheus and OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	figures := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(m.logger.Handler(), slog.LevelError),
		// Figures that cannot be read do not keep others from being read.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { figures.ServeHTTP(patient{w}, req) })
}

// patient is a response that may be written after its client has gone: promhttp would log
// that as an error, and for each figure that is left.
type patient struct{ http.ResponseWriter }

// Write implements http.ResponseWriter.
func (p patient) Write(b []byte) (int, error) {
	_, _ = p.ResponseWriter.Write(b)
	return len(b), nil
}

func build(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "What runs, as labels; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}

func droppedLines(dropped func() int64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "access_log_dropped_lines_total",
		Help: "Lines of the access log that are lost, because they came too fast or could not be written.",
	}, func() float64 { return float64(dropped()) })
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}
