package tracing

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// receiver takes spans over OTLP.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	mu       sync.Mutex
	spans    []*tracepb.Span
	resource map[string]any
	token    []string // of the header "x-token"
	path     string   // of HTTP
}

func (r *receiver) take(req *collector.ExportTraceServiceRequest, token []string, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token, r.path = token, path
	for _, rs := range req.GetResourceSpans() {
		r.resource = valuesOf(rs.GetResource().GetAttributes())
		for _, ss := range rs.GetScopeSpans() {
			r.spans = append(r.spans, ss.GetSpans()...)
		}
	}
}

// Export implements collector.TraceServiceServer.
func (r *receiver) Export(
	ctx context.Context, req *collector.ExportTraceServiceRequest,
) (*collector.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.take(req, md["x-token"], "")
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	body, err := io.ReadAll(hr.Body)
	req := &collector.ExportTraceServiceRequest{}
	if err != nil || proto.Unmarshal(body, req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.take(req, hr.Header["X-Token"], hr.URL.Path)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// overGRPC starts r, and returns the options of those who send to it.
func (r *receiver) overGRPC(t testing.TB) Options {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, r)
	go func() { _ = srv.Serve(ln) }() // ends with Stop
	t.Cleanup(srv.Stop)
	return optionsFor("http://"+ln.Addr().String(), GRPC)
}

func (r *receiver) overHTTP(t testing.TB) Options {
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return optionsFor(srv.URL, HTTP)
}

func (r *receiver) overHTTPS(t testing.TB) Options {
	srv := httptest.NewTLSServer(r)
	t.Cleanup(srv.Close)
	o := optionsFor(srv.URL+"/otlp/traces", HTTP)
	o.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	require.NoError(t, os.WriteFile(o.CAFile, cert, 0o600))
	return o
}

func optionsFor(endpoint string, p Protocol) Options {
	return Options{
		Endpoint: endpoint, Protocol: p, Headers: map[string]string{"X-Token": "secret"}, Timeout: 5 * time.Second,
		SamplePercent: 100, Propagate: []Format{TraceContext}, ServiceName: "edge", Attributes: map[string]string{"zone": "a"},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// all returns the spans by kind and name, once tr is closed.
func (r *receiver) all(t *testing.T, tr *Tracing) []*tracepb.Span {
	t.Helper()
	closeNow(t, tr)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spans
}

func closeNow(t testing.TB, tr *Tracing) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	assert.NoError(t, tr.Close(ctx))
}

// ofKind returns the spans of a kind.
func ofKind(spans []*tracepb.Span, kind tracepb.Span_SpanKind) []*tracepb.Span {
	var found []*tracepb.Span
	for _, s := range spans {
		if s.GetKind() == kind {
			found = append(found, s)
		}
	}
	return found
}

func valuesOf(kvs []*commonpb.KeyValue) map[string]any {
	values := make(map[string]any)
	for _, kv := range kvs {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			values[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			values[kv.GetKey()] = v.IntValue
		}
	}
	return values
}

func hexOf(id []byte) string { return hex.EncodeToString(id) }
