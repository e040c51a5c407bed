package proxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/accesslog"
	"github.com/kitexproxy/kitexproxy/handler/grpcstats"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/metrics"
	"github.com/kitexproxy/kitexproxy/handler/tracing"
)

// WithObservers adds observers of all calls.
func WithObservers(observers ...intercept.Observer) Option {
	return func(o *options) { o.observers = append(o.observers, observers...) }
}

// WithStatsHandlers adds handlers as grpc-go's servers have them, which are told of all
// calls. The contexts that they return are what interceptors, directors and filters see.
func WithStatsHandlers(handlers ...stats.Handler) Option {
	return func(o *options) { o.stats = append(o.stats, handlers...) }
}

// reports are what tells of calls by the configuration. Any may be nil.
type reports struct {
	tracing *tracing.Tracing
	metrics *metrics.Metrics
	log     *accesslog.Log
}

// newReports makes what a valid configuration has, but for what open begins.
func newReports(cfg *conf.Config, o *options, clusters func() []ClusterFigures) *reports {
	r := new(reports)
	if cfg.Admin == nil {
		return r
	}
	figures := metrics.Options{
		Methods: cfg.Metrics.Methods, Buckets: cfg.Metrics.Buckets, Version: o.version, Logger: o.logger,
		Clusters: func() []metrics.ClusterSnapshot { return snapshots(clusters()) },
	}
	if cfg.AccessLog != nil {
		figures.AccessLogDropped = func() int64 { return r.log.Dropped() }
	}
	r.metrics = metrics.New(figures)
	return r
}

// open opens the access log and begins with traces. close ends it, also after an error.
func (r *reports) open(cfg *conf.Config, log *slog.Logger) error {
	var traceErr, logErr error
	if cfg.Tracing != nil {
		r.tracing, traceErr = tracing.New(context.Background(), tracingOf(cfg.Tracing, log))
		traceErr = at("tracing", traceErr)
	}
	if cfg.AccessLog != nil {
		r.log, logErr = accesslog.New(accessLogOf(cfg.AccessLog, log))
		logErr = at("access_log", logErr)
	}
	return errors.Join(traceErr, logErr)
}

// observers are those who tell, and those of the program between: the first is told
// first, and of the end last.
func (r *reports) observers(o *options) []intercept.Observer {
	var all []intercept.Observer
	if r.tracing != nil {
		all = append(all, r.tracing)
	}
	for _, h := range o.stats {
		all = append(all, grpcstats.New(h, o.logger))
	}
	all = append(all, o.observers...)
	if r.metrics != nil {
		all = append(all, r.metrics)
	}
	if r.log != nil {
		all = append(all, r.log)
	}
	return all
}

// flushTimeout is how long what has been told of calls may take to get out when the
// proxy stops, if there is as much time.
const flushTimeout = 5 * time.Second

// flushEnd returns until when that may go on, of a proxy that should have stopped by end;
// the zero time is none.
func flushEnd(now, end time.Time) time.Time {
	last := now.Add(flushTimeout)
	if end.IsZero() || end.After(last) {
		return last
	}
	if least := now.Add(flushTime); end.Before(least) {
		return least
	}
	return end
}

// close has everything written that has been told, until end if that is possible; see
// flushEnd.
func (r *reports) close(end time.Time, log *slog.Logger) {
	ctx, cancel := context.WithDeadline(context.Background(), flushEnd(time.Now(), end))
	defer cancel()
	if r.log != nil {
		if err := r.log.Close(ctx); err != nil {
			log.Warn("the access log is not complete", "error", err)
		}
	}
	if r.tracing != nil {
		if err := r.tracing.Close(ctx); err != nil {
			log.Warn("traces are not complete", "error", err)
		}
	}
}

// reopen begins the access log's file anew, for those who rotate it.
func (r *reports) reopen(log *slog.Logger) {
	if r.log == nil {
		return
	}
	if err := r.log.Reopen(); err != nil {
		log.Warn("the access log stays in the file it has", "error", err)
	}
}

func accessLogOf(c *conf.AccessLog, log *slog.Logger) accesslog.Options {
	return accesslog.Options{
		Output: c.Output, Format: c.Format, SamplePercent: c.SamplePercent, Errors: c.Errors, Metadata: c.Metadata,
		Redact: append([]string{}, c.Redact...), Buffer: c.Buffer, Logger: log,
	}
}

func tracingOf(c *conf.Tracing, log *slog.Logger) tracing.Options {
	o := tracing.Options{
		Endpoint: c.OTLP.Endpoint, Protocol: tracing.Protocol(c.OTLP.Protocol), Headers: make(map[string]string),
		CAFile: c.OTLP.CA, Timeout: time.Duration(c.OTLP.Timeout), SamplePercent: c.SamplePercent,
		ServiceName: c.ServiceName, Attributes: c.Attributes, Queue: c.Queue, Logger: log,
	}
	for key, value := range c.OTLP.Headers {
		o.Headers[key] = string(value)
	}
	for _, format := range c.Propagate {
		o.Propagate = append(o.Propagate, tracing.Format(format))
	}
	return o
}

// snapshots returns figures of clusters as metrics have them.
func snapshots(clusters []ClusterFigures) []metrics.ClusterSnapshot {
	var all []metrics.ClusterSnapshot
	for _, c := range clusters {
		of := make(map[string]*metrics.ClusterSnapshot)
		one := func(instance string) *metrics.ClusterSnapshot {
			if of[instance] == nil {
				of[instance] = &metrics.ClusterSnapshot{Cluster: c.Name, Instance: instance, Healthy: true}
			}
			return of[instance]
		}
		for _, in := range c.Instances {
			s := one(in.Address)
			s.Active, s.Healthy, s.Ejected, s.Ejections = in.Active, in.Healthy, in.Ejected, in.Ejections
		}
		for _, in := range c.Connections {
			s := one(in.Address)
			s.Connections, s.Streams, s.Dials, s.DialFailures = in.Connections, in.Streams, in.Dials, in.Failures
		}
		for _, instance := range slices.Sorted(maps.Keys(of)) {
			all = append(all, *of[instance])
		}
	}
	return all
}
