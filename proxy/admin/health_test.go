package admin

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

func (s *served) health(t *testing.T) (context.Context, healthpb.HealthClient) {
	t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), safety)
	t.Cleanup(cancel)
	return ctx, healthpb.NewHealthClient(conn)
}

type servingStatus = healthpb.HealthCheckResponse_ServingStatus

func check(t *testing.T, ctx context.Context, client healthpb.HealthClient, service string) servingStatus {
	t.Helper()
	reply, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	require.NoError(t, err)
	return reply.GetStatus()
}

func TestHealthOfServices(t *testing.T) {
	ready, orders := new(readiness), new(readiness)
	s := serve(t, Options{Ready: ready.Ready, Refresh: never, Health: func() map[string]error {
		return map[string]error{"orders.v1.Orders": orders.Ready(), "users.v1.Users": nil}
	}})
	ctx, client := s.health(t)
	assert.Equal(t, serving, check(t, ctx, client, ""))
	assert.Equal(t, serving, check(t, ctx, client, "orders.v1.Orders"))
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	assert.Equal(t, codes.NotFound, status.Code(err))

	orders.set(errors.New("no instance is healthy"))
	assert.Equal(t, notServing, check(t, ctx, client, "orders.v1.Orders"))
	assert.Equal(t, serving, check(t, ctx, client, "users.v1.Users"))
	assert.Equal(t, serving, check(t, ctx, client, ""))

	ready.set(errNoSchema)
	all, err := client.List(ctx, &healthpb.HealthListRequest{})
	require.NoError(t, err)
	assert.Len(t, all.GetStatuses(), 3)
	for name, reply := range all.GetStatuses() {
		assert.Equal(t, notServing, reply.GetStatus(), name)
	}
}

func TestWatch(t *testing.T) {
	ready := new(readiness)
	s := serve(t, Options{Ready: ready.Ready, Refresh: never})
	ctx, client := s.health(t)
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	next := func() servingStatus {
		t.Helper()
		reply, err := watch.Recv()
		require.NoError(t, err)
		return reply.GetStatus()
	}
	assert.Equal(t, serving, next())
	ready.set(errNoSchema)
	assert.Equal(t, notServing, check(t, ctx, client, ""))
	assert.Equal(t, notServing, next())
	ready.set(nil)
	assert.Equal(t, serving, check(t, ctx, client, ""))
	assert.Equal(t, serving, next())
	s.Drain()
	assert.Equal(t, notServing, next())
	require.NoError(t, s.stop())
	_, err = watch.Recv()
	assert.EqualError(t, err, errOver.Error())
}

// TestWatchersAreToldWithoutAsking: nobody calls Check here.
func TestWatchersAreToldWithoutAsking(t *testing.T) {
	ready := new(readiness)
	ready.set(errNoSchema)
	s := serve(t, Options{Ready: ready.Ready, Refresh: time.Millisecond})
	ctx, client := s.health(t)
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	for _, want := range []servingStatus{notServing, serving} {
		reply, err := watch.Recv()
		require.NoError(t, err)
		assert.Equal(t, want, reply.GetStatus())
		ready.set(nil)
	}
}

func TestServicesThatGo(t *testing.T) {
	services := map[string]error{"orders": nil}
	h := newHealth(func() error { return nil }, func() map[string]error { return services }, slog.New(slog.DiscardHandler))
	h.refresh()
	services = nil
	h.refresh()
	reply, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "orders"})
	require.NoError(t, err)
	assert.Equal(t, unknown, reply.GetStatus())
}

// TestQuestionsThatPanic: the process lives, and what was known stays known.
func TestQuestionsThatPanic(t *testing.T) {
	var panics atomic.Bool
	s := serve(t, Options{Refresh: time.Millisecond, Ready: func() error { return nil }, Health: func() map[string]error {
		if panics.Load() {
			panic("nobody knows")
		}
		return map[string]error{"orders": nil}
	}})
	ctx, client := s.health(t)
	assert.Equal(t, serving, check(t, ctx, client, "orders"))
	panics.Store(true)
	assert.Equal(t, serving, check(t, ctx, client, "orders"))

	s = serve(t, Options{Refresh: time.Millisecond, Ready: func() error { panic("not even this") }})
	ctx, client = s.health(t)
	assert.Equal(t, notServing, check(t, ctx, client, ""))
	assert.Equal(t, "panic: not even this\n", s.get(t, "/readyz").body)
}

func TestOtherServicesAreNotThere(t *testing.T) {
	s := serve(t, Options{})
	ctx, _ := s.health(t)
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	err = conn.Invoke(ctx, "/a.B/C", new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse))
	assert.Equal(t, codes.Unimplemented, status.Code(err))
}

// TestHostsOfCalls: an address with another name is refused to gRPC clients, too.
func TestHostsOfCalls(t *testing.T) {
	s := serve(t, Options{})
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("evil.example"))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), safety)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, new(healthpb.HealthCheckRequest))
	assert.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
}
