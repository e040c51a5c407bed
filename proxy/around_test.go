package proxy_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// startAround runs a proxy with something around its calls, before backends that
// send each message back.
func startAround(t *testing.T, transport string, opts ...proxy.Option) (*faultProxy, *routeBackend) {
	t.Helper()
	backend := startRouteBackend(t, echoes)
	cfg := faultConfig(backend.addr)
	cfg.Transport = transport
	return startFaultProxy(t, cfg, opts...), backend
}

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func TestInterceptorsAreAroundCallsInOrder(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var j journal
		named := func(name string) intercept.Interceptor {
			return func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
				j.note("%s begins %s", name, c.Method())
				err := next(ctx)
				j.note("%s ends: %v %v", name, status.Code(err), c.Trailer().Get("x-end"))
				return err
			}
		}
		f, _ := startAround(t, transport, proxy.WithInterceptors(named("one"), named("two")), proxy.WithGuards(func(*intercept.Call) error {
			j.note("guard")
			return nil
		}))
		requireOK(t, f.call(f.safe(), faultMethod, []byte("x")), []byte("x"))
		require.Equal(t, []string{
			"one begins " + faultMethod, "two begins " + faultMethod, "guard", "two ends: OK ", "one ends: OK ",
		}, j.all())
		f.lives()
	})
}

func TestInterceptorsChangeCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		type key struct{}
		var seen any
		f, backend := startAround(t, transport, proxy.WithInterceptors(func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
			if err := c.Header().Set("x-added", "by the interceptor"); err != nil {
				return err
			}
			if err := c.AddResponseHeader("x-answer", "first"); err != nil {
				return err
			}
			err := next(context.WithValue(ctx, key{}, "value"))
			if err := c.Trailer().Set("x-end", "last"); err != nil {
				return err
			}
			return err
		}, func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			seen = ctx.Value(key{})
			return next(ctx)
		}))
		var header, trailer metadata.MD
		var reply []byte
		message := []byte("x")
		ctx := metadata.AppendToOutgoingContext(f.safe(), "x-added", "by the client", "x-kept", "1")
		require.NoError(t, f.client.Invoke(ctx, faultMethod, &message, &reply, grpc.Header(&header), grpc.Trailer(&trailer)))
		require.Equal(t, "value", seen)
		require.Equal(t, []string{"by the interceptor"}, backend.all()[0].Get("x-added"))
		require.Equal(t, []string{"1"}, backend.all()[0].Get("x-kept"))
		require.Equal(t, []string{"first"}, header.Get("x-answer"))
		require.Equal(t, []string{"last"}, trailer.Get("x-end"))
	})
}

func TestInterceptorsEndCalls(t *testing.T) {
	for name, test := range map[string]struct {
		link    intercept.Interceptor
		code    codes.Code
		message string
	}{
		"before": {func(context.Context, *intercept.Call, intercept.Next) error {
			return status.Error(codes.PermissionDenied, "not you")
		}, codes.PermissionDenied, "not you"},
		"after": {func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			if err := next(ctx); err != nil {
				return err
			}
			return status.Error(codes.DataLoss, "it was fine")
		}, codes.DataLoss, "it was fine"},
		"twice": {func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			_ = next(ctx)
			return next(ctx)
		}, codes.Internal, "called next twice"},
		"at once": {func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			second := make(chan error, 1)
			first := make(chan error, 1)
			go func() { first <- next(ctx) }()
			go func() { second <- next(ctx) }()
			one, other := <-first, <-second
			if one == nil {
				return other
			}
			return one
		}, codes.Internal, "called next twice"},
		"another context": {func(_ context.Context, _ *intercept.Call, next intercept.Next) error {
			return next(context.Background())
		}, codes.Internal, "does not descend"},
		"no context": {func(_ context.Context, _ *intercept.Call, next intercept.Next) error {
			return next(nil) //nolint:staticcheck // that is the point
		}, codes.Internal, "without a context"},
		"panic": {func(context.Context, *intercept.Call, intercept.Next) error {
			panic("secret")
		}, codes.Internal, "internal error"},
		"panic after": {func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			_ = next(ctx)
			panic("secret")
		}, codes.Internal, "internal error"},
		"exit": {func(context.Context, *intercept.Call, intercept.Next) error {
			runtime.Goexit()
			return nil
		}, codes.Internal, "has ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				once := sync.OnceValue(func() bool { return true })
				f, _ := startAround(t, transport, proxy.WithInterceptors(func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
					if c.Method() != faultMethod {
						return next(ctx)
					}
					once()
					return test.link(ctx, c, next)
				}))
				r := f.call(f.safe(), faultMethod, []byte("x"))
				require.Equal(t, test.code, r.code, r.message)
				require.Contains(t, r.message, test.message)
				require.NotContains(t, r.message, "secret")
				f.lives()
			})
		})
	}
}

func TestGuardsEndCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var ended sync.WaitGroup
		ended.Add(2)
		f, backend := startAround(t, transport, proxy.WithGuards(func(c *intercept.Call) error {
			switch c.Incoming().Get("who") {
			case "nobody":
				c.OnEnd(ended.Done)
				return intercept.Refuse(stream.NoCredentials, stream.Unauthenticated, "who are you?")
			case "panic":
				c.OnEnd(ended.Done)
				panic("secret")
			}
			return nil
		}))
		r := f.call(metadata.AppendToOutgoingContext(f.safe(), "who", "nobody"), faultMethod, []byte("x"))
		requireFailure(t, r, codes.Unauthenticated, stream.NoCredentials, "who are you?")
		r = f.call(metadata.AppendToOutgoingContext(f.safe(), "who", "panic"), faultMethod, []byte("x"))
		requireFailure(t, r, codes.Internal, stream.ProxyInternal, "internal error")
		ended.Wait()
		require.Zero(t, backend.calls())
		f.lives()
	})
}

// A limit on messages ends a stream in the middle.
func TestGuardsEndStreams(t *testing.T) {
	for d, what := range map[filter.Direction]string{filter.Request: "requests", filter.Response: "responses"} {
		t.Run(what, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				f, _ := startAround(t, transport, proxy.WithGuards(func(c *intercept.Call) error {
					if c.Method() != faultMethod {
						return nil
					}
					left := 2
					c.OnMessage(func(of filter.Direction) error {
						if of != d {
							return nil
						}
						if left--; left < 0 {
							return intercept.Refuse(stream.RateLimited, stream.ResourceExhausted, "that is too many")
						}
						return nil
					})
					return nil
				}))
				s := f.stream()
				for _, text := range []string{"a", "b"} {
					sendOn(t, s, text)
					var reply []byte
					require.NoError(t, s.RecvMsg(&reply))
				}
				sendOn(t, s, "c")
				_, err := receiveAll(s)
				require.Equal(t, codes.ResourceExhausted, status.Code(err))
				require.Contains(t, err.Error(), "that is too many")
				f.lives()
			})
		})
	}
}

// noting is an observer that notes all it is told.
type noting struct {
	journal
	ended chan struct{}
}

func (n *noting) Begin(c *intercept.Call) { n.note("begin %s", c.Method()) }
func (n *noting) End(c *intercept.Call) {
	o := c.Outcome()
	n.note("end %v %s: %s %s %s attempts %d, received %v, sent %v", o.Status.Code, o.Reason, c.Route(), c.Cluster(), c.Mode(), c.Attempts(), c.Received(), c.Sent())
	n.ended <- struct{}{}
}

func (n *noting) BeginAttempt(_ *intercept.Call, a *intercept.Attempt) {
	a.Header = append(a.Header, stream.Field{Key: "x-attempt", Value: fmt.Sprint(a.Number)})
	n.note("attempt %d", a.Number)
}

func (n *noting) EndAttempt(_ *intercept.Call, a *intercept.Attempt) {
	n.note("attempt %d over", a.Number)
}
func (n *noting) ResponseHeader(*intercept.Call, stream.Metadata) { n.note("header") }
func (n *noting) Message(_ *intercept.Call, m intercept.Message) {
	n.note("%v of %d", m.Direction, m.Length)
}

func TestObserversAreTold(t *testing.T) {
	for name, opts := range map[string][]proxy.Option{
		"guarded": nil,
		"intercepted": {proxy.WithInterceptors(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
			return next(ctx)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				n := &noting{ended: make(chan struct{}, 10)}
				f, backend := startAround(t, transport, append(opts, proxy.WithObservers(n))...)
				requireOK(t, f.call(f.safe(), faultMethod, []byte("abc")), []byte("abc"))
				<-n.ended
				want := []string{
					"begin " + faultMethod, "attempt 1", "attempt 1 over", "header", "request of 3", "response of 3",
					"end OK : default default frame attempts 1, received {1 8}, sent {1 8}",
				}
				// The end of an attempt may come last.
				require.Eventually(t, func() bool { return len(n.all()) >= len(want) }, faultSafety, time.Millisecond)
				require.ElementsMatch(t, want, n.all())
				require.Equal(t, []string{"1"}, backend.all()[0].Get("x-attempt"))
			})
		})
	}
}

func TestObserversOfCallsThatFail(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		n := &noting{ended: make(chan struct{}, 10)}
		cfg := faultConfig(loopback.Free(t))
		cfg.Transport = transport
		cfg.Routes = []conf.Route{{Name: "known", Match: conf.Match{Method: faultMethod}, Action: *cfg.Default}}
		cfg.Default = nil
		f := startFaultProxy(t, cfg, proxy.WithObservers(n))
		require.Equal(t, codes.Unavailable, f.call(f.safe(), faultMethod, nil).code)
		<-n.ended
		require.Equal(t, codes.Unimplemented, f.call(f.safe(), "/no.Service/Here", nil).code)
		<-n.ended
		all := strings.Join(n.all(), "\n")
		require.Contains(t, all, "end UNAVAILABLE backend-unreachable: known default frame attempts 1")
		require.Contains(t, all, "end UNIMPLEMENTED no-route:    attempts 0")
	})
}
