package proxy_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// requireShares checks that calls were spread by weight, within a part of each share.
func requireShares(t *testing.T, weights map[string]float64, got map[string]int, within float64) {
	t.Helper()
	var total, calls float64
	for name, n := range got {
		require.Contains(t, weights, name)
		calls += float64(n)
	}
	for _, w := range weights {
		total += w
	}
	for name, w := range weights {
		require.InEpsilon(t, calls*w/total, got[name], within, "%s of %v", name, got)
	}
}

// Clients that have one connection for all their calls are no reason for them to go to
// one instance.
func TestClusterSpreadsTheCallsOfOneConnectionEvenly(t *testing.T) {
	f := startWith(t, nil, startNameds(t, "b", 4)...)
	requireShares(t, map[string]float64{"b0": 1, "b1": 1, "b2": 1, "b3": 1}, f.answers(10_000), 0.1)
}

func TestClusterWeights(t *testing.T) {
	backends := startNameds(t, "b", 3)
	f := startWith(t, func(c *conf.Cluster) {
		c.Weights = map[string]int{backends[0].addr: 3, backends[2].addr: 0}
	}, backends...)
	got := f.answers(1000)
	assert.Zero(t, got["b2"])
	requireShares(t, map[string]float64{"b0": 3, "b1": 1}, got, 0.1)
}

func TestRouteSplitsByWeight(t *testing.T) {
	one, two := startNamed(t, "one", nil), startNamed(t, "two", nil)
	cfg := faultConfig(one.addr)
	cfg.Clusters["two"] = &conf.Cluster{Instances: []string{two.addr}, Connections: 1}
	cfg.Default = &conf.Action{Mode: conf.ModeFrame, Split: []conf.WeightedCluster{{Cluster: "default", Weight: 80}, {Cluster: "two", Weight: 20}}}
	// The odds of 4000 draws to be further off are less than one in a million.
	requireShares(t, map[string]float64{"one": 80, "two": 20}, startCluster(t, cfg).answers(4000), 0.2)
}

// least_active leaves alone an instance that has calls under way.
func TestClusterLeastActive(t *testing.T) {
	held, free := newNamed("held", nil), startNamed(t, "free", nil)
	held.hold = make(chan struct{})
	held.serve(t)
	f := startWith(t, func(c *conf.Cluster) { c.Balance = conf.BalanceLeastActive }, held, free)
	var open []grpc.ClientStream
	for held.began() < 1 { // which waits
		s := f.stream()
		_, err := s.Header()
		require.NoError(t, err)
		open = append(open, s)
	}
	var waits grpc.ClientStream
	for _, s := range open {
		header, err := s.Header()
		require.NoError(t, err)
		if header.Get(namedHeader)[0] == "held" {
			waits = s
		} else {
			endOn(t, s)
		}
	}
	f.standing = 1
	f.settles()
	for range 20 {
		require.Equal(t, "free", f.answeredBy())
	}
	close(held.hold)
	endOn(t, waits)
}

// hashing has the cluster "default" balance by something.
func hashing(on conf.HashOn) func(*conf.Cluster) {
	return func(c *conf.Cluster) { c.Balance, c.HashOn = conf.BalanceHash, &on }
}

func TestClusterHashByMetadata(t *testing.T) {
	f := startWith(t, hashing(conf.HashOn{Metadata: "x-user"}), startNameds(t, "b", 4)...)
	used := make(map[string]bool)
	for i := range 40 {
		user := fmt.Sprint("user-", i)
		first := f.answeredBy("x-user", user)
		for range 5 {
			require.Equal(t, first, f.answeredBy("x-user", user))
		}
		used[first] = true
	}
	assert.Len(t, used, 4, "keys are spread")
	assert.Len(t, f.answers(100), 4, "calls without the key are spread")
}

func TestClusterHashByPeer(t *testing.T) {
	f := startWith(t, hashing(conf.HashOn{Peer: true}), startNameds(t, "b", 4)...)
	used := make(map[string]bool)
	for i := range 16 {
		from := net.IPv4(127, 0, 1, byte(i+1))
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", address)
		}
		first := ""
		for range 3 { // connections have other ports
			cc, err := grpc.NewClient("passthrough:///"+f.addr, append(faultDialOptions(), grpc.WithContextDialer(dial))...)
			require.NoError(t, err)
			name, err := askName(f.safe(), cc, faultMethod)
			require.NoError(t, err)
			require.NoError(t, cc.Close())
			if first == "" {
				first = name
			}
			require.Equal(t, first, name)
		}
		used[first] = true
	}
	assert.Greater(t, len(used), 1, "clients are spread")
}

func TestClusterHashByField(t *testing.T) {
	backends := startNameds(t, "b", 4)
	cfg := faultConfig(addressesOf(backends)...)
	hashing(conf.HashOn{Field: "message"})(cfg.Clusters["default"])
	cfg.Schemas = map[string]*conf.Schema{"echo": {Files: []string{"../idl/echo.proto"}}}
	cfg.Default = nil
	cfg.Routes = []conf.Route{{
		Match:  conf.Match{Service: "kitexproxy.echo.v1.Echo"},
		Action: conf.Action{Cluster: "default", Mode: conf.ModeDynamic, Schema: "echo"},
	}}
	f := startCluster(t, cfg)
	ask := func(text string) string {
		s, err := f.client.NewStream(f.safe(), bidi, echoPrefix+"Chat")
		require.NoError(t, err)
		for _, m := range []string{text, "another text"} {
			b := encoded(t, &echo.EchoRequest{Message: m})
			require.NoError(t, s.SendMsg(&b))
		}
		require.NoError(t, s.CloseSend())
		messages, err := receiveAll(s)
		require.NoError(t, err)
		require.Len(t, messages, 2)
		header, err := s.Header()
		require.NoError(t, err)
		return header.Get(namedHeader)[0]
	}
	used := make(map[string]bool)
	for i := range 30 {
		text := fmt.Sprint("text ", i)
		first := ask(text)
		require.Equal(t, first, ask(text))
		used[first] = true
	}
	assert.Len(t, used, 4, "texts are spread")
}

func TestClusterLimitsCalls(t *testing.T) {
	b := startNamed(t, "b", nil)
	f := startWith(t, func(c *conf.Cluster) { c.Limits.Calls = 2 }, b)
	one, two := f.stream(), f.stream()
	for _, s := range []grpc.ClientStream{one, two} {
		_, err := s.Header()
		require.NoError(t, err)
	}
	requireFailure(t, f.call(f.safe(), faultMethod, []byte("x")), codes.ResourceExhausted, stream.Overloaded, `cluster "default"`)
	require.NoError(t, one.CloseSend())
	_, err := receiveAll(one)
	require.NoError(t, err)
	f.standing = 1
	f.settles()
	assert.Equal(t, "b", f.answeredBy(), "there is room again")
	require.NoError(t, two.CloseSend())
	_, err = receiveAll(two)
	require.NoError(t, err)
}

func TestClusterLimitsPending(t *testing.T) {
	b := startNamed(t, "b", nil)
	startWith(t, oneAndOneWaiting, b).requireOneWaits()
}

// What is too much for a cluster ends at once, also where a route has such codes retried.
func TestClusterLimitsAreNotRetried(t *testing.T) {
	cfg := faultConfig(startNamed(t, "b", nil).addr)
	oneAndOneWaiting(cfg.Clusters["default"])
	retrying(func(r *conf.Retry) { r.Backoff, r.MaxBackoff = conf.Duration(time.Minute), conf.Duration(time.Minute) })(cfg)
	startCluster(t, cfg).requireOneWaits()
}

// oneAndOneWaiting lets a cluster have one call, and one that waits.
func oneAndOneWaiting(c *conf.Cluster) {
	c.Connections, c.Pool.StreamsPerConnection, c.Limits.Pending = 1, 1, 1
}

// requireOneWaits checks that of two calls beside a running one, one waits for that, and
// the other one ends at once.
func (f *clusterProxy) requireOneWaits() {
	f.t.Helper()
	open := f.stream()
	_, err := open.Header()
	require.NoError(f.t, err)
	results := make(chan callResult, 2)
	for range 2 {
		go func() { results <- f.call(f.safe(), faultMethod, []byte("x")) }()
	}
	requireFailure(f.t, <-results, codes.Unavailable, stream.Overloaded, "limits.pending")
	require.NoError(f.t, open.CloseSend())
	_, err = receiveAll(open)
	require.NoError(f.t, err)
	requireOK(f.t, <-results, []byte("x"))
}

// The instances that a file names come and go, and no call fails.
func TestClusterFollowsAFile(t *testing.T) {
	backends := startNameds(t, "b", 3)
	file := newInstanceFile(t, backends[0])
	cfg := faultConfig()
	cfg.Clusters["default"] = file.discovered()
	f := startCluster(t, cfg)
	require.Equal(t, "b0", f.answeredBy())
	stop := f.load()
	for _, next := range [][]*namedBackend{{backends[0], backends[1]}, {backends[1], backends[2]}, {backends[2]}, backends, {backends[0]}} {
		file.write(next...)
		want := make(map[string]bool)
		for _, b := range next {
			want[b.name] = true
		}
		require.Eventually(t, func() bool {
			got := make(map[string]bool)
			for range 12 {
				got[f.answeredBy()] = true
			}
			return maps.Equal(want, got)
		}, faultSafety, 5*time.Millisecond, "%v", want)
	}
	require.Positive(t, stop())
}

// What a health check says takes an instance out, and brings it back.
func TestClusterHealthCheck(t *testing.T) {
	well, ill := startNamed(t, "well", nil), startNamed(t, "ill", nil)
	f := startWith(t, func(c *conf.Cluster) { c.Health = checking() }, well, ill)
	requireAnswers := func(names ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			got := f.answers(20)
			return slices.Equal(names, slices.Sorted(maps.Keys(got)))
		}, faultSafety, 5*time.Millisecond, "%v", names)
	}
	requireAnswers("ill", "well")
	ill.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	requireAnswers("well")
	ill.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	requireAnswers("ill", "well")
}

func checking() *conf.Health {
	return &conf.Health{Check: &conf.HealthCheck{
		Interval: conf.Duration(100 * time.Millisecond), Timeout: conf.Duration(faultSafety), Unhealthy: 1, Healthy: 1,
	}}
}

// An instance whose calls fail is out for a while, and back then.
func TestClusterEjects(t *testing.T) {
	well, ill := startNamed(t, "well", nil), startNamed(t, "ill", nil)
	f := startWith(t, func(c *conf.Cluster) {
		c.Health = &conf.Health{Eject: &conf.Eject{
			Consecutive: 3, MinCalls: 20, Interval: conf.Duration(10 * time.Second), For: conf.Duration(500 * time.Millisecond), MaxPercent: 50,
		}}
	}, well, ill)
	ill.failing.Store(true)
	failed := 0
	require.Eventually(t, func() bool { // until it is out
		began := ill.began()
		for range 10 {
			if f.call(f.safe(), faultMethod, []byte("x")).code == codes.Unavailable {
				failed++
			}
		}
		return ill.began() == began
	}, faultSafety, time.Millisecond)
	assert.GreaterOrEqual(t, failed, 3)
	ill.failing.Store(false)
	require.Eventually(t, func() bool { return f.answeredBy() == "ill" }, faultSafety, 10*time.Millisecond, "it is back")
}

// insecureClient is a client of a plaintext listener.
func insecureClient(t testing.TB, target string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, append(faultDialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// Clients that give up are no fault of an instance's, unless it has had their whole
// request and owes them an answer.
func TestClusterEjectsWhoOwesAnAnswer(t *testing.T) {
	pass := proxy.WithInterceptors(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error { return next(ctx) })
	for name, opts := range map[string][]proxy.Option{"frames": nil, "streams": {pass}} {
		t.Run(name, func(t *testing.T) {
			silent := func(s *rawh2.Stream) { <-s.Context().Done() }
			cfg := faultConfig(startRaw(t, rawh2.Options{}, silent).Addr(), startRaw(t, rawh2.Options{}, silent).Addr())
			cfg.Clusters["default"].Health = &conf.Health{Eject: &conf.Eject{
				Consecutive: 3, MinCalls: 20, Interval: conf.Duration(time.Minute), For: conf.Duration(time.Hour), MaxPercent: 100,
			}}
			log, logged := withLog()
			f := startFaultProxy(t, cfg, append(opts, logged)...)
			client := f.dial(rawh2.Options{}) // which waits longer than it says
			timedOut := func(complete bool) {
				s, err := client.NewStream(append(rawh2.RequestFields(faultMethod, f.addr), rawh2.F("grpc-timeout", "20m")), false)
				require.NoError(t, err)
				_ = s.Data(rawh2.Frame(0, []byte("x")), complete) // the time may be over by now
				require.Equal(t, codes.DeadlineExceeded, f.result(s).code)
			}

			for range 6 { // three for each
				timedOut(false)
			}
			f.settles()
			require.NotContains(t, log.String(), "is taken out")
			for ctx := f.safe(); ctx.Err() == nil && !strings.Contains(log.String(), "failures in a row: 3"); {
				timedOut(true)
			}
			require.Contains(t, log.String(), "failures in a row: 3")
		})
	}
}
