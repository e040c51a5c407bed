package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestCall(t *testing.T) {
	m := New(Options{})
	c := begin(m, "/shop.Orders/Get")
	c.Routed("orders", "shop", "frame")
	try(c, cluster.Failed)
	try(c, cluster.Succeeded)
	c.Crossed(filter.Request, 1, 12)
	c.Crossed(filter.Response, 2, 34)
	require.EqualValues(t, 1, figuresOf(t, m)["calls_in_flight{listener=127.0.0.1:8888}"])
	c.End(ended(stream.Code(5)))

	figures, path := figuresOf(t, m), "method=/shop.Orders/Get,route=orders}"
	for name, want := range map[string]float64{
		"calls_in_flight{listener=127.0.0.1:8888}":                    0,
		"calls_started_total{cluster=shop," + path:                    1,
		"calls_finished_total{cluster=shop,code=NOT_FOUND," + path:    1,
		"call_duration_seconds{cluster=shop," + path:                  1,
		"messages_total{cluster=shop,direction=request," + path:       1,
		"messages_total{cluster=shop,direction=response," + path:      2,
		"message_bytes_total{cluster=shop,direction=request," + path:  12,
		"message_bytes_total{cluster=shop,direction=response," + path: 34,
		"attempts_total{cluster=shop,result=failure}":                 1,
		"attempts_total{cluster=shop,result=success}":                 1,
		"retries_total{cluster=shop}":                                 1,
	} {
		got, ok := figures[name]
		require.True(t, ok, "%s is not in %v", name, figures)
		require.EqualValues(t, want, got, name)
	}
}

// TestDurations: a call is in the bucket that it belongs to.
func TestDurations(t *testing.T) {
	m := New(Options{Buckets: []float64{0.001, 3600}})
	c := begin(m, "/a.B/C")
	time.Sleep(2 * time.Millisecond) // which is more than a bucket, and the machine may take longer
	c.End(ended(stream.OK))
	text := scrape(t, m)
	require.Contains(t, text, `kitexproxy_call_duration_seconds_bucket{cluster="",method="other",route="",le="0.001"} 0`)
	require.Contains(t, text, `kitexproxy_call_duration_seconds_bucket{cluster="",method="other",route="",le="3600"} 1`)
}

func TestBucketsThatDoNotRise(t *testing.T) {
	require.Panics(t, func() { New(Options{Buckets: []float64{2, 1}}) })
}

// TestMethodsThatClientsMakeUp are not counted by their names: only those are that a
// backend has shown to be there.
func TestMethodsThatClientsMakeUp(t *testing.T) {
	const method = "/shop.Orders/Get"
	for name, test := range map[string]struct {
		known bool
		call  func(c *intercept.Call)
	}{
		"answered by a backend": {true, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Succeeded)
			c.End(ended(stream.Internal))
		}},
		"unknown to the backend": {false, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Succeeded)
			c.End(ended(stream.Unimplemented))
		}},
		"refused by the backend before it looks for the method": {false, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Succeeded)
			c.End(ended(stream.PermissionDenied))
		}},
		"given up, and ended by the backend for that": {false, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Unknown)
			c.End(ended(stream.Canceled))
		}},
		"a stream that its client has given up": {true, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Unknown)
			c.Crossed(filter.Response, 1, 10)
			c.End(stream.CanceledByClient.Trailer())
		}},
		"answered by the proxy": {false, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			try(c, cluster.Failed)
			c.End((&stream.Failure{Reason: stream.BackendUnreachable, Code: stream.Unavailable}).Trailer())
		}},
		"answered by an interceptor": {false, func(c *intercept.Call) {
			c.Routed("orders", "shop", "frame")
			c.End(ended(stream.OK))
		}},
		"without a route": {false, func(c *intercept.Call) {
			try(c, cluster.Succeeded)
			c.End(ended(stream.OK))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{})
			test.call(begin(m, method))
			want := "method=other,"
			if test.known {
				want = "method=" + method + ","
			}
			n := 0
			for labels, value := range figuresOf(t, m) {
				if strings.HasPrefix(labels, "calls_started_total{") || strings.HasPrefix(labels, "calls_finished_total{") {
					require.Contains(t, labels, want)
					require.EqualValues(t, 1, value)
					n++
				}
			}
			require.Equal(t, 2, n, "as many are started as are finished")
		})
	}
}

// TestKnownMethodsStayKnown, however a call of theirs ends, and are counted as they start.
func TestKnownMethodsStayKnown(t *testing.T) {
	m := New(Options{})
	carry(m, "/shop.Orders/Get", stream.OK)
	carry(m, "/shop.Orders/Get", stream.Unimplemented)
	c := begin(m, "/shop.Orders/Get")
	c.Routed("orders", "shop", "frame")
	c.BeginAttempt("shop", "10.0.0.1:9000")
	figures := figuresOf(t, m)
	require.EqualValues(t, 3, figures["calls_started_total{cluster=shop,method=/shop.Orders/Get,route=orders}"])
	require.EqualValues(t, 2, total(figures, "calls_finished_total"))
	require.EqualValues(t, 3, total(figures, "calls_started_total"))
	c.End(ended(stream.OK))
}

// TestFiguresAreBounded, whatever clients and backends send.
func TestFiguresAreBounded(t *testing.T) {
	m := New(Options{Methods: 3})
	for n := range 100 {
		carry(m, fmt.Sprint("/a.B/C", n), stream.Code(n))
		carry(m, "/a.B/"+strings.Repeat("x", maxName+n), stream.OK)
		carry(m, "/a.B/\xff"+string(rune(n)), stream.OK)
	}
	methods, codes := map[string]bool{}, map[string]bool{}
	for labels := range figuresOf(t, m) {
		for _, l := range strings.Split(strings.Trim(labels[strings.Index(labels, "{"):], "{}"), ",") {
			switch name, value, _ := strings.Cut(l, "="); name {
			case "method":
				methods[value] = true
			case "code":
				codes[value] = true
			}
		}
	}
	require.Equal(t, map[string]bool{"/a.B/C0": true, "/a.B/C2": true, "/a.B/C3": true, other: true}, methods, "CANCELLED shows none")
	require.Len(t, codes, 18, "those of gRPC, and other")
	require.Contains(t, codes, other)
	require.EqualValues(t, 300, total(figuresOf(t, m), "calls_finished_total"))
}

// TestPathsAreBounded: configurations that come and go with ever new routes do not have
// memory grow.
func TestPathsAreBounded(t *testing.T) {
	m := New(Options{Methods: 2})
	for n := range 100 {
		c := begin(m, "/a.B/C")
		c.Routed(fmt.Sprint("route \xff", n), "shop", "frame")
		try(c, cluster.Succeeded)
		c.End(ended(stream.OK))
	}
	figures := figuresOf(t, m)
	together := figures["calls_finished_total{cluster=other,code=OK,method=other,route=other}"]
	require.EqualValues(t, 100-2*pathsPerMethod, together)
	require.EqualValues(t, 100, total(figures, "calls_started_total"))
	require.EqualValues(t, 100, total(figures, "calls_finished_total"))
}

// TestManyCallsAtOnce: nothing is lost, and nothing is left in flight, while the figures
// are read.
func TestManyCallsAtOnce(t *testing.T) {
	const callers, calls = 8, 200
	m := New(Options{Methods: 4})
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for call := range calls {
				carry(m, fmt.Sprint("/a.B/C", caller), stream.Code(call%20))
			}
			figuresOf(t, m)
		})
	}
	running.Wait()
	figures := figuresOf(t, m)
	for name, want := range map[string]float64{
		"calls_in_flight": 0, "calls_started_total": callers * calls, "calls_finished_total": callers * calls,
		"call_duration_seconds": callers * calls, "attempts_total": callers * calls, "retries_total": 0,
	} {
		require.EqualValues(t, want, total(figures, name), name)
	}
}

func TestConnections(t *testing.T) {
	m := New(Options{})
	o := intercept.NewObservers(m)
	one := o.BeginConn(&intercept.Conn{})
	o.BeginConn(&intercept.Conn{})
	o.EndConn(one)
	require.EqualValues(t, 1, figuresOf(t, m)["client_connections{}"])
	require.EqualValues(t, 2, figuresOf(t, m)["client_connections_opened_total{}"])
}

func TestReloads(t *testing.T) {
	m := New(Options{})
	require.Contains(t, figuresOf(t, m), "reloads_total{result=failure}", "0 to begin with")
	m.Reloaded(nil)
	m.Reloaded(errors.New("not valid"))
	figures := figuresOf(t, m)
	require.EqualValues(t, 1, figures["reloads_total{result=success}"])
	require.EqualValues(t, 1, figures["reloads_total{result=failure}"])
	require.EqualValues(t, 1, figures["reload_failed{}"])
	require.NotZero(t, figures["reload_last_success_timestamp_seconds{}"])
	m.Reloaded(nil)
	require.Zero(t, figuresOf(t, m)["reload_failed{}"])
}

func TestInstances(t *testing.T) {
	first := ClusterSnapshot{
		Cluster: "shop", Instance: "10.0.0.1:9000", Connections: 2, Streams: 3, Active: 4, Healthy: true, Ejections: 5,
		Dials: 6, DialFailures: 7,
	}
	now := []ClusterSnapshot{first, {Cluster: "shop", Instance: "\xff", Ejected: true}, first}
	m := New(Options{Clusters: func() []ClusterSnapshot { return now }})
	_, err := m.Registry().Gather()
	require.NoError(t, err, "not even of one that is told of twice")
	figures := figuresOf(t, m)
	for name, want := range map[string]float64{
		"connections": 2, "streams": 3, "active_calls": 4, "healthy": 1, "ejected": 0, "ejections_total": 5,
		"dials_total": 6, "dial_failures_total": 7,
	} {
		require.EqualValues(t, want, figures["instance_"+name+"{cluster=shop,instance=10.0.0.1:9000}"], name)
	}
	require.EqualValues(t, 1, figures["instance_ejected{cluster=shop,instance=\uFFFD}"])

	now = nil
	require.Zero(t, total(figuresOf(t, m), "instance_connections"), "it is gone")
}

func TestAccessLogAndBuild(t *testing.T) {
	m := New(Options{Version: "v1.2.3", AccessLogDropped: func() int64 { return 7 }})
	require.EqualValues(t, 7, figuresOf(t, m)["access_log_dropped_lines_total{}"])
	text := scrape(t, m)
	require.Contains(t, text, `version="v1.2.3"`)
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_start_time_seconds ")
}

// TestNamesAreAsPrometheusRecommends, by its own linter.
func TestNamesAreAsPrometheusRecommends(t *testing.T) {
	m := New(Options{
		Clusters:         func() []ClusterSnapshot { return []ClusterSnapshot{{Cluster: "shop", Instance: "10.0.0.1:9000"}} },
		AccessLogDropped: func() int64 { return 0 },
	})
	carry(m, "/a.B/C", stream.OK)
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestOtherFiguresSurviveOneThatCannotBeRead, which is logged.
func TestClientsOfFiguresThatGoAreNoErrors(t *testing.T) {
	var logged bytes.Buffer
	m := New(Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	w := &gone{ResponseRecorder: httptest.NewRecorder()}
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Positive(t, w.writes)
	require.Empty(t, logged.String())
}

// gone is the response to a client that has gone away.
type gone struct {
	*httptest.ResponseRecorder
	writes int
}

func (g *gone) Write([]byte) (int, error) {
	g.writes++
	return 0, syscall.EPIPE
}

func TestOtherFiguresSurviveOneThatCannotBeRead(t *testing.T) {
	var logged bytes.Buffer
	m := New(Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	broken := prometheus.NewDesc("broken", "Always fails.", nil, nil)
	m.Registry().MustRegister(failing{broken})
	require.Contains(t, figuresOf(t, m), "client_connections{}")
	require.Contains(t, logged.String(), "out of order")
}

// failing is a collector of a program that has figures of its own.
type failing struct{ desc *prometheus.Desc }

func (f failing) Describe(out chan<- *prometheus.Desc) { out <- f.desc }

func (f failing) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(f.desc, errors.New("out of order"))
}

// BenchmarkCall measures what a call costs beyond what it does without observers.
func BenchmarkCall(b *testing.B) {
	m := New(Options{})
	carry(m, "/shop.Orders/Get", stream.OK)
	c := begin(m, "/shop.Orders/Get")
	c.Routed("orders", "shop", "frame")
	a := c.BeginAttempt("shop", "10.0.0.1:9000")
	a.End(cluster.Succeeded)
	c.End(ended(stream.OK))
	b.ReportAllocs()
	for b.Loop() {
		m.Begin(c)
		m.BeginAttempt(c, a)
		m.EndAttempt(c, a)
		m.End(c)
	}
}
