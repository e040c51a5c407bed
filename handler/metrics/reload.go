package metrics

import "github.com/prometheus/client_golang/prometheus"

// reloads is what has come of changed configurations.
type reloads struct {
	done   *prometheus.CounterVec
	failed prometheus.Gauge // 1 while the last one has
	last   prometheus.Gauge // when one was put into use
}

func newReloads() reloads {
	r := reloads{
		done:   counters("reloads_total", "Changed configurations, by what came of them.", "result"),
		failed: gauge("reload_failed", "1 if the last changed configuration could not be put into use, else 0."),
		last:   gauge("reload_last_success_timestamp_seconds", "When one was put into use last, 0 for never."),
	}
	for _, result := range []string{"success", "failure"} {
		r.done.WithLabelValues(result) // so that there is a 0 to begin with
	}
	return r
}

// Reloaded notes that a changed configuration has been put into use, or, with an error,
// that it could not be.
func (m *Metrics) Reloaded(err error) {
	if err != nil {
		m.reloads.done.WithLabelValues("failure").Inc()
		m.reloads.failed.Set(1)
		return
	}
	m.reloads.done.WithLabelValues("success").Inc()
	m.reloads.failed.Set(0)
	m.reloads.last.SetToCurrentTime()
}

// Describe implements prometheus.Collector.
func (r reloads) Describe(out chan<- *prometheus.Desc) {
	r.done.Describe(out)
	r.failed.Describe(out)
	r.last.Describe(out)
}

// Collect implements prometheus.Collector.
func (r reloads) Collect(out chan<- prometheus.Metric) {
	r.done.Collect(out)
	r.failed.Collect(out)
	r.last.Collect(out)
}
