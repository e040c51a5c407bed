package storm_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

func TestMain(m *testing.M) {
	handlertest.QuietKitex()
	goleak.VerifyTestMain(m, handlertest.LeakOptions()...)
}

const (
	reloads = 50
	// events is how often something happens to an instance.
	events = 80
	// fewest and most are how many instances a cluster has.
	fewest, most = 3, 7
	// warmUp is how long the traffic goes on before and after the storm, for what is
	// kept open to be open, and to see that all is well.
	warmUp = 500 * time.Millisecond
	// maxGrowth is how many bytes of heap the storm may leave behind.
	maxGrowth = 8 << 20
)

// duration is how long the storm lasts.
func duration(t *testing.T) time.Duration {
	text, set := os.LookupEnv("KITEXPROXY_STORM")
	if !set {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "KITEXPROXY_STORM")
	return d
}

func TestStorm(t *testing.T) {
	d := duration(t)
	s := newSetup(t)
	before := s.calm(warmUp)

	ctx, over := context.WithCancel(t.Context())
	defer over()
	traffic := s.startTraffic(ctx, 4)
	happened := make(chan map[string]int, 1)
	go func() { happened <- s.happen(ctx, d/(events+1)) }() // ends with ctx
	n := s.reloadAll(d)
	over()
	events := <-happened
	<-traffic

	after := s.calm(warmUp)
	t.Logf("storm of %v: %d calls (%s); %d reloads; instances: %s; heap %d KiB before, %d KiB after",
		d, s.traffic.calls.Load(), list(s.traffic.byKind), n, list(events), before>>10, after>>10)
	t.Logf("calls: %s", list(s.traffic.counts))
	require.Equal(t, reloads, n, "reloads")
	require.Empty(t, s.traffic.wrong, "calls that failed against the rule")
	require.Positive(t, s.traffic.counts[byKill], "no call was hit: the storm proves nothing")
	require.Less(t, int64(after)-int64(before), int64(maxGrowth), "bytes of heap left behind")
}

// list returns counts on a line.
func list[K ~string](counts map[K]int) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s: %d", k, counts[k]))
	}
	return strings.Join(all, ", ")
}

// setup is a proxy and the traffic through it.
type setup struct {
	t       *testing.T
	p       *proxy.Proxy
	fleet   *fleet
	traffic *traffic
}

// newSetup runs a proxy until the test ends.
func newSetup(t *testing.T) *setup {
	s := &setup{t: t, fleet: newFleet(t)}
	s.traffic = &traffic{t: t, fleet: s.fleet, counts: make(map[verdict]int), byKind: make(map[string]int)}
	for _, cluster := range clusters {
		for range fewest + 1 {
			s.fleet.add(cluster)
		}
		s.fleet.publish(cluster)
	}
	log := io.Discard
	if os.Getenv("STORM_LOG") != "" {
		log = os.Stderr
	}
	opts := []proxy.Option{
		proxy.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())),
	}
	for _, k := range kinds { // so that mode: struct has something to decode for
		opts = append(opts, proxy.WithFilters(filter.For[echo.EchoRequest, echo.EchoReply](k.method()).OnRequest(
			func(_ context.Context, _ *filter.Call, _ *echo.EchoRequest) filter.Verdict { return filter.Changed })))
	}
	var err error
	s.p, err = proxy.New(s.config(0), opts...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.p.Run(ctx) }() // ends with the test
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ran)
	})
	select {
	case <-s.p.Ready():
	case err := <-ran:
		ran <- err
		require.FailNow(t, "the proxy did not start", err)
	}
	return s
}

// config returns the nth configuration: routes in another order, with other modes and
// weights, and clusters that balance in another way.
func (s *setup) config(n int) *conf.Config {
	modes := []string{
		"mode: frame",
		"mode: struct",
		"mode: dynamic\n    schema: echo\n    rules: [{name: look, on: request, if: 'message.count >= 0', metadata: {set: {x-looked: '\"yes\"'}}}]",
	}
	var text strings.Builder
	text.WriteString("listeners: [{address: '127.0.0.1:0'}]\nschemas: {echo: {files: [../../idl/echo.proto]}}\nclusters:\n")
	balance := []string{"round_robin", "least_active", "random", "hash, hash_on: {metadata: " + callKey + "}"}
	for i, cluster := range clusters {
		_, _ = fmt.Fprintf(&text, "  %s: {discovery: {file: '%s'}, balance: %s, connections: %d}\n",
			cluster, s.fleet.file(cluster), balance[(n/2+i)%len(balance)], 1+n%4)
	}
	text.WriteString("routes:\n")
	for i, way := range ways {
		_, _ = fmt.Fprintf(&text, "  - match: {service: kitexproxy.echo.v1.Echo, metadata: [{key: %s, exact: %s}]}\n    %s\n", wayKey, way, modes[(i+n)%len(modes)])
		if (i+n)%2 == 0 {
			_, _ = fmt.Fprintf(&text, "    cluster: %s\n", clusters[n%len(clusters)])
		} else {
			_, _ = fmt.Fprintf(&text, "    split: [{cluster: main, weight: %d}, {cluster: other, weight: %d}]\n", n%5, 1+n%3)
		}
	}
	cfg, err := conf.Parse("storm.yaml", []byte(text.String()))
	require.NoError(s.t, err, "%s", &text)
	if transport := os.Getenv("KITEXPROXY_TEST_TRANSPORT"); transport != "" {
		cfg.Transport = transport
	}
	return cfg
}

// startTraffic makes calls until ctx ends. The channel is closed when the last one has
// ended.
func (s *setup) startTraffic(ctx context.Context, clients int) <-chan struct{} {
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		s.traffic.run(ctx, s.p.Addrs()[0].String(), clients, 4)
	}()
	return ended
}

// calm has traffic for a while, and returns how many bytes of heap are in use when it
// has ended and nothing of it is left.
func (s *setup) calm(d time.Duration) uint64 {
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	<-s.startTraffic(ctx, 4)
	require.Eventually(s.t, func() bool {
		stats := s.p.Stats()
		return stats.ActiveCalls == 0 && stats.BackendStreams == 0
	}, patience, time.Millisecond, "calls are left: %+v", s.p.Stats())
	s.fleet.forgetAll()
	for range 2 { // pools let go of what they have at the second time
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// reloadAll changes the configuration again and again in the course of d, and returns
// how often. It may take longer.
func (s *setup) reloadAll(d time.Duration) int {
	begun := time.Now()
	for n := range reloads {
		time.Sleep(time.Until(begun.Add(d * time.Duration(n+1) / (reloads + 1)))) // as a storm has its course
		if !assert.NoError(s.t, s.p.Reload(s.t.Context(), s.config(n+1)), "reload %d", n+1) {
			return n
		}
	}
	time.Sleep(time.Until(begun.Add(d)))
	return reloads
}

// happen has something happen to an instance at even distances until ctx ends, and
// returns what has, how often.
func (s *setup) happen(ctx context.Context, pause time.Duration) map[string]int {
	counts := make(map[string]int)
	for rest(ctx, pause) {
		cluster := clusters[rand.IntN(len(clusters))]
		there := s.fleet.present(cluster)
		in := there[rand.IntN(len(there))]
		what := []string{"killed", "stopped", "stopped after discovery was told", "slow", "added", "added"}[rand.IntN(6)]
		switch {
		case len(there) >= most && what == "added", len(there) <= fewest && what != "slow" && what != "added":
			continue
		case what == "killed":
			in.awaitCall(ctx, 2*pause) // the end of an idle instance hits nobody
			s.fleet.kill(in)
			rest(ctx, pause/2) // discovery is not as fast
		case what == "stopped":
			s.fleet.stop(in)
			rest(ctx, pause/2)
		case what == "stopped after discovery was told":
			s.fleet.take(in)
			s.fleet.publish(cluster)
			rest(ctx, pause/2)
			s.fleet.stop(in)
		case what == "added":
			s.fleet.add(cluster)
		case what == "slow":
			in.slow.Store(!in.slow.Load())
		}
		s.fleet.publish(cluster)
		counts[what]++
	}
	return counts
}

// rest waits, and reports false if ctx ends before.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
