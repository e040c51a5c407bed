package metrics

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

const (
	// other is the label of what is not counted by its name.
	other = "other"
	// maxName is how many bytes a method's name may have to be counted by it.
	maxName = 256
	// pathsPerMethod is in how many ways a method is counted at most, on average: by
	// routes and clusters, those of configurations that are no longer in use included.
	pathsPerMethod = 10
	// lastCode is the highest that gRPC defines.
	lastCode = stream.Unauthenticated
)

// path is what calls have in common that are counted together.
type path struct{ method, route, cluster string }

// calls counts calls by their paths.
type calls struct {
	maxMethods int

	started, finished, messages, bytes *prometheus.CounterVec
	durations                          *prometheus.HistogramVec

	mu    sync.RWMutex
	known map[string]bool // methods that are counted by their names
	paths map[path]*pathCounters
	last  atomic.Pointer[pathCounters] // what was looked for last, as many calls in a row may have
}

// pathCounters are the figures of a path.
type pathCounters struct {
	path                            path
	started                         prometheus.Counter
	finished                        [lastCode + 2]atomic.Pointer[prometheus.Counter] // by codes; the last is all others'
	duration                        prometheus.Observer
	requestMessages, requestBytes   prometheus.Counter
	responseMessages, responseBytes prometheus.Counter
}

func newCalls(methods int, buckets []float64) *calls {
	labels := []string{"method", "route", "cluster"}
	with := func(more string) []string { return append(labels[:len(labels):len(labels)], more) }
	histogram := prometheus.HistogramOpts{
		Namespace: namespace, Name: "call_duration_seconds", Buckets: buckets,
		Help: "Time from the head of a request to the end of the call.",
	}
	prometheus.NewHistogram(histogram) // which panics if the buckets do not rise
	return &calls{
		maxMethods: methods,
		started:    counters("calls_started_total", "Calls sent to a backend, or ended without one.", labels...),
		finished:   counters("calls_finished_total", "Calls that have ended, by their gRPC status code.", with("code")...),
		messages:   counters("messages_total", "Messages of calls that have ended.", with("direction")...),
		bytes:      counters("message_bytes_total", "Bytes of those messages, as they cross the wire.", with("direction")...),
		durations:  prometheus.NewHistogramVec(histogram, labels),
		known:      make(map[string]bool),
		paths:      make(map[path]*pathCounters),
	}
}

// uncounted is the key of a Call's Value that is there if it has been started with a
// method that nobody knew: it is counted as started when it ends, and it is clear what
// as, so that as many calls of each path are started as are finished.
type uncounted struct{}

// start counts a call that is sent to a backend for the first time.
func (s *calls) start(c *intercept.Call) {
	if counters := s.find(pathOf(c)); counters != nil {
		counters.started.Inc()
		return
	}
	c.SetValue(uncounted{}, true)
}

// end counts a call that has ended.
func (s *calls) end(c *intercept.Call) {
	o := c.Outcome()
	counters := s.findOrAdd(c, &o)
	if c.Attempts() == 0 || c.Value(uncounted{}) != nil {
		counters.started.Inc()
	}
	s.finishedWith(counters, o.Status.Code).Inc()
	counters.duration.Observe(o.Took.Seconds())
	received, sent := c.Received(), c.Sent()
	counters.requestMessages.Add(float64(received.Messages))
	counters.requestBytes.Add(float64(received.Bytes))
	counters.responseMessages.Add(float64(sent.Messages))
	counters.responseBytes.Add(float64(sent.Bytes))
}

// finishedWith returns the counter of calls that end with code. Most paths never have
// most codes, so that counters are added as codes come.
func (s *calls) finishedWith(counters *pathCounters, code stream.Code) prometheus.Counter {
	name := other
	if code <= lastCode {
		name = code.String()
	}
	kept := &counters.finished[min(code, lastCode+1)]
	if c := kept.Load(); c != nil {
		return *c
	}
	c := s.finished.WithLabelValues(append(counters.path.labels(), name)...)
	kept.Store(&c)
	return c
}

func pathOf(c *intercept.Call) path {
	known := c.Known()
	return path{c.Method(), known.Route, known.Cluster}
}

// find returns the counters of a path, nil if nobody knows its method.
func (s *calls) find(p path) *pathCounters {
	if c := s.last.Load(); c != nil && c.path == p {
		return c
	}
	s.mu.RLock()
	counters := s.paths[p]
	known := counters != nil || s.known[p.method]
	s.mu.RUnlock()
	if counters == nil && known {
		counters = s.add(p)
	}
	if counters != nil {
		s.last.Store(counters)
	}
	return counters
}

// findOrAdd returns the counters of a call that has ended, those of other methods if
// nobody knows its own.
func (s *calls) findOrAdd(c *intercept.Call, o *intercept.Outcome) *pathCounters {
	p := pathOf(c)
	if counters := s.find(p); counters != nil {
		return counters
	}
	if !exists(c, o) || !s.learn(p.method) {
		p.method = other
	}
	return s.add(p)
}

// exists reports whether a call that a route has led to a backend shows that there is a
// method of its name: the backend has answered with a message, which a stream may have
// that its client gives up, or with a status of its own that has to do with the method. A
// function that has a route is one of the configuration.
func exists(c *intercept.Call, o *intercept.Outcome) bool {
	if c.Mode() == intercept.ModeHTTP {
		return true
	}
	if c.Route() == "" || c.Attempts() == 0 {
		return false
	}
	return c.Sent().Messages > 0 || o.Reason == "" && isOfMethod(o.Status.Code)
}

// isOfMethod reports whether a backend that ends a call with code has looked for its
// method and found it. Servers end calls with the codes left out for methods that clients
// make up, too, and often before they look: not known, not permitted, too many, too late.
func isOfMethod(code stream.Code) bool {
	switch code {
	case stream.Unimplemented, stream.Unauthenticated, stream.PermissionDenied, stream.ResourceExhausted,
		stream.Unavailable, stream.Canceled, stream.DeadlineExceeded:
		return false
	default:
		return true
	}
}

// learn has a method be counted by its name, and reports whether there is room.
func (s *calls) learn(method string) bool {
	if len(method) > maxName || !utf8.ValidString(method) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= s.maxMethods && !s.known[method] {
		return false
	}
	s.known[strings.Clone(method)] = true // which is not to keep the request's memory alive
	return true
}

// add returns the counters of a path that may not have any yet. When there are too many
// paths, new ones are counted together.
func (s *calls) add(p path) *pathCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paths[p] == nil && len(s.paths) >= s.maxMethods*pathsPerMethod {
		p = path{other, other, other}
	}
	counters := s.paths[p]
	if counters == nil {
		p.method = strings.Clone(p.method)
		counters = s.newCounters(p)
		s.paths[p] = counters
	}
	return counters
}

func (s *calls) newCounters(p path) *pathCounters {
	labels := p.labels()
	request, response := append(p.labels(), "request"), append(p.labels(), "response")
	return &pathCounters{
		path:             p,
		started:          s.started.WithLabelValues(labels...),
		duration:         s.durations.WithLabelValues(labels...),
		requestMessages:  s.messages.WithLabelValues(request...),
		requestBytes:     s.bytes.WithLabelValues(request...),
		responseMessages: s.messages.WithLabelValues(response...),
		responseBytes:    s.bytes.WithLabelValues(response...),
	}
}

func (p *path) labels() []string { return []string{p.method, label(p.route), label(p.cluster)} }

// Describe implements prometheus.Collector.
func (s *calls) Describe(out chan<- *prometheus.Desc) {
	s.started.Describe(out)
	s.finished.Describe(out)
	s.messages.Describe(out)
	s.bytes.Describe(out)
	s.durations.Describe(out)
}

// Collect implements prometheus.Collector.
func (s *calls) Collect(out chan<- prometheus.Metric) {
	s.started.Collect(out)
	s.finished.Collect(out)
	s.messages.Collect(out)
	s.bytes.Collect(out)
	s.durations.Collect(out)
}
