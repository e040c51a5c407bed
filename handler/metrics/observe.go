package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// inFlight counts calls by the address of their listener.
type inFlight struct {
	*prometheus.GaugeVec
	listeners *cache[string, prometheus.Gauge]
}

func newInFlight() inFlight {
	v := gauges("calls_in_flight", "Calls that have begun and not ended, by the listener's address.", "listener")
	return inFlight{v, newCache(func(listener string) prometheus.Gauge { return v.WithLabelValues(label(listener)) })}
}

// Begin implements intercept.Observer.
func (m *Metrics) Begin(c *intercept.Call) { m.inFlight.listeners.get(c.Listener()).Inc() }

// End implements intercept.Observer.
func (m *Metrics) End(c *intercept.Call) {
	m.inFlight.listeners.get(c.Listener()).Dec()
	m.calls.end(c)
}

// attempts counts calls each time that they are sent to an instance.
type attempts struct {
	*prometheus.CounterVec
	ended *cache[attempt, prometheus.Counter]
}

// attempt is what they are counted by.
type attempt struct {
	cluster string
	result  cluster.Result
}

func newAttempts() attempts {
	v := counters("attempts_total", "Calls sent to instances, each time counted, by what came of it.", "cluster", "result")
	return attempts{v, newCache(func(a attempt) prometheus.Counter {
		return v.WithLabelValues(label(a.cluster), nameOf(a.result))
	})}
}

// nameOf returns the value of the label for a result.
func nameOf(r cluster.Result) string {
	switch r {
	case cluster.Succeeded:
		return "success"
	case cluster.Failed:
		return "failure"
	default: // it was given up
		return "unknown"
	}
}

// BeginAttempt implements intercept.AttemptObserver.
func (m *Metrics) BeginAttempt(c *intercept.Call, a *intercept.Attempt) {
	if a.Number == 1 {
		m.calls.start(c)
		return
	}
	m.retries.WithLabelValues(label(a.Cluster)).Inc()
}

// EndAttempt implements intercept.AttemptObserver.
func (m *Metrics) EndAttempt(_ *intercept.Call, a *intercept.Attempt) {
	m.attempts.ended.get(attempt{a.Cluster, a.Result}).Inc()
}

// BeginConn implements intercept.ConnObserver.
func (m *Metrics) BeginConn(*intercept.Conn) {
	m.open.Inc()
	m.opened.Inc()
}

// EndConn implements intercept.ConnObserver.
func (m *Metrics) EndConn(*intercept.Conn) { m.open.Dec() }
