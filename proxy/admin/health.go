package admin

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health is grpc.health.v1 (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
type health struct {
	*grpchealth.Server
	ready    func() error
	services func() map[string]error
	logger   *slog.Logger

	over    context.Context // ends with Serve
	endOver context.CancelFunc

	mu    sync.Mutex // so that no older answer overtakes a newer one
	known map[string]bool
}

func newHealth(ready func() error, services func() map[string]error, logger *slog.Logger) *health {
	h := &health{
		Server: grpchealth.NewServer(), ready: ready, services: services, logger: logger, known: make(map[string]bool),
	}
	h.over, h.endOver = context.WithCancel(context.Background())
	return h
}

// server returns a gRPC server that has the service and no other.
func (h *health) server() *grpc.Server {
	s := grpc.NewServer(
		grpc.UnaryInterceptor(h.upToDate), grpc.StreamInterceptor(h.upToDateStream), grpc.MaxRecvMsgSize(4<<10),
	)
	healthpb.RegisterHealthServer(s, h)
	return s
}

// upToDate has questions be answered by how it is now, not by how it was a moment ago.
func (h *health) upToDate(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	h.refresh()
	return next(ctx, req)
}

func (h *health) upToDateStream(
	srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler,
) error {
	h.refresh()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.over, cancel)()
	err := next(srv, &ending{stream, ctx})
	if h.over.Err() != nil {
		return errOver
	}
	return err
}

// errOver tells those who watch to look elsewhere.
var errOver = status.Error(codes.Unavailable, "the proxy is shutting down")

// ending is a stream that ends with the server, and not only with its client.
type ending struct {
	grpc.ServerStream
	ctx context.Context
}

func (e *ending) Context() context.Context { return e.ctx }

// end has all that watch be told that nothing is served any more, and end.
func (h *health) end() {
	h.Shutdown()
	h.endOver()
}

// follow keeps those who watch up to date until ctx ends.
func (h *health) follow(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		h.refresh()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// refresh asks how everything is. A proxy that is not ready has no service that is.
func (h *health) refresh() {
	h.mu.Lock()
	defer h.mu.Unlock()
	whole := h.ready()
	h.SetServingStatus("", statusOf(whole == nil))
	services, err := h.ask()
	if err != nil {
		h.logger.Error("the health of services is not known", "error", err)
		return // what was known of them stays
	}
	for name := range h.known {
		if _, ok := services[name]; !ok {
			h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
		}
	}
	for name, err := range services {
		h.known[name] = true
		h.SetServingStatus(name, statusOf(whole == nil && err == nil))
	}
}

// ask returns how the services are.
func (h *health) ask() (services map[string]error, err error) {
	defer recovered(&err)
	return h.services(), nil
}

func statusOf(serving bool) healthpb.HealthCheckResponse_ServingStatus {
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
