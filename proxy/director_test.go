package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	kitexcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kitexmd "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// directedSafety ends what would hang. Nothing passes because of it.
const directedSafety = 60 * time.Second

func TestDirectorPicksByMethodMetadataAndAuthority(t *testing.T) {
	a, b := startDirectedBackend(t, "a"), startDirectedBackend(t, "b")
	for name, test := range map[string]struct {
		isB    func(ctx context.Context, method string) bool
		method string
		pairs  []string
		opts   []grpc.DialOption
	}{
		"method": {
			isB:    func(_ context.Context, method string) bool { return method == "/company.Orders/Put" },
			method: "/company.Orders/Put",
		},
		"metadata": {
			isB:   func(ctx context.Context, _ string) bool { return incomingOf(ctx, "x-tenant") == "blue" },
			pairs: []string{"X-Tenant", "blue"},
		},
		"bytes": {
			isB:   func(ctx context.Context, _ string) bool { return incomingOf(ctx, "x-key-bin") == "\x00\xff" },
			pairs: []string{"x-key-bin", "\x00\xff"},
		},
		"authority": {
			isB:  func(ctx context.Context, _ string) bool { return incomingOf(ctx, ":authority") == "b.example.com" },
			opts: []grpc.DialOption{grpc.WithAuthority("b.example.com")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			throughDoors(t, func(t *testing.T, door directedDoor) {
				pool := proxytest.NewPool(t, proxy.PoolOptions{})
				address := door(t, func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
					if test.isB(ctx, method) {
						return ctx, pool.At(b.address), nil
					}
					return ctx, pool.At(a.address), nil
				})
				dialDirected(t, address).requireName(directedContext(t), directedMethod, "a")
				method := directedMethod
				if test.method != "" {
					method = test.method
				}
				dialDirected(t, address, test.opts...).requireName(directedContext(t, test.pairs...), method, "b")
			})
		})
	}
}

func incomingOf(ctx context.Context, key string) string {
	md, ok := kitexmd.FromIncomingContext(ctx)
	if !ok || len(md[key]) == 0 {
		return ""
	}
	return md[key][0]
}

func TestDirectorErrorReachesTheClientUnchanged(t *testing.T) {
	detail := &errdetails.ErrorInfo{Reason: "because", Domain: "company.com"}
	detailed, err := status.New(codes.NotFound, "no ünit").WithDetails(detail)
	require.NoError(t, err)
	kitexDetailed := kitexstatus.FromProto(detailed.Proto())
	for name, test := range map[string]struct {
		err     error
		code    codes.Code
		message string
		details bool
		biz     []string
	}{
		"grpc-go":            {status.Error(codes.Unimplemented, "Unknown method"), codes.Unimplemented, "Unknown method", false, nil},
		"grpc-go, details":   {detailed.Err(), codes.NotFound, "no ünit", true, nil},
		"grpc-go, wrapped":   {fmt.Errorf("look-up: %w", detailed.Err()), codes.NotFound, "look-up: " + detailed.Err().Error(), true, nil},
		"Kitex":              {kitexstatus.Err(kitexcodes.PermissionDenied, "go away"), codes.PermissionDenied, "go away", false, nil},
		"Kitex, details":     {kitexDetailed.Err(), codes.NotFound, "no ünit", true, nil},
		"Kitex, wrapped":     {fmt.Errorf("look-up: %w", kitexDetailed.Err()), codes.NotFound, "look-up: " + kitexDetailed.Err().Error(), true, nil},
		"Kitex, business":    {kerrors.NewBizStatusError(1234, "sold out"), codes.Internal, "sold out", false, []string{"1234"}},
		"Kitex, gRPC":        {kerrors.NewGRPCBizStatusError(5, "none left"), codes.Internal, "none left", false, []string{"5"}},
		"code unknown":       {status.Error(codes.Code(77), "strange"), codes.Code(77), "strange", false, nil},
		"no status":          {errors.New("plain"), codes.Unknown, "plain", false, nil},
		"deadline":           {fmt.Errorf("etcd: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "etcd: context deadline exceeded", false, nil},
		"cancel":             {context.Canceled, codes.Canceled, "context canceled", false, nil},
		"OK is not an error": {okError{}, codes.Unknown, "an error that says OK", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			throughDoors(t, func(t *testing.T, door directedDoor) {
				client := dialDirected(t, door(t, func(context.Context, string) (context.Context, proxy.Target, error) {
					return nil, proxy.Target{}, test.err
				}))
				_, trailer, err := client.call(directedContext(t), directedMethod)
				st := status.Convert(err)
				require.Equal(t, test.code, st.Code(), "%v", err)
				require.Equal(t, test.message, st.Message())
				require.Equal(t, test.details, len(st.Details()) == 1)
				if test.details {
					require.True(t, proto.Equal(detail, st.Details()[0].(proto.Message)))
				}
				require.Equal(t, test.biz, trailer["biz-status"])
				require.Equal(t, []string{"rejected"}, trailer["x-kitexproxy-error"])
			})
		})
	}
}

// okError is an error that claims to be none.
type okError struct{}

func (okError) Error() string              { return "an error that says OK" }
func (okError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestDirectorMistakes(t *testing.T) {
	usual := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where handlers log that a call has panicked
	defer slog.SetDefault(usual)
	backend := startDirectedBackend(t, "a")
	for name, test := range map[string]struct {
		director func(ctx context.Context, there proxy.Target) (context.Context, proxy.Target)
		want     string
	}{
		"no context": {func(_ context.Context, to proxy.Target) (context.Context, proxy.Target) {
			return nil, to
		}, "no context"},
		"another context": {func(_ context.Context, to proxy.Target) (context.Context, proxy.Target) {
			return context.Background(), to
		}, "does not descend"},
		"a context that is over": {func(ctx context.Context, to proxy.Target) (context.Context, proxy.Target) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return ctx, to
		}, "is over: context canceled"},
		"no target": {func(ctx context.Context, _ proxy.Target) (context.Context, proxy.Target) {
			return ctx, proxy.Target{}
		}, "nowhere"},
		"no address": {func(ctx context.Context, _ proxy.Target) (context.Context, proxy.Target) {
			return ctx, proxy.NewPool(proxy.PoolOptions{}).At("")
		}, "nowhere"},
		"no such cluster": {func(ctx context.Context, _ proxy.Target) (context.Context, proxy.Target) {
			return ctx, proxy.Cluster("orders")
		}, `cluster "orders"`},
		"metadata, key": {func(ctx context.Context, to proxy.Target) (context.Context, proxy.Target) {
			return kitexmd.NewOutgoingContext(ctx, kitexmd.MD{"a b": {"1"}}), to
		}, `"a b" is no key`},
		"metadata, value": {func(ctx context.Context, to proxy.Target) (context.Context, proxy.Target) {
			return kitexmd.NewOutgoingContext(ctx, kitexmd.MD{"a": {"1\r\n2"}}), to
		}, `is no value`},
		"panic": {func(context.Context, proxy.Target) (context.Context, proxy.Target) { panic("oops") }, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			throughDoors(t, func(t *testing.T, door directedDoor) {
				pool := proxytest.NewPool(t, proxy.PoolOptions{})
				client := dialDirected(t, door(t, func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
					if method == directedMethod {
						var to proxy.Target
						ctx, to = test.director(ctx, pool.At(backend.address))
						return ctx, to, nil
					}
					return ctx, pool.At(backend.address), nil
				}))
				_, trailer, err := client.call(directedContext(t), directedMethod)
				requireStatus(t, err, codes.Internal, test.want)
				require.Contains(t, err.Error(), directedMethod)
				require.Equal(t, []string{"internal"}, trailer["x-kitexproxy-error"])
				client.requireName(directedContext(t), "/company.Orders/Put", "a")
			})
		})
	}
}

// Nothing crosses but what the director says; see also the conformance suites, where
// it says all.
func TestDirectorSaysWhatMetadataCrosses(t *testing.T) {
	for name, test := range map[string]struct {
		out       func(ctx context.Context) context.Context
		authority string
		want      metadata.MD
	}{
		"none":    {func(ctx context.Context) context.Context { return ctx }, "orders.example.com", metadata.MD{}},
		"another": {func(ctx context.Context) context.Context { return kitexmd.AppendToOutgoingContext(ctx, "Via", "x") }, "orders.example.com", metadata.MD{"via": {"x"}}},
		"all": {
			func(ctx context.Context) context.Context {
				return kitexmd.AppendToOutgoingContext(proxytest.HandOn(ctx), "via", "x")
			}, "orders.example.com",
			metadata.MD{"x-a": {"1", "2"}, "x-b-bin": {"\x00\xff"}, "via": {"x"}},
		},
		"authority": {
			func(ctx context.Context) context.Context {
				return kitexmd.NewOutgoingContext(ctx, kitexmd.Pairs(":authority", "other", "new-bin", "\xfe"))
			}, "other", metadata.MD{"new-bin": {"\xfe"}},
		},
		"the protocol's": {
			func(ctx context.Context) context.Context {
				return kitexmd.NewOutgoingContext(ctx, kitexmd.Pairs("grpc-timeout", "1n", "Content-Type", "text/plain", "te", "x", ":path", "/x"))
			}, "orders.example.com", metadata.MD{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			throughDoors(t, func(t *testing.T, door directedDoor) {
				backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
				client := dialDirected(t, door(t, func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
					return test.out(ctx), pool.At(backend.address), nil
				}), grpc.WithAuthority("orders.example.com"))
				client.requireName(directedContext(t, "x-a", "1", "x-a", "2", "x-b-bin", "\x00\xff"), directedMethod, "a")
				got, _ := metadata.FromIncomingContext(<-backend.seen)
				require.Equal(t, []string{test.authority}, got[":authority"])
				delete(got, ":authority")
				for _, key := range []string{"content-type", "user-agent", "grpc-accept-encoding"} {
					delete(got, key) // the protocol's
				}
				require.Equal(t, test.want, got)
			})
		})
	}
}

func TestDirectorMayBlock(t *testing.T) {
	backend := startDirectedBackend(t, "a")
	throughDoors(t, func(t *testing.T, door directedDoor) {
		pool := proxytest.NewPool(t, proxy.PoolOptions{})
		begun, goOn, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
		client := dialDirected(t, door(t, func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
			if method != directedMethod {
				return ctx, pool.At(backend.address), nil
			}
			begun <- struct{}{}
			select {
			case <-goOn:
				return ctx, pool.At(backend.address), nil
			case <-ctx.Done():
				ended <- ctx.Err()
				return nil, proxy.Target{}, ctx.Err()
			}
		}))
		calls := backend.calls.Load()
		t.Run("cancel", func(t *testing.T) {
			ctx, cancel := context.WithCancel(directedContext(t))
			call := client.start(ctx, directedMethod)
			<-begun
			client.requireName(directedContext(t), "/company.Orders/Put", "a") // meanwhile
			cancel()
			requireStatus(t, <-call, codes.Canceled, "")
			require.Error(t, <-ended) // of which kind is up to the transport
		})
		t.Run("deadline", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(directedContext(t), arrivalTime)
			defer cancel()
			call := client.start(ctx, directedMethod)
			<-begun
			requireStatus(t, <-call, codes.DeadlineExceeded, "")
			// On its way to the proxy the deadline may be overtaken by the cancel.
			require.Error(t, <-ended)
		})
		require.Equal(t, calls+1, backend.calls.Load(), "none has reached the backend but the one meanwhile")
		t.Run("goes on", func(t *testing.T) {
			call := client.start(directedContext(t), directedMethod)
			<-begun
			close(goOn)
			require.NoError(t, <-call)
		})
	})
}

// The call ends with the context that the director returns, and its deadline is the
// backend's.
func TestDirectorContextIsTheCalls(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		backend, pool := startDirectedBackend(t, "a"), proxytest.NewPool(t, proxy.PoolOptions{})
		backend.hold = make(chan struct{})
		cancels := make(chan context.CancelFunc, 1)
		client := dialDirected(t, door(t, func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			cancels <- cancel
			return ctx, pool.At(backend.address), nil
		}))
		ctx, cancel := context.WithCancel(t.Context()) // without a deadline
		defer cancel()
		call := client.start(ctx, directedMethod)
		at := <-backend.seen
		deadline, ok := at.Deadline()
		require.True(t, ok)
		require.WithinDuration(t, time.Now().Add(time.Hour), deadline, time.Minute)
		(<-cancels)()
		requireStatus(t, <-call, codes.Canceled, "")
		<-at.Done()
	})
}

func TestDirectorNamesAnAddressThatIsNotThere(t *testing.T) {
	throughDoors(t, func(t *testing.T, door directedDoor) {
		pool := proxytest.NewPool(t, proxy.PoolOptions{})
		nobody := loopback.Free(t)
		for address, want := range map[string]string{nobody: "refused", "no port": "missing port", "unix:///nowhere": "no such file"} {
			client := dialDirected(t, door(t, proxytest.AllTo(pool, address)))
			_, trailer, err := client.call(directedContext(t), directedMethod)
			requireStatus(t, err, codes.Unavailable, want)
			require.Contains(t, err.Error(), address)
			require.Equal(t, []string{"backend-unreachable"}, trailer["x-kitexproxy-error"])
		}
		require.Eventually(t, func() bool { return pool.Stats() == proxy.PoolStats{} }, faultSafety, time.Millisecond,
			"a client may hear of the end of its call before that is counted out: %+v", pool.Stats())
	})
}

// A director may send calls to the configuration's clusters, as they are at the time.
func TestDirectorPicksClusters(t *testing.T) {
	quietKitex()
	for _, transport := range []string{conf.TransportNative, conf.TransportKitex} {
		t.Run(transport, func(t *testing.T) {
			a, b := startDirectedBackend(t, "a"), startDirectedBackend(t, "b")
			cfg := conf.Default()
			cfg.Transport = transport
			cfg.Clusters = map[string]*conf.Cluster{"a": conf.NewCluster(a.address), "b": conf.NewCluster(b.address)}
			relay := proxytest.NewRelay(t, cfg, proxy.WithDirector(func(ctx context.Context, method string) (context.Context, proxy.Target, error) {
				return ctx, proxy.Cluster(strings.ToLower(method[len("/company."):][:1])), nil
			}))
			client := dialDirected(t, proxytest.RunWithEcho(t, relay.ServerOptions()...))
			client.requireName(directedContext(t), "/company.A/Get", "a")
			client.requireName(directedContext(t), "/company.B/Get", "b")

			next := *cfg
			next.Clusters = map[string]*conf.Cluster{"a": conf.NewCluster(b.address)}
			require.NoError(t, relay.Reload(directedContext(t), &next))
			client.requireName(directedContext(t), "/company.A/Get", "b")
			_, _, err := client.call(directedContext(t), "/company.B/Get")
			requireStatus(t, err, codes.Internal, `cluster "b", which is not configured`)
		})
	}
}

// A call whose director blocks is one of the relay's: Shutdown ends it.
func TestShutdownEndsCallsWhoseDirectorBlocks(t *testing.T) {
	quietKitex()
	for _, transport := range []string{conf.TransportNative, conf.TransportKitex} {
		t.Run(transport, func(t *testing.T) {
			cfg := conf.Default()
			cfg.Transport = transport
			begun := make(chan struct{}, 1)
			relay := proxytest.NewRelay(t, cfg, proxy.WithDirector(func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
				begun <- struct{}{}
				<-ctx.Done()
				return ctx, proxy.Cluster("too late"), nil
			}))
			client := dialDirected(t, proxytest.RunWithEcho(t, relay.ServerOptions()...))
			call := client.start(directedContext(t), directedMethod)
			<-begun
			assert.Equal(t, 1, relay.Stats().ActiveCalls)
			relay.Shutdown(proxytest.Ended())
			requireStatus(t, <-call, codes.Unavailable, "shutting down")
			require.Zero(t, relay.Stats().ActiveCalls)
			_, _, err := client.call(directedContext(t), directedMethod)
			requireStatus(t, err, codes.Unavailable, "shutting down")
		})
	}
}
