package proxy_test

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// exchangeOn sends a message on an open stream, and receives it.
func exchangeOn(t testing.TB, s grpc.ClientStream, text string) {
	t.Helper()
	b := []byte(text)
	require.NoError(t, s.SendMsg(&b))
	var got []byte
	require.NoError(t, s.RecvMsg(&got))
	require.Equal(t, text, string(got))
}

// endOn half-closes a stream that has nothing more to come, and checks its end.
func endOn(t testing.TB, s grpc.ClientStream) {
	t.Helper()
	require.NoError(t, s.CloseSend())
	rest, err := receiveAll(s)
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestReloadIsForNewCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		one, two := startNamed(t, "one", nil), startNamed(t, "two", nil)
		cfg := faultConfig(one.addr)
		cfg.Transport = transport
		f := startCluster(t, cfg)
		open := f.stream()
		exchangeOn(t, open, "before")

		next := faultConfig(two.addr)
		next.Transport = transport
		f.reload(next)
		require.Equal(t, "two", f.answeredBy())
		exchangeOn(t, open, "after")
		endOn(t, open)
		header, err := open.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"one"}, header.Get(namedHeader))
		f.lives()
	})
}

// Connections to backends whose cluster is as it was stay, and so do those of one whose
// TLS and instances are.
func TestReloadKeepsConnections(t *testing.T) {
	ca := securetest.NewAuthority(t)
	plain, encrypted := startNamed(t, "plain", nil), startNamed(t, "encrypted", serverTLS(t, ca))
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	securetest.WriteFile(t, caFile, ca.PEM())
	config := func() *conf.Config {
		cfg := faultConfig(plain.addr)
		cfg.Clusters["encrypted"] = &conf.Cluster{Instances: []string{encrypted.addr}, Connections: 1, TLS: &conf.ClusterTLS{CA: caFile}}
		cfg.Routes = []conf.Route{{
			Match:  conf.Match{Metadata: []conf.MetadataMatch{{Key: "to", Prefix: "encrypted"}}},
			Action: conf.Action{Cluster: "encrypted", Mode: conf.ModeFrame},
		}}
		return cfg
	}
	f := startCluster(t, config())
	askBoth := func() {
		require.Equal(t, "plain", f.answeredBy())
		require.Equal(t, "encrypted", f.answeredBy("to", "encrypted"))
	}
	askBoth()
	for range 3 {
		next := config()
		next.Clusters["encrypted"].Balance = conf.BalanceRandom
		next.Clusters["encrypted"].Limits.Calls = 7
		f.reload(next)
		askBoth()
		f.reload(config())
		askBoth()
	}
	assert.Len(t, plain.from(), 1)
	assert.Len(t, encrypted.from(), 1)
}

// A cluster that is as it was is the same one: what is under way in it counts on.
func TestReloadSharesClusters(t *testing.T) {
	b := startNamed(t, "b", nil)
	config := func(limit int) *conf.Config {
		cfg := faultConfig(b.addr)
		cfg.Clusters["default"].Limits.Calls = limit
		return cfg
	}
	f := startCluster(t, config(1))
	open := f.stream()
	exchangeOn(t, open, "before")
	f.reload(config(1))
	requireFailure(t, f.call(f.safe(), faultMethod, []byte("x")), codes.ResourceExhausted, stream.Overloaded)
	f.reload(config(2)) // is another one
	require.Equal(t, "b", f.answeredBy())
	endOn(t, open)
}

// moving are two configurations of the cluster "default", whose instances and whose
// encryption differ. Its instances are called plain and encrypted.
func moving(t *testing.T) (before, after func() conf.Cluster) {
	ca := securetest.NewAuthority(t)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	securetest.WriteFile(t, caFile, ca.PEM())
	plain, encrypted := startNamed(t, "plain", nil), startNamed(t, "encrypted", serverTLS(t, ca))
	before = func() conf.Cluster { return conf.Cluster{Connections: 4, Instances: []string{plain.addr}} }
	after = func() conf.Cluster {
		return conf.Cluster{Connections: 4, Instances: []string{encrypted.addr}, TLS: &conf.ClusterTLS{CA: caFile}}
	}
	return before, after
}

func TestReloadOfAddressesAndTLSLosesNoCall(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		before, after := moving(t)
		config := func(c conf.Cluster) *conf.Config {
			cfg := faultConfig()
			cfg.Transport = transport
			cfg.Clusters["default"] = &c
			return cfg
		}
		f := startCluster(t, config(before()))
		stop := f.load()
		for range 5 {
			f.reload(config(after()))
			require.Equal(t, "encrypted", f.answeredBy())
			f.reload(config(before()))
			require.Equal(t, "plain", f.answeredBy())
		}
		require.Positive(t, stop())
	})
}

// A call that began before its cluster changed, or went, may ask for its instance long
// after: when its first message has come.
func TestReloadOfAddressesAndTLSBeforeTheFirstMessage(t *testing.T) {
	before, after := moving(t)
	config := func(c conf.Cluster) *conf.Config {
		hashing(conf.HashOn{Field: "message"})(&c)
		cfg := faultConfig()
		cfg.Clusters["default"] = &c
		cfg.Default = nil
		cfg.Schemas = map[string]*conf.Schema{"echo": {Files: []string{"../idl/echo.proto"}}}
		cfg.Routes = []conf.Route{{
			Match:  conf.Match{Service: "kitexproxy.echo.v1.Echo"},
			Action: conf.Action{Cluster: "default", Mode: conf.ModeDynamic, Schema: "echo"},
		}}
		return cfg
	}
	f := startCluster(t, config(before()))
	open := func(standing int) grpc.ClientStream {
		s, err := f.client.NewStream(f.safe(), bidi, echoPrefix+"Chat")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return f.p.Stats().ActiveCalls == standing }, faultSafety, time.Millisecond)
		return s
	}
	requireFrom := func(name string, s grpc.ClientStream) {
		t.Helper()
		b := encoded(t, &echo.EchoRequest{Message: "late"})
		require.NoError(t, s.SendMsg(&b))
		require.NoError(t, s.CloseSend())
		_, err := receiveAll(s)
		require.NoError(t, err)
		header, err := s.Header()
		require.NoError(t, err)
		require.Equal(t, []string{name}, header.Get(namedHeader))
	}
	first := open(1)
	f.reload(config(after()))
	second, third := open(2), open(3)
	requireFrom("encrypted", second)
	requireFrom("plain", first)
	gone := faultConfig()
	gone.Clusters, gone.Default = map[string]*conf.Cluster{}, nil
	f.reload(gone)
	requireFrom("encrypted", third)
}

// A configuration that cannot be used changes nothing, and leaves nothing running.
func TestReloadThatFails(t *testing.T) {
	one, two := startNamed(t, "one", nil), startNamed(t, "two", nil)
	f := startCluster(t, faultConfig(one.addr))
	require.Equal(t, "one", f.answeredBy()) // which opens the connections that stay
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	fresh := loopback.Free(t)
	for name, test := range map[string]struct {
		adapt func(*conf.Config)
		says  string
	}{
		"not valid": {func(c *conf.Config) { c.Default.Cluster = "nowhere" }, `"nowhere"`},
		"TLS files": {func(c *conf.Config) {
			c.Clusters["default"].TLS = &conf.ClusterTLS{CA: "/nowhere/ca.pem"}
		}, "clusters.default.tls: /nowhere/ca.pem"},
		"registry": {func(c *conf.Config) {
			c.Clusters["default"] = &conf.Cluster{
				Connections: 1, Discovery: &conf.Discovery{Registry: "nacos", Service: "x", Refresh: conf.Duration(time.Hour)},
			}
		}, `no registry "nacos"`},
		"mode": {func(c *conf.Config) {
			c.Routes = []conf.Route{{
				Match:  conf.Match{Service: "kitexproxy.echo.v1.Echo"},
				Action: conf.Action{Cluster: "default", Mode: conf.ModeStruct},
			}}
		}, "no types for service kitexproxy.echo.v1.Echo"},
		"a listener in use": {func(c *conf.Config) {
			c.Listeners = append(c.Listeners, conf.Listener{Address: fresh}, conf.Listener{Address: taken.Addr().String()})
		}, "cannot listen on " + taken.Addr().String() + ": the address is in use"},
		"a listener's TLS files": {func(c *conf.Config) {
			c.Listeners = append(c.Listeners, conf.Listener{Address: fresh, TLS: &conf.ListenerTLS{
				Certificates: []conf.Certificate{{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem"}},
			}})
		}, "/nowhere/cert.pem"},
		"a listener, and then a cluster": {func(c *conf.Config) {
			c.Listeners = append(c.Listeners, conf.Listener{Address: fresh})
			c.Clusters["default"].TLS = &conf.ClusterTLS{CA: "/nowhere/ca.pem"}
		}, "/nowhere/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := faultConfig(two.addr)
			test.adapt(cfg)
			goroutines := settledGoroutines()
			err := f.p.Reload(f.safe(), f.complete(cfg))
			require.ErrorContains(t, err, test.says)
			require.Equal(t, "one", f.answeredBy())
			require.Len(t, f.p.Addrs(), 1)
			require.Eventually(t, func() bool { return settledGoroutines() <= goroutines+1 }, // the one that asks
				faultSafety, time.Millisecond, "%v", lazyStacks{})
			_, err = net.Dial("tcp", fresh)
			require.Error(t, err, "a listener of a configuration that is not in use")
		})
	}
}

func TestReloadOfListeners(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startNamed(t, "b", nil)
		first, second := loopback.Free(t), "unix://"+filepath.Join(t.TempDir(), "proxy.sock")
		config := func(addresses ...string) *conf.Config {
			cfg := faultConfig(b.addr)
			cfg.Transport = transport
			cfg.Listeners = nil
			for _, a := range addresses {
				cfg.Listeners = append(cfg.Listeners, conf.Listener{Address: a})
			}
			return cfg
		}
		f := startCluster(t, config(first))
		stop := f.load()
		for range 3 {
			f.reload(config(first, second))
			require.Len(t, f.p.Addrs(), 2)
			other := insecureClient(t, second)
			s, err := other.NewStream(f.safe(), bidi, faultMethod)
			require.NoError(t, err)
			exchangeOn(t, s, "before")

			f.reload(config(first))
			require.Len(t, f.p.Addrs(), 1)
			exchangeOn(t, s, "its listener is gone")
			endOn(t, s)
			_, err = net.Dial("unix", second[len("unix://"):])
			require.Error(t, err)
		}
		require.Positive(t, stop())
	})
}

// Filters in Go and rules are of the configuration that a call began with.
func TestReloadOfModes(t *testing.T) {
	shout := structChat.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
		m.Message += "!"
		return filter.Changed
	})
	b := startNamed(t, "b", nil)
	config := func(mode conf.Mode) *conf.Config {
		cfg := faultConfig(b.addr)
		cfg.Routes = []conf.Route{
			{
				Match:  conf.Match{Service: "kitexproxy.echo.v1.Echo", Metadata: []conf.MetadataMatch{{Key: "never", Prefix: "x"}}},
				Action: conf.Action{Cluster: "default", Mode: conf.ModeStruct},
			},
			{Match: conf.Match{Service: "kitexproxy.echo.v1.Echo"}, Action: conf.Action{Cluster: "default", Mode: mode}},
		}
		if mode == conf.ModeDynamic {
			cfg.Schemas = map[string]*conf.Schema{"echo": {Files: []string{"../idl/echo.proto"}}}
			cfg.Routes[1].Schema = "echo"
			cfg.Routes[1].Rules = []conf.Rule{{Name: "ask", On: conf.OnRequest, Set: map[string]string{"message": "message.message + '?'"}}}
		}
		return cfg
	}
	f := startCluster(t, config(conf.ModeFrame), proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())), proxy.WithFilters(shout))
	open := func() structCall {
		s, err := f.client.NewStream(f.safe(), bidi, echoPrefix+"Chat")
		require.NoError(t, err)
		c := structCall{t, s}
		c.say("hello")
		return c
	}
	calls := []struct {
		mode  conf.Mode
		hears string
		call  structCall
	}{{mode: conf.ModeFrame, hears: "hello"}, {mode: conf.ModeStruct, hears: "hello!"}, {mode: conf.ModeDynamic, hears: "hello?"}}
	for i := range calls {
		f.reload(config(calls[i].mode))
		calls[i].call = open()
		require.Equal(t, calls[i].hears, calls[i].call.hear())
	}
	for _, c := range calls {
		c.call.say("hello")
		require.Equal(t, c.hears, c.call.hear())
		require.Equal(t, codes.OK, c.call.end().code)
	}
}

// What is known of instances outlives a change of their cluster.
func TestReloadKeepsWhatIsKnownOfInstances(t *testing.T) {
	well, ill := startNamed(t, "well", nil), startNamed(t, "ill", nil)
	file := newInstanceFile(t, well, ill)
	config := func(balance string) *conf.Config {
		cfg := faultConfig()
		cfg.Clusters["default"] = file.discovered()
		cfg.Clusters["default"].Balance, cfg.Clusters["default"].Health = balance, checking()
		return cfg
	}
	f := startCluster(t, config(""))
	ill.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	require.Eventually(t, func() bool { return f.answers(20)["ill"] == 0 }, faultSafety, 5*time.Millisecond)
	securetest.WriteFile(t, file.path, []byte("{nonsense"))
	for _, balance := range []string{conf.BalanceRandom, conf.BalanceLeastActive} {
		f.reload(config(balance))
		require.Equal(t, map[string]int{"well": 20}, f.answers(20), "the file cannot be read now")
	}
	seldom := config(conf.BalanceLeastActive)
	seldom.Clusters["default"].Discovery.Refresh = conf.Duration(2 * time.Hour)
	f.reload(seldom)
	require.Equal(t, map[string]int{"well": 20}, f.answers(20), "it is the same file, however often it is read")
	ill.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	require.Eventually(t, func() bool { return f.answers(20)["ill"] > 0 }, faultSafety, 5*time.Millisecond, "it is back")
}

// An instance that a reload adds is new, and those that were there are not.
func TestReloadStartsNewInstancesSlowly(t *testing.T) {
	old, added := startNamed(t, "old", nil), startNamed(t, "added", nil)
	config := func(addresses ...string) *conf.Config {
		cfg := faultConfig()
		cfg.Clusters["default"] = conf.NewCluster(addresses...)
		cfg.Clusters["default"].Health = &conf.Health{SlowStart: conf.Duration(time.Hour)}
		return cfg
	}
	f := startCluster(t, config(old.addr))
	f.reload(config(old.addr, added.addr))
	instances := f.p.Clusters()[0].Instances
	require.InDelta(t, 1, instances[0].Share, 1e-6)
	require.InDelta(t, 0.1, instances[1].Share, 0.05)
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	b := startNamed(t, "b", nil)
	log, option := withLog()
	f := startCluster(t, faultConfig(b.addr), option)
	next := func() *conf.Config {
		cfg := faultConfig(b.addr)
		cfg.Limits.Connections, cfg.Timeouts.Shutdown, cfg.Log.Format = 7, conf.Duration(time.Second), "json"
		return cfg
	}
	f.reload(next())
	const settings = "timeouts.shutdown, limits.connections, log.format"
	assert.Contains(t, log.String(), settings)

	same := log.String()
	f.reload(next())
	assert.Contains(t, log.String()[len(same):], settings, "they still do")

	same = log.String()
	f.reload(faultConfig(b.addr))
	assert.NotContains(t, log.String()[len(same):], "settings=", "all is as at the start")
}

func TestReloadTooEarlyOrTooLate(t *testing.T) {
	b := startNamed(t, "b", nil)
	cfg := faultConfig(b.addr)
	p, err := proxy.New(cfg, proxy.WithLogger(faultLogger()))
	require.NoError(t, err)
	require.ErrorContains(t, p.Reload(t.Context(), cfg), "not ready")
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }() // ends with ctx
	<-p.Ready()
	require.NoError(t, p.Reload(t.Context(), cfg))
	cancel()
	require.NoError(t, <-ran)
	require.ErrorContains(t, p.Reload(t.Context(), cfg), "stopped")
}

// The end of the proxy does not wait for what a reload waits for.
func TestReloadWhileTheProxyEnds(t *testing.T) {
	f := startCluster(t, faultConfig(startNamed(t, "b", nil).addr))
	next := faultConfig()
	next.Timeouts.Connect = conf.Duration(time.Hour)
	next.Clusters["default"] = &conf.Cluster{
		Connections: 1, Discovery: &conf.Discovery{File: filepath.Join(t.TempDir(), "nothing.yaml"), Refresh: conf.Duration(time.Hour)},
	}
	next.Listeners = append(next.Listeners, conf.Listener{Address: loopback.Free(t)})
	reloaded := make(chan error, 1)
	go func() { reloaded <- f.p.Reload(context.Background(), f.complete(next)) }() // ends with the proxy
	require.Eventually(t, func() bool {                                            // it has bound the new listener
		nc, err := net.Dial("tcp", next.Listeners[1].Address)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	}, faultSafety, time.Millisecond)
	require.NoError(t, f.stop())
	require.Error(t, <-reloaded)
	_, err := net.Dial("tcp", next.Listeners[1].Address)
	require.Error(t, err)
}

func TestConcurrentReloads(t *testing.T) {
	one, two := startNamed(t, "one", nil), startNamed(t, "two", nil)
	f := startCluster(t, faultConfig(one.addr))
	extra := loopback.Free(t)
	stop := f.load()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				b := one
				if (i+j)%2 == 0 {
					b = two
				}
				cfg := faultConfig(b.addr)
				if i%2 == 0 {
					cfg.Listeners = append(cfg.Listeners, conf.Listener{Address: extra})
				}
				assert.NoError(t, f.p.Reload(f.safe(), f.complete(cfg)))
			}
		})
	}
	all.Wait()
	require.Positive(t, stop())
	f.reload(faultConfig(two.addr))
	require.Equal(t, "two", f.answeredBy())
	require.Len(t, f.p.Addrs(), 1)
}

// A relay in a Kitex server of somebody's own can be reloaded as well.
func TestRelayReload(t *testing.T) {
	one, two := startNamed(t, "one", nil), startNamed(t, "two", nil)
	relay, err := proxy.NewRelay(faultConfig(one.addr), proxy.WithLogger(faultLogger()))
	require.NoError(t, err)
	require.NoError(t, relay.Reload(t.Context(), faultConfig(two.addr)))
	require.ErrorContains(t, relay.Reload(t.Context(), &conf.Config{}), "clusters")
	relay.Shutdown(t.Context())
	require.ErrorContains(t, relay.Reload(t.Context(), faultConfig(one.addr)), "stopped")
}
