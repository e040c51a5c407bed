package conf

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

func TestSimple(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "unix:///run/echo.sock")
	require.NoError(t, err)
	want := Default()
	want.Listeners = []Listener{{Address: "127.0.0.1:8888"}}
	want.Clusters = map[string]*Cluster{"default": {
		Instances: []string{"unix:///run/echo.sock"}, Balance: BalanceRoundRobin, Connections: 4,
	}}
	want.Default = &Action{Cluster: "default", Mode: ModeFrame, Undecodable: UndecodableReject}
	require.Equal(t, want, c)

	c, err = Simple("8888", "localhost")
	require.Nil(t, c)
	require.EqualError(t, err, `listeners[0].address: "8888" has no port; write "host:port", ":port" or "unix:///path/to/socket"
clusters.default.instances[0]: "localhost" has no port; write "host:port" or "unix:///path/to/socket"`)
}

func TestDefaultIsNotShared(t *testing.T) {
	Default().Log.Level = "debug"
	require.Equal(t, "info", Default().Log.Level)
}

func TestDefaultLacksOnlyAddresses(t *testing.T) {
	require.EqualError(t, Default().Validate(), strings.Join([]string{
		`listeners: at least one is needed; add one, such as "- address: 127.0.0.1:8888"`,
		`clusters: at least one is needed; name the backends that answer calls, as conf/proxy.yaml does`,
		`routes: there are neither routes nor a default, so that no call could be answered; add a default with the name of a cluster`,
	}, "\n"))
}

// What YAML cannot express, or expresses otherwise: the rest of the checks has
// its cases in testdata.
func TestValidateConfigBuiltInGo(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nil cluster": {
			func(c *Config) { c.Clusters["default"] = nil },
			`clusters.default: must not be nil`,
		},
		"zero cluster": {
			func(c *Config) { c.Clusters["default"] = &Cluster{} },
			`clusters.default.instances: at least one is needed; add one, such as "- 127.0.0.1:9000"
clusters.default.connections: "0" is not from 1 to 64`,
		},
		"zero action": {
			func(c *Config) { c.Default = &Action{} },
			`default.cluster: must not be empty; clusters: default
default.mode: must not be empty; valid values: frame, struct, dynamic`,
		},
		"no mode": {
			func(c *Config) { c.Default.Mode = "" },
			`default.mode: must not be empty; valid values: frame, struct, dynamic`,
		},
		"negative message limit": {
			func(c *Config) { c.Default.MessageLimit = -1 },
			`default.message_limit: "-1B" is not from 0 to 4294967295B`,
		},
		"undecodable": {
			func(c *Config) { c.Default.Undecodable = "drop" },
			`default.undecodable: "drop" is not valid; valid values: reject, forward`,
		},
		"nil and zero schemas": {
			func(c *Config) { c.Schemas = map[string]*Schema{"a": nil, "b": {}, "c": {Reflection: &Reflection{}}} },
			`schemas.a: must not be nil
schemas.b: has nowhere to take types from; add files, descriptor_set or reflection
schemas.c.reflection.cluster: must not be empty; clusters: default`,
		},
		"blank schema": {
			func(c *Config) {
				c.Schemas = map[string]*Schema{"a": {DescriptorSet: " ", Reflection: &Reflection{Cluster: "default", Refresh: -1}}}
			},
			`schemas.a.descriptor_set: must not be empty; write the path of a file
schemas.a.reflection.refresh: "-1ns" is not from 1s to 720h; 0 is never
schemas.a: has descriptor_set and reflection; keep one, and give the other a schema of its own`,
		},
		"dynamic without a schema": {
			func(c *Config) { c.Default.Mode = ModeDynamic },
			`default.schema: is needed with mode: dynamic, and there are no schemas; add one under schemas, as conf/proxy.yaml does`,
		},
		"zero rule": {
			func(c *Config) {
				c.Schemas = map[string]*Schema{"a": {Files: []string{"a.proto"}}}
				c.Default.Mode, c.Default.Schema, c.Default.Rules = ModeDynamic, "a", make([]Rule, 1)
			},
			`default.rules[0].name: must not be empty; write a name that no other rule of the route has
default.rules[0].on: must not be empty; valid values: start, request, header, response, end
default.rules[0]: does nothing; add reject, drop, set, clear, redact, metadata or cluster`,
		},
		"blank text in a rule, maps in order": {
			func(c *Config) {
				c.Schemas = map[string]*Schema{"a": {Files: []string{"a.proto"}}}
				c.Default.Mode, c.Default.Schema = ModeDynamic, "a"
				c.Default.Rules = []Rule{{
					Name: "a", On: OnRequest, If: "\n", Cluster: " ",
					Set: map[string]string{"b": "", "a.b": "", "": ""}, Redact: []string{""},
				}}
			},
			`default.rules[0].if: must not be empty; write a condition in CEL, or remove it
default.rules[0].cluster: must not be empty; write an expression in CEL
default.rules[0].set."": is not the path of a field; write one such as "name" or "user.name"
default.rules[0].set."a.b": must not be empty; write an expression in CEL
default.rules[0].set.b: must not be empty; write an expression in CEL
default.rules[0].redact[0]: is not the path of a field; write one such as "name" or "user.name"`,
		},
		"zero sections of a cluster": {
			func(c *Config) {
				c.Clusters["default"] = &Cluster{
					Discovery: &Discovery{Etcd: &Etcd{}}, Balance: BalanceHash, HashOn: &HashOn{}, Connections: 1,
					Health: &Health{Check: &HealthCheck{}, Eject: &Eject{}}, TLS: &ClusterTLS{},
				}
			},
			`clusters.default.discovery.etcd.endpoints: at least one is needed; add one, such as "- 127.0.0.1:2379"
clusters.default.discovery.service: is needed with etcd and registry; write the name that the instances are registered under
clusters.default.discovery.refresh: "0" is not from 1s to 24h
clusters.default.hash_on: has none of metadata, field and peer; add one of them
clusters.default.health.check.interval: "0" is not from 100ms to 1h
clusters.default.health.check.timeout: "0" is not more than 0; write a number with a unit, such as "250ms", "10s" or "5m"
clusters.default.health.check.unhealthy: "0" is not from 1 to 100
clusters.default.health.check.healthy: "0" is not from 1 to 100
clusters.default.health.eject.min_calls: "0" is not from 1 to 100000
clusters.default.health.eject.interval: "0" is not from 1s to 1h
clusters.default.health.eject.for: "0" is not from 100ms to 1h`,
		},
		"zero sections of an action": {
			func(c *Config) {
				c.Default.Split, c.Default.Mirror, c.Default.Retry = []WeightedCluster{{}}, &Mirror{}, &Retry{}
				c.Default.Cluster = ""
				c.Routes = []Route{{Match: Match{Metadata: []MetadataMatch{{}}}, Action: Action{Cluster: "default", Mode: ModeFrame}}}
			},
			`routes[0].match.metadata[0].key: must not be empty; write a key of metadata
default.split[0].cluster: must not be empty; clusters: default
default.mirror.cluster: must not be empty; clusters: default
default.retry.codes: at least one is needed; add one, such as UNAVAILABLE
default.retry.attempts: "0" is not from 2 to 10`,
		},
		"nil and zero interceptors": {
			func(c *Config) {
				c.Interceptors = map[string]*Interceptor{
					"a": nil, "b": {}, "c": {JWT: &JWT{}}, "d": {RateLimit: &RateLimit{}}, "e": {ConcurrencyLimit: &ConcurrencyLimit{}},
					"f": {MTLS: &MTLS{}}, "g": {APIKeys: &APIKeys{Keys: []APIKey{{}}}}, "h": {RequestID: &RequestID{}},
				}
			},
			`interceptors.a: must not be nil
interceptors.b: has none of api_keys, jwt, mtls, authorize, request_id, rate_limit and concurrency_limit; add one of them
interceptors.c.jwt.header: must not be empty; write a key of metadata
interceptors.c.jwt.jwks.refresh: "0" is not from 1s to 24h
interceptors.c.jwt.issuer: must not be empty; write what tokens have as iss, or any to take those of whoever has one of the keys
interceptors.c.jwt.algorithms: at least one is needed; add one, such as RS256
interceptors.c.jwt.identity: must not be empty; write the name of a claim
interceptors.d.rate_limit.per: "0" is not from 1ms to 24h
interceptors.d.rate_limit.key: must not be empty; valid values: all, identity, peer, method, "metadata:KEY"
interceptors.d.rate_limit.keys: "0" is not from 1 to 1000000
interceptors.e.concurrency_limit.calls: "0" is not from 1 to 2147483647
interceptors.e.concurrency_limit.key: must not be empty; valid values: all, identity, peer, method, "metadata:KEY"
interceptors.e.concurrency_limit.keys: "0" is not from 1 to 1000000
interceptors.f.mtls.identity: must not be empty; valid values: san-uri, san-dns, common-name, fingerprint
interceptors.g.api_keys.header: must not be empty; write a key of metadata
interceptors.g.api_keys.keys[0].name: must not be empty; write who has the key
interceptors.g.api_keys.keys[0].sha256: must not be empty; write what "printf %s KEY | sha256sum" prints
interceptors.h.request_id.header: must not be empty; write a key of metadata`,
		},
		"rates that cannot be counted": {
			func(c *Config) {
				rate := RateLimit{Key: LimitKeyAll, Keys: 1}
				fast, slow, fine := rate, rate, rate
				fast.Messages, fast.Per = 2_000_000, Duration(time.Millisecond)
				slow.Calls, slow.Messages, slow.Per, slow.Burst = 1, 1, Duration(24*time.Hour), 366
				fine.Calls, fine.Per, fine.Burst = 1, Duration(24*time.Hour), 365
				c.Interceptors = map[string]*Interceptor{"fast": {RateLimit: &fast}, "fine": {RateLimit: &fine}, "slow": {RateLimit: &slow}}
			},
			`interceptors.fast.rate_limit.messages: "2000000" in 1ms is more than one in a nanosecond, which is no limit; write less, or a longer per
interceptors.slow.rate_limit.burst: "366" takes more than a year to come back, at 1 in 24h; write less`,
		},
		"secrets": {
			func(c *Config) {
				c.Interceptors = map[string]*Interceptor{"a": {APIKeys: &APIKeys{Header: "a", Keys: []APIKey{{"a", "a-plain-key"}}}}}
				c.Tracing = &Tracing{
					OTLP:        OTLP{Endpoint: "http://a:1", Protocol: OTLPGRPC, Timeout: 1, Headers: map[string]Secret{"a": "a-secret\n"}},
					ServiceName: "a", Queue: 1,
				}
			},
			`interceptors.a.api_keys.keys[0].sha256: is not a SHA-256 in 64 hexadecimal digits; keys themselves do not belong here; write what "printf %s KEY | sha256sum" prints
tracing.otlp.headers.a: has characters that are not printable ASCII; write base64 under a key that ends in -bin`,
		},
		"zero HTTP": {
			func(c *Config) {
				c.HTTP = &HTTP{Gateway: &Gateway{Envelope: &Envelope{}}, Functions: &Functions{Routes: map[string]*Function{"a": nil, "b": {}}}}
			},
			`http.listeners: at least one is needed; add one, such as "- address: 127.0.0.1:8080"
http.gateway.schemas: at least one is needed; add its name, and the schema under schemas, as conf/proxy.yaml does
http.gateway.envelope.status: must not be empty; valid values: mapped, ok
http.gateway.body_limit: "0" is not from 1B to 4294967295B
http.gateway.websocket.message_limit: "0" is not from 1B to 4294967295B
http.functions.prefix: must not be empty; write one that ends with "/", such as "/function/"
http.functions.timeout: "0" is not more than 0; write a number with a unit, such as "250ms", "10s" or "5m"
http.functions.routes.a: must not be nil
http.functions.routes.b: has none of url, cluster and method; add one of them`,
		},
		"buckets that are no numbers": {
			func(c *Config) { c.Metrics = Metrics{Methods: 1, Buckets: []float64{math.NaN(), math.Inf(1)}} },
			`metrics.buckets[0]: "NaN" is not more than 0 and up to 86400; write seconds, such as 0.025
metrics.buckets[1]: "+Inf" is not more than 0 and up to 86400; write seconds, such as 0.025`,
		},
		"no number": {
			func(c *Config) { c.Default.Mirror = &Mirror{Cluster: "default", Percent: math.NaN()} },
			`default.mirror.percent: "NaN" is not from 0 to 100`,
		},
		"zero TLS of a listener": {
			func(c *Config) { c.Listeners[0].TLS = &ListenerTLS{} },
			`listeners[0].tls.certificates: at least one is needed; add one, with cert and key`,
		},
		"zero timeouts": {
			func(c *Config) { c.Timeouts = Timeouts{} },
			`timeouts.connect: "0" is not more than 0; write a number with a unit, such as "250ms", "10s" or "5m"
timeouts.keepalive: "0" is not from 1s to 24h`,
		},
		"negative timeouts": {
			func(c *Config) {
				c.Timeouts = Timeouts{Connect: -1, Shutdown: Duration(-time.Second), Keepalive: -3, IdleConnection: -2}
				c.Default.Timeout = Duration(-time.Minute)
			},
			`default.timeout: "-1m" is not from 0 to 720h
timeouts.connect: "-1ns" is not from 0 to 1h
timeouts.shutdown: "-1s" is not from 0 to 24h
timeouts.keepalive: "-3ns" is not from 1s to 24h
timeouts.idle_connection: "-2ns" is not from 0 to 24h`,
		},
		"zero limits": {
			func(c *Config) { c.Limits = Limits{} },
			`limits.header_list: "0" is not from 4KiB to 16MiB
limits.streams_per_connection: "0" is not from 1 to 2147483647
limits.connections: "0" is not from 1 to 2147483647
limits.stream_window: "0" is not from 64KiB to 2147483647B
limits.connection_window: "0" is not from 64KiB to 2147483647B`,
		},
		"negative message": {
			func(c *Config) { c.Limits.Message = -1 },
			`limits.message: "-1B" is not from 0 to 4294967295B`,
		},
		"windows": {
			func(c *Config) { c.Limits.StreamWindow = 64 << 20 },
			`limits.connection_window: "32MiB" is less than limits.stream_window; write at least 64MiB`,
		},
		"zero log": {
			func(c *Config) { c.Log = Log{} },
			`log.level: must not be empty; valid values: debug, info, warn, error
log.format: must not be empty; valid values: text, json`,
		},
		"references have no lines": {
			func(c *Config) {
				c.Listeners = append(c.Listeners, c.Listeners[0])
				route := Route{Match: Match{Service: "a.B"}, Action: *c.Default}
				c.Routes = []Route{route, route}
			},
			`listeners[1].address: "127.0.0.1:8888" is already listeners[0].address; remove one of the two
routes[1].match.service: "a.B" is already routes[0].match.service; remove one of the two`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
			require.NoError(t, err)
			c.change(config)
			require.EqualError(t, config.Validate(), c.want)
		})
	}
}

// Only what a caller cannot leave out must be set.
func TestValidateTakesZeroValues(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	c.Schemas = map[string]*Schema{"a": {Reflection: &Reflection{Cluster: "default"}}}
	for _, action := range []Action{
		{Cluster: "default", Mode: ModeFrame},
		{Cluster: "default", Mode: ModeStruct},
		{Cluster: "default", Mode: ModeDynamic, Schema: "a"},
		{Cluster: "default", Mode: ModeDynamic, Schema: "a", Rules: []Rule{{Name: "a", On: OnEnd, Metadata: MetadataChanges{Remove: []string{"x"}}}}},
	} {
		c.Default = &action
		require.NoError(t, c.Validate())
	}
}

// Sections whose zero values are of use take them.
func TestValidateTakesZeroSections(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	c.Clusters["default"] = &Cluster{Instances: []string{"a:1"}, Connections: 1, Health: &Health{}, TLS: &ClusterTLS{}}
	c.Default.Mirror = &Mirror{Cluster: "default"}
	c.Listeners[0].TLS = &ListenerTLS{Certificates: []Certificate{{Cert: "a.pem", Key: "a.key"}}}
	require.NoError(t, c.Validate())
}

func TestCheckInstance(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:9000":       "",
		"[::1]:9000":          "",
		"unix:///run/me.sock": "",
		"":                    `must not be empty; write "host:port" or "unix:///path/to/socket"`,
		":9000":               `":9000" has no host; write "host:port" or "unix:///path/to/socket"`,
		"a:0":                 `"a:0" has port 0, where nothing can be reached; write "host:port" or "unix:///path/to/socket"`,
		"::1:9000":            `"::1:9000" has more than one colon; put an IPv6 address in brackets, such as "[::1]:8888"`,
	} {
		err := CheckInstance(address)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, want)
	}
}

func TestActionNamesItsClusters(t *testing.T) {
	require.Empty(t, (&Action{Mirror: &Mirror{Cluster: "copy"}}).Clusters())
	require.Equal(t, []string{"a"}, (&Action{Cluster: "a"}).Clusters())
	require.Equal(t, []string{"b", "a"}, (&Action{Split: []WeightedCluster{{"b", 1}, {"a", 0}, {"b", 2}}}).Clusters())
}

func TestClustersThatAreEqual(t *testing.T) {
	a, b := NewCluster("a:1"), NewCluster("a:1")
	a.TLS, b.TLS = &ClusterTLS{CA: "a.pem"}, &ClusterTLS{CA: "a.pem"}
	require.True(t, a.Equal(b))
	b.TLS.CA = "b.pem"
	require.False(t, a.Equal(b))
	require.False(t, a.Equal(nil))
	require.True(t, (*Cluster)(nil).Equal(nil))
}

func TestCodesHaveTheirNumbers(t *testing.T) {
	for i, name := range codeNames {
		var code codes.Code
		require.NoError(t, code.UnmarshalJSON([]byte(`"`+name+`"`)))
		require.EqualValues(t, i+1, code)
		require.EqualValues(t, code, Code(name).Number())
	}
	require.Len(t, codeNames, 16)
	require.Zero(t, Code("OK").Number())
	require.Zero(t, Code("").Number())
}

func TestValidateRoutingLeavesListenersOut(t *testing.T) {
	c, err := Simple("127.0.0.1:8888", "127.0.0.1:9000")
	require.NoError(t, err)
	c.Listeners = nil
	require.NoError(t, c.ValidateRouting())
	c.Default.Cluster = "defualt"
	require.EqualError(t, c.ValidateRouting(), `default.cluster: "defualt" is not a cluster; did you mean "default"? (clusters: default)`)
}

func TestSplitAddress(t *testing.T) {
	for address, want := range map[string][2]string{
		"127.0.0.1:80":        {"tcp", "127.0.0.1:80"},
		":80":                 {"tcp", ":80"},
		"[::1]:80":            {"tcp", "[::1]:80"},
		"unix:///run/me.sock": {"unix", "/run/me.sock"},
	} {
		network, rest := SplitAddress(address)
		require.Equal(t, want, [2]string{network, rest})
	}
}

func TestAddressesThatAreTheSame(t *testing.T) {
	for _, pair := range [][2]string{
		{"localhost:80", "LOCALHOST:80"},
		{"localhost:80", "localhost:0080"},
		{"[::1]:80", "[0:0:0:0:0:0:0:1]:80"},
		{"unix:///run/a", "unix:///run/../run//a"},
	} {
		a, problem, _ := parseAddress(pair[0])
		require.Empty(t, problem)
		b, problem, _ := parseAddress(pair[1])
		require.Empty(t, problem)
		require.Equal(t, a, b)
	}
}
