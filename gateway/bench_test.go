package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// BenchmarkUnary is a call by HTTP to a grpc-go backend: through a Gateway, and through
// a ServeMux with what protoc-gen-grpc-gateway makes of the same method.
func BenchmarkUnary(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	backend := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(backend, health.NewServer())
	go func() { _ = backend.Serve(ln) }() // ends with Stop
	b.Cleanup(backend.Stop)
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })

	g := New(Options{Conn: conn})
	require.NoError(b, g.Use([]protoreflect.ServiceDescriptor{grpc_health_v1.File_grpc_health_v1_health_proto.Services().Get(0)}))
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"gateway", g}, {"compiled", generated(b, conn)}} {
		b.Run(c.name, func(b *testing.B) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			client := server.Client()
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Post(server.URL+"/grpc.health.v1.Health/Check", "application/json", strings.NewReader(`{"service":""}`))
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(err, resp)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

func generated(b *testing.B, conn *grpc.ClientConn) http.Handler {
	mux, client := runtime.NewServeMux(), grpc_health_v1.NewHealthClient(conn)
	err := mux.HandlePath("POST", "/grpc.health.v1.Health/Check", func(w http.ResponseWriter, req *http.Request, _ map[string]string) {
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		inbound, outbound := runtime.MarshalerForRequest(mux, req)
		ctx, err := runtime.AnnotateContext(ctx, mux, req, "/grpc.health.v1.Health/Check", runtime.WithHTTPPathPattern("/grpc.health.v1.Health/Check"))
		if err != nil {
			runtime.HTTPError(ctx, mux, outbound, w, req, err)
			return
		}
		var m grpc_health_v1.HealthCheckRequest
		var metadata runtime.ServerMetadata
		if err := inbound.NewDecoder(req.Body).Decode(&m); err != nil && !errors.Is(err, io.EOF) {
			runtime.HTTPError(ctx, mux, outbound, w, req, err)
			return
		}
		reply, err := client.Check(ctx, &m, grpc.Header(&metadata.HeaderMD), grpc.Trailer(&metadata.TrailerMD))
		ctx = runtime.NewServerMetadataContext(ctx, metadata)
		if err != nil {
			runtime.HTTPError(ctx, mux, outbound, w, req, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, mux, outbound, w, req, reply, mux.GetForwardResponseOptions()...)
	})
	require.NoError(b, err)
	return mux
}
