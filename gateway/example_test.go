package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/gateway"
)

// A gRPC service as JSON, without code that was generated for it.
func ExampleGateway() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	backend := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(backend, health.NewServer())
	go func() { _ = backend.Serve(ln) }() // ends with Stop
	defer backend.Stop()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()

	g := gateway.New(gateway.Options{
		Conn:     conn,
		Marshal:  &protojson.MarshalOptions{UseProtoNames: true},
		Envelope: &gateway.Envelope{},
	})
	// Any descriptors will do: of package handler/schema, say, which has them from
	// sources, descriptor sets or a backend's reflection.
	services := grpc_health_v1.File_grpc_health_v1_health_proto.Services()
	if err := g.Use([]protoreflect.ServiceDescriptor{services.Get(0)}); err != nil {
		panic(err)
	}
	server := httptest.NewServer(g)
	defer server.Close()

	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost,
		server.URL+"/grpc.health.v1.Health/Check", strings.NewReader(`{"service":""}`))
	if err != nil {
		panic(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.StatusCode, string(body))
	// Output: 200 {"errno":0,"msg":"","data":{"status":"SERVING"}}
}
