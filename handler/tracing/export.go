package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
)

// exporter delivers spans, and keeps what goes wrong from OpenTelemetry's handler of
// errors, which is one for the whole process.
type exporter struct {
	sdktrace.SpanExporter
	losses  *losses
	waiting atomic.Int64       // spans that have ended, and have not been delivered or lost
	ctx     context.Context    // of all deliveries
	cancel  context.CancelFunc // ends them
	release func()             // lets go of connections
}

func newExporter(ctx context.Context, o *Options, l *losses) (*exporter, error) {
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	e := &exporter{losses: l, release: func() {}}
	if o.Protocol == HTTP {
		client := httpClient(o, roots)
		e.release = client.CloseIdleConnections
		e.SpanExporter, err = overHTTP(ctx, o, client)
	} else {
		e.SpanExporter, err = overGRPC(ctx, o, roots)
	}
	if err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

func overGRPC(ctx context.Context, o *Options, roots *x509.CertPool) (*otlptrace.Exporter, error) {
	opts := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpointURL(o.Endpoint),
		otlptracegrpc.WithHeaders(lowerKeys(o.Headers)),
		otlptracegrpc.WithTimeout(o.Timeout),
	}
	if strings.HasPrefix(o.Endpoint, "https:") {
		opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(tlsWith(roots))))
	}
	return otlptracegrpc.New(ctx, opts...)
}

func overHTTP(ctx context.Context, o *Options, client *http.Client) (*otlptrace.Exporter, error) {
	opts := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(o.Endpoint),
		otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithHTTPClient(client),
	}
	if u, err := url.Parse(o.Endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		opts = append(opts, otlptracehttp.WithURLPath(httpPath))
	}
	return otlptracehttp.New(ctx, opts...)
}

// httpClient returns a client of its own: the exporter's keeps its connections when it
// is done.
func httpClient(o *Options, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   tlsWith(roots),
			ForceAttemptHTTP2: true,
			IdleConnTimeout:   idleReceiver,
		},
	}
}

// idleReceiver is how long a connection to a receiver is kept that nothing is sent on.
const idleReceiver = 90 * time.Second

func tlsWith(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// lowerKeys returns headers as metadata, which has keys in lower case.
func lowerKeys(headers map[string]string) map[string]string {
	lower := make(map[string]string, len(headers))
	for key, value := range headers {
		lower[strings.ToLower(key)] = value
	}
	return lower
}

// ExportSpans implements sdktrace.SpanExporter. It reports no error: what is lost is
// counted, and logged.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(e.ctx, cancel)
	defer stop()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.losses.add(len(spans), err.Error())
	}
	e.waiting.Add(-int64(len(spans)))
	return nil
}

// queue has spans wait for their delivery. OpenTelemetry's own queue is behind it, which
// has as much room and does not say when it drops.
type queue struct {
	sdktrace.SpanProcessor
	exporter *exporter
	limit    int64
	losses   *losses
}

func newQueue(e *exporter, o *Options, l *losses) *queue {
	batches := sdktrace.NewBatchSpanProcessor(e,
		sdktrace.WithMaxQueueSize(o.Queue), sdktrace.WithMaxExportBatchSize(min(o.Queue, sdktrace.DefaultMaxExportBatchSize)),
		sdktrace.WithExportTimeout(o.Timeout), sdktrace.WithBatchTimeout(batchDelay))
	return &queue{SpanProcessor: batches, exporter: e, limit: int64(o.Queue), losses: l}
}

// batchDelay is how long a span waits at most for others to be delivered with.
const batchDelay = time.Second

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.exporter.waiting.Add(1) > q.limit {
		q.exporter.waiting.Add(-1)
		q.losses.add(1, "too many spans wait to be delivered")
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// losses counts the spans that are lost, and logs that once in a while.
type losses struct {
	log   *slog.Logger
	total atomic.Int64

	mu     sync.Mutex
	logged time.Time
	since  int // that have been lost since
}

// logEvery is how often losses are logged at most.
const logEvery = time.Minute

func (l *losses) add(n int, why string) {
	l.total.Add(int64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since += n
	if !l.logged.IsZero() && time.Since(l.logged) < logEvery {
		return
	}
	l.log.Warn("spans are lost", "spans", l.since, "total", l.total.Load(), "error", why)
	l.logged, l.since = time.Now(), 0
}
