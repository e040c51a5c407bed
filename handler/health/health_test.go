package health

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

const (
	serving    = grpc_health_v1.HealthCheckResponse_SERVING
	notServing = grpc_health_v1.HealthCheckResponse_NOT_SERVING
)

// serveHealth has a server with the health service run.
func serveHealth(t testing.TB, h grpc_health_v1.HealthServer) string {
	return loopback.Serve(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, h) })
}

func TestAnInstanceIsWhatItSays(t *testing.T) {
	h := health.NewServer()
	address, other := serveHealth(t, h), serveHealth(t, health.NewServer())
	c, log := check(t, often(), opener(t), address, other)
	for range 3 {
		h.SetServingStatus("", notServing)
		log.await(t, "level=WARN", "is not healthy", "cluster=orders", "instance="+address, "says it is NOT_SERVING")
		require.False(t, healthy(t, c, address))
		require.True(t, healthy(t, c, other))
		require.Equal(t, other, c.Next(new(cluster.Tries), func(string) bool { return false }).Address())
		h.SetServingStatus("", serving)
		log.await(t, "level=INFO", "is healthy again", "cluster=orders", "instance="+address)
		require.True(t, healthy(t, c, address))
		log.forget()
	}
}

func TestAnInstanceIsAskedAboutTheService(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("", notServing)
	h.SetServingStatus("shop.Orders", serving)
	address := serveHealth(t, h)
	cfg := often()
	cfg.Service = "shop.Orders"
	c, log := check(t, cfg, opener(t), address, loopback.Free(t))
	log.await(t, "is not healthy") // of the other
	require.True(t, healthy(t, c, address))
	h.SetServingStatus("shop.Orders", notServing)
	log.await(t, "is not healthy", address)
}

func TestWhatIsNotHealthy(t *testing.T) {
	tests := []struct {
		name    string
		address func(t *testing.T) string
		reason  string
	}{
		{"not there", func(t *testing.T) string { return loopback.Free(t) }, "backend-unreachable"},
		{"service unknown", func(t *testing.T) string { return serveHealth(t, health.NewServer()) }, "NOT_FOUND"},
		{"fails", func(t *testing.T) string { return serveHealth(t, failing{}) }, "INTERNAL: broken"},
		{"two answers", liar("\x00\x00\x00\x00\x02\x08\x01\x00\x00\x00\x00\x02\x08\x01", "0"), "more than one message"},
		{"no answer", liar("", "0"), "the instance answers OK"},
		{"status behind the answer", liar("\x00\x00\x00\x00\x02\x08\x01", "8"), "RESOURCE_EXHAUSTED"},
		{"no status", liar("\x00\x00\x00\x00\x02\x08\x01", ""), "backend-protocol"},
		{"compressed", liar("\x01\x00\x00\x00\x02\x08\x01", "0"), "compressed"},
		{"endless", liar("\x00\xff\xff\xff\xff\x08\x01", "0"), "longer than 1024 bytes"},
		{"cut short", liar("\x00\x00\x00\x00\x03\x08\x01", "0"), "ends inside a message"},
		{"no message", liar("\x00\x00\x00\x00\x02\xff\xff", "0"), "is no HealthCheckResponse"},
		{"says nothing", liar("\x00\x00\x00\x00\x00", "0"), "says it is UNKNOWN"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := often()
			cfg.Service = "shop.Orders"
			address := test.address(t)
			c, log := check(t, cfg, opener(t), address)
			log.await(t, "is not healthy", "instance="+address, test.reason)
			require.False(t, healthy(t, c, address))
		})
	}
}

// failing is a health service that is ill itself.
type failing struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (failing) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, status.Error(codes.Internal, "broken")
}

// liar is a backend that answers with body and a status.
func liar(body, code string) func(t *testing.T) string {
	return func(t *testing.T) string {
		backend, err := rawh2.Listen("", rawh2.Options{}, func(s *rawh2.Stream) {
			_ = s.Headers(rawh2.ResponseFields(), false)
			_ = s.Data([]byte(body), false)
			if code == "" {
				_ = s.Data(nil, true)
			} else {
				_ = s.Trailers(rawh2.F("grpc-status", code))
			}
		})
		require.NoError(t, err)
		t.Cleanup(backend.Close)
		return backend.Addr()
	}
}

func TestAnInstanceThatDoesNotAnswerIsNotHealthy(t *testing.T) {
	silent, err := rawh2.Listen("", rawh2.Options{}, func(s *rawh2.Stream) { <-s.Context().Done() })
	require.NoError(t, err)
	t.Cleanup(silent.Close)
	cfg := often()
	cfg.Timeout = conf.Duration(10 * time.Millisecond)
	c, log := check(t, cfg, opener(t), silent.Addr())
	log.await(t, "is not healthy", "no answer within 10ms")
	require.False(t, healthy(t, c, silent.Addr()))
}

func TestAnInstanceWithoutHealthServiceIsHealthy(t *testing.T) {
	tests := map[string]func(t *testing.T) string{
		"grpc-go": func(t *testing.T) string { return loopback.Serve(t, func(*grpc.Server) {}) },
		"HTTP": func(t *testing.T) string {
			backend, err := rawh2.Listen("", rawh2.Options{}, func(s *rawh2.Stream) {
				_ = s.Headers(rawh2.Fields{rawh2.F(":status", "404")}, true)
			})
			require.NoError(t, err)
			t.Cleanup(backend.Close)
			return backend.Addr()
		},
		"Kitex": liar("", "20"),
	}
	for name, backend := range tests {
		t.Run(name, func(t *testing.T) {
			missing := loopback.Free(t)
			one, other := backend(t), backend(t)
			asked := newAsked(opener(t))
			c, log := check(t, often(), asked.open, one, other, missing)
			log.await(t, "level=WARN", "has no health service")
			log.await(t, "is not healthy", "instance="+missing)
			asked.await(t, one, 5)
			asked.await(t, other, 5)
			require.True(t, healthy(t, c, one))
			require.True(t, healthy(t, c, other))
			require.Equal(t, 1, log.count("has no health service"), "once, not for each")
		})
	}
}

// asked counts questions.
type asked struct {
	next Opener
	mu   sync.Mutex
	n    map[string]int
	more chan struct{} // closed and replaced with each question
}

func newAsked(next Opener) *asked {
	return &asked{next: next, n: make(map[string]int), more: make(chan struct{})}
}

func (a *asked) open(ctx context.Context, address string, req *stream.Request) (stream.Outbound, error) {
	a.mu.Lock()
	a.n[address]++
	close(a.more)
	a.more = make(chan struct{})
	a.mu.Unlock()
	return a.next(ctx, address, req)
}

func (a *asked) count(address string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n[address]
}

// await waits until an instance has been asked n times.
func (a *asked) await(t testing.TB, address string, n int) {
	t.Helper()
	late := time.After(safety)
	for {
		a.mu.Lock()
		got, more := a.n[address], a.more
		a.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			require.Fail(t, "not asked", "%d times", n)
		}
	}
}

// scripted is an instance without sockets, whose answers a test sets.
type scripted struct {
	mu  sync.Mutex
	bad bool
}

func (s *scripted) set(bad bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = bad
}

func (s *scripted) open(context.Context, string, *stream.Request) (stream.Outbound, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad {
		return nil, &stream.Failure{Reason: stream.BackendUnreachable, Code: stream.Unavailable, Message: "gone"}
	}
	return &answer{rest: strings.NewReader("\x00\x00\x00\x00\x02\x08\x01")}, nil
}

// answer is a call that has been answered.
type answer struct {
	stream.Outbound
	rest *strings.Reader
}

func (*answer) Write([]byte, bool) error        { return nil }
func (*answer) Abort()                          {}
func (*answer) Header() (*stream.Header, error) { return new(stream.Header), nil }
func (*answer) Trailer() *stream.Trailer        { return new(stream.Trailer) }
func (a *answer) Read(p []byte) error           { _, err := io.ReadFull(a.rest, p); return err }

// longest is the longest pause of often-like configurations with an interval of 1s.
const longest = 1100 * time.Millisecond

func everySecond() *conf.HealthCheck {
	return &conf.HealthCheck{
		Interval: conf.Duration(time.Second), Timeout: conf.Duration(time.Second), Unhealthy: 3, Healthy: 2,
	}
}

func TestAsManyAnswersInARowAsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scripted)
		asked := newAsked(s.open)
		c, _ := check(t, everySecond(), asked.open, "a")
		// next has the instance asked n times more.
		next := func(n int, bad bool) {
			s.set(bad)
			for want := asked.count("a") + n; asked.count("a") < want; {
				time.Sleep(50 * time.Millisecond) // in the bubble's time
				synctest.Wait()
			}
		}
		next(1, false)
		next(2, true)
		require.True(t, healthy(t, c, "a"), "two are not enough")
		next(1, false)
		next(2, true)
		require.True(t, healthy(t, c, "a"), "they are not in a row")
		next(1, true)
		require.False(t, healthy(t, c, "a"))
		next(1, false)
		require.False(t, healthy(t, c, "a"), "one is not enough")
		next(1, true)
		next(1, false)
		require.False(t, healthy(t, c, "a"), "they are not in a row")
		next(1, false)
		require.True(t, healthy(t, c, "a"))
	})
}

func TestPausesDiffer(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 100 {
		d := jittered(time.Second)
		require.InDelta(t, time.Second, d, float64(longest-time.Second))
		seen[d] = true
	}
	require.Greater(t, len(seen), 50)
}

func TestInstancesAreAskedAsTheyComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scripted)
		asked := newAsked(s.open)
		c, _ := check(t, everySecond(), asked.open)
		c.Update([]cluster.Instance{{Address: "a", Weight: 1}, {Address: "b", Weight: 1}})
		synctest.Wait()
		require.Equal(t, []int{1, 1, 0}, []int{asked.count("a"), asked.count("b"), asked.count("c")}, "at once")
		c.Update([]cluster.Instance{{Address: "b", Weight: 1}, {Address: "c", Weight: 1}})
		synctest.Wait()
		require.Equal(t, []int{1, 1, 1}, []int{asked.count("a"), asked.count("b"), asked.count("c")}, "b goes on as it did")
		time.Sleep(10 * longest)
		synctest.Wait()
		require.Equal(t, 1, asked.count("a"))
		require.Greater(t, asked.count("b"), 9)
		require.Greater(t, asked.count("c"), 9)
	})
}

// An answer that comes when nobody is asked any more says nothing of the instance.
func TestCloseIsNotTheInstancesFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cluster.New("orders", &conf.Cluster{Instances: []string{"a"}}, cluster.Options{})
		cfg := everySecond()
		cfg.Unhealthy = 1
		checker := New(Options{
			Cluster: c, Config: cfg,
			Open: func(ctx context.Context, _ string, _ *stream.Request) (stream.Outbound, error) {
				<-ctx.Done()
				return nil, errors.New("closed")
			},
		})
		synctest.Wait()
		checker.Close()
		require.True(t, healthy(t, c, "a"))
	})
}
