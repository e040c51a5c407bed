package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// settles waits until a pool has no call left.
func settles(t *testing.T, pool *proxy.Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		s := pool.Stats()
		return s.ActiveCalls == 0 && s.Streams == 0
	}, directedSafety, time.Millisecond, "%+v", pool.Stats())
}

func TestPoolIsShared(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		const calls = 20
		backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
		backend.hold = make(chan struct{})
		client := dialDirected(t, door(t, proxytest.AllTo(pool, backend.address)))
		var all []<-chan error
		for range calls {
			all = append(all, client.start(directedContext(t), directedMethod))
		}
		for range calls {
			<-backend.seen
		}
		require.Equal(t, proxy.PoolStats{ActiveCalls: calls, Connections: 1, Streams: calls}, pool.Stats())
		close(backend.hold)
		for _, call := range all {
			require.NoError(t, <-call)
		}
		settles(t, pool)
		require.Equal(t, 1, pool.Stats().Connections)
	})
}

// The calls that there is no room for wait, and each gives back its place.
func TestPoolIsBounded(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		backend := startDirectedBackend(t, "a")
		backend.hold = make(chan struct{})
		pool := proxytest.NewPool(t, proxy.PoolOptions{Connections: 2, StreamsPerConnection: 1})
		client := dialDirected(t, door(t, proxytest.AllTo(pool, backend.address)))
		one, two := client.start(directedContext(t), directedMethod), client.start(directedContext(t), directedMethod)
		<-backend.seen
		<-backend.seen
		ctx, cancel := context.WithCancel(directedContext(t))
		defer cancel()
		three := client.start(ctx, directedMethod)
		require.Eventually(t, func() bool { return pool.Stats().ActiveCalls == 3 }, directedSafety, time.Millisecond)
		require.Equal(t, proxy.PoolStats{ActiveCalls: 3, Connections: 2, Streams: 2}, pool.Stats())
		cancel()
		requireStatus(t, <-three, codes.Canceled, "")
		require.Eventually(t, func() bool { return pool.Stats().ActiveCalls == 2 }, directedSafety, time.Millisecond)
		close(backend.hold)
		require.NoError(t, <-one)
		require.NoError(t, <-two)
		settles(t, pool)
		for range 5 { // there is room as before
			client.requireName(directedContext(t), directedMethod, "a")
		}
		require.EqualValues(t, 7, backend.calls.Load())
	})
}

// Whatever becomes of a call, its place on the connection is given back, once.
func TestPoolGetsBackWhatItGives(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		backend := startDirectedBackend(t, "a")
		pool := proxytest.NewPool(t, proxy.PoolOptions{Connections: 1, StreamsPerConnection: 1})
		nobody := loopback.Free(t)
		client := dialDirected(t, door(t, func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
			switch method {
			case "/company.Orders/Put":
				return ctx, pool.At(backend.address), errors.New("changed its mind")
			case directedMethod:
				if incomingOf(ctx, "x-to") == "nobody" {
					return ctx, pool.At(nobody), nil
				}
			}
			return ctx, pool.At(backend.address), nil
		}))
		for range 3 {
			_, _, err := client.call(directedContext(t), "/company.Orders/Put")
			requireStatus(t, err, codes.Unknown, "changed its mind")
			_, _, err = client.call(directedContext(t, "x-to", "nobody"), directedMethod)
			requireStatus(t, err, codes.Unavailable, "")
			client.requireName(directedContext(t), directedMethod, "a")
		}
		settles(t, pool)
		require.Equal(t, 1, pool.Stats().Connections)
	})
}

func TestPoolKeepsNoIdleConnections(t *testing.T) {
	quietKitex()
	backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{Idle: -1})
	client := dialDirected(t, directedDoors["relay"](t, proxytest.AllTo(pool, backend.address)))
	client.requireName(directedContext(t), directedMethod, "a")
	require.Eventually(t, func() bool { return pool.Stats() == proxy.PoolStats{} }, directedSafety, 5*time.Millisecond)
}

func TestPoolWithTLS(t *testing.T) {
	quietKitex()
	ca := securetest.NewAuthority(t)
	backend := startDirectedBackend(t, "a", grpc.Creds(credentials.NewServerTLSFromCert(new(ca.Issue(t, "127.0.0.1").TLS(t)))))
	for want, opts := range map[codes.Code]proxy.PoolOptions{
		codes.OK: {TLS: &tls.Config{RootCAs: ca.Pool()}}, codes.Unavailable: {TLS: &tls.Config{RootCAs: x509.NewCertPool()}},
	} {
		client := dialDirected(t, directedDoors["relay"](t, proxytest.AllTo(proxytest.NewPool(t, opts), backend.address)))
		_, _, err := client.call(directedContext(t), directedMethod)
		require.Equal(t, want, status.Code(err), "%v", err)
	}
}

// Shutdown ends the calls that are still there, and takes no more.
func TestPoolShutdown(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
		backend.hold = make(chan struct{})
		client := dialDirected(t, door(t, proxytest.AllTo(pool, backend.address)))
		call := client.start(directedContext(t), directedMethod)
		at := <-backend.seen
		pool.Shutdown(proxytest.Ended())
		requireStatus(t, <-call, codes.Unavailable, "shutting down")
		<-at.Done()
		require.Eventually(t, func() bool { return pool.Stats() == proxy.PoolStats{} }, directedSafety, time.Millisecond)
		_, _, err := client.call(directedContext(t), directedMethod)
		requireStatus(t, err, codes.Unavailable, "shutting down")
	})
}

// Shutdown waits for calls as long as its context allows.
func TestPoolShutdownWaits(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
		backend.hold = make(chan struct{})
		client := dialDirected(t, door(t, proxytest.AllTo(pool, backend.address)))
		call := client.start(directedContext(t), directedMethod)
		<-backend.seen
		down := make(chan struct{})
		go func() { // ends with the call
			defer close(down)
			pool.Shutdown(context.Background())
		}()
		close(backend.hold)
		require.NoError(t, <-call)
		<-down
	})
}

func TestDirectorLeavesNothingRunning(t *testing.T) {
	quietKitex()
	for name, door := range directedDoors {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Run("calls", func(t *testing.T) {
				backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
				client := dialDirected(t, door(t, proxytest.AllTo(pool, backend.address)))
				for range 10 {
					client.requireName(directedContext(t), directedMethod, "a")
				}
				ctx, cancel := context.WithCancel(directedContext(t))
				backend.hold = make(chan struct{})
				call := client.start(ctx, directedMethod)
				for range 11 {
					<-backend.seen
				}
				cancel()
				require.Error(t, <-call)
			})
			goleak.VerifyNone(t, append(handlertest.LeakOptions(), before)...)
		})
	}
}
