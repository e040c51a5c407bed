package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kitexmeta "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/secure/securetest"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// noted is a link of the program that notes who calls, before the call goes on.
func noted(j *journal, name string) intercept.Link {
	return intercept.Link{Name: name, Interceptor: func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
		j.note("%s %s", name, c.Identity().Name)
		return next(ctx)
	}}
}

func TestEachListenerHasItsInterceptors(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, echoes)
		cfg := faultConfig(b.addr)
		cfg.Transport = transport
		cfg.Listeners = []conf.Listener{
			{Address: "127.0.0.1:0", Interceptors: []string{"clients"}}, {Address: loopback.Free(t)},
		}
		cfg.Interceptors = map[string]*conf.Interceptor{"clients": {APIKeys: &conf.APIKeys{
			Header: "x-api-key", Remove: true, Keys: []conf.APIKey{{Name: "alice", SHA256: conf.Secret(hashOf("alice's key"))}},
		}}}
		f := startFaultProxy(t, cfg)
		r := f.call(f.safe(), faultMethod, nil)
		requireFailure(t, r, codes.Unauthenticated, stream.NoCredentials)
		require.Zero(t, b.calls())

		other := insecureClient(t, "passthrough:///"+cfg.Listeners[1].Address)
		_, err := askName(f.safe(), other, faultMethod)
		require.NoError(t, err)
	})
}

// Nothing tells listeners at free ports of one address from each other, so that one
// could lose its interceptors to the other.
func TestListenersAtFreePortsHaveTheSameInterceptors(t *testing.T) {
	e := edge{around: "clients", rest: aliceKey + toMain}.start(t)
	cfg := e.config(t, aliceKey+toMain+strings.Replace(jsonGateway, "localhost", "127.0.0.1", 1))
	_, err := proxy.New(cfg)
	require.ErrorContains(t, err, "listener 127.0.0.1:0: another one at this address")
	require.ErrorContains(t, e.p.Reload(e.safe(), cfg), "listener 127.0.0.1:0: another one at this address")
	requireFailure(t, e.call(e.safe(), faultMethod, nil), codes.Unauthenticated, stream.NoCredentials)

	cfg.HTTP.Listeners[0].Interceptors = cfg.Listeners[0].Interceptors
	_, err = proxy.New(cfg)
	require.NoError(t, err)
}

func TestInterceptorsOfListenersComeBeforeThoseOfRoutes(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		j := new(journal)
		e := edge{
			transport: transport, around: "first, clients, second", links: []string{"first", "second", "third"},
			rest: aliceKey + `routes: [{match: {service: fault.Test}, cluster: main, interceptors: [third]}]
` + toMain,
			opts: []proxy.Option{
				proxy.WithLinks(noted(j, "third"), noted(j, "second"), noted(j, "first")),
				proxy.WithInterceptors(noted(j, "always").Interceptor),
			},
		}.start(t)
		ctx := metadata.AppendToOutgoingContext(e.safe(), "x-api-key", "alice's key")
		require.Equal(t, codes.OK, e.call(ctx, faultMethod, []byte("x")).code)
		require.Equal(t, []string{"always ", "first ", "second alice", "third alice"}, j.all())
		require.Empty(t, e.main.next(t).metadata.Get("x-api-key"), "the key is nobody else's")

		require.Equal(t, codes.OK, e.call(ctx, "/other.Service/Call", []byte("x")).code)
		require.Equal(t, []string{"always ", "first ", "second alice"}, j.all()[4:])
		require.Equal(t, codes.Unauthenticated, e.call(e.safe(), faultMethod, nil).code)
		require.Equal(t, []string{"always ", "first "}, j.all()[7:])
	})
}

// The guards of a route are asked as well if nothing else is around the call.
func TestGuardsOfRoutes(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		for _, mode := range []string{"frame", "dynamic, schema: echo"} {
			e := edge{transport: transport, rest: aliceKey + `
routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: main, mode: ` + mode + `, interceptors: [clients]}]
` + toMain}.start(t)
			r := e.invoke(t, "Unary", nil, say("x"))
			requireFailure(t, r.callResult, codes.Unauthenticated, stream.NoCredentials)
			e.main.unasked(t)
			o := e.invoke(t, "Unary", []string{"x-api-key", "alice's key"}, say("x"))
			require.Equal(t, []string{"x"}, o.texts(t))
			require.Equal(t, codes.OK, e.call(e.safe(), faultMethod, nil).code)
		}
	})
}

// issuer signs tokens.
type issuer struct {
	key  *ecdsa.PrivateKey
	file string // has its key set
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	i := &issuer{key, filepath.Join(t.TempDir(), "jwks.json")}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Use: "sig"}}})
	require.NoError(t, err)
	securetest.WriteFile(t, i.file, set)
	return i
}

// token is one that says who has it, and of what role.
func (i *issuer) token(t testing.TB, subject, role string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "one"}}, nil)
	require.NoError(t, err)
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "https://issuer.test", "sub": subject, "role": role, "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	require.NoError(t, err)
	return text
}

// users is the interceptor of that name, which has backends be told of the subject.
func (i *issuer) users() string {
	return "  users: {jwt: {jwks: {file: '" + i.file + "'}, issuer: 'https://issuer.test', claims: {x-user: sub}}}\n"
}

// Routes match, and directors see, what the links of a listener have made of a call.
func TestRoutesAndDirectorsSeeWhatInterceptorsHaveFound(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		i := newIssuer(t)
		e := edge{transport: transport, around: "users", rest: "interceptors:\n" + i.users() + `
routes: [{match: {metadata: [{key: x-user, exact: alice}]}, cluster: other}]
` + toMain}.start(t)
		as := func(who string) context.Context {
			return metadata.AppendToOutgoingContext(e.safe(), "authorization", "Bearer "+i.token(t, who, ""), "x-user", "root")
		}
		require.Equal(t, codes.OK, e.call(as("alice"), faultMethod, []byte("x")).code)
		require.Equal(t, []string{"alice"}, e.other.next(t).metadata.Get("x-user"))
		require.Equal(t, codes.OK, e.call(as("bob"), faultMethod, []byte("x")).code)
		require.Equal(t, []string{"bob"}, e.main.next(t).metadata.Get("x-user"))

		j := new(journal)
		d := edge{transport: transport, around: "users", rest: "interceptors:\n" + i.users() + toMain, opts: []proxy.Option{
			proxy.WithDirector(func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
				md, _ := kitexmeta.FromIncomingContext(ctx)
				j.note("%s %v", intercept.FromContext(ctx).Identity().Name, md.Get("x-user"))
				return ctx, proxy.Cluster("main"), nil
			}),
		}}.start(t)
		require.Equal(t, codes.OK, d.call(as("alice"), faultMethod, []byte("x")).code)
		require.Equal(t, []string{"alice [alice]"}, j.all())
		require.Equal(t, codes.Unauthenticated, d.call(d.safe(), faultMethod, []byte("x")).code)
		require.Len(t, j.all(), 1, "the director is not asked")
	})
}

// Keys of a URL are there when the proxy is ready; and calls go by those of before until a
// reload has the ones that it needs.
func TestKeysOfTokensAreWaitedFor(t *testing.T) {
	i := newIssuer(t)
	var asked atomic.Int32
	again := make(chan struct{})
	answered, answer := context.WithCancel(t.Context())
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if asked.Add(1) == 2 {
			close(again)
			<-answered.Done()
		}
		http.ServeFile(w, req, i.file)
	}))
	defer keys.Close()
	defer answer()
	with := func(leeway string) string {
		return "interceptors:\n  users: {jwt: {jwks: {url: '" + keys.URL + "'}, issuer: 'https://issuer.test', leeway: " + leeway + "}}\n" + toMain
	}
	e := edge{around: "users", rest: with("1s")}.start(t)
	code := func() codes.Code {
		ctx := metadata.AppendToOutgoingContext(e.safe(), "authorization", "Bearer "+i.token(t, "alice", ""))
		return e.call(ctx, faultMethod, []byte("x")).code
	}
	require.Equal(t, codes.OK, code())

	var came atomic.Bool
	reloaded := make(chan bool, 1)
	next := e.config(t, with("2s"))
	next.Timeouts.Connect = conf.Duration(faultSafety)
	go func() { // ends with the reload
		assert.NoError(t, e.p.Reload(e.safe(), next))
		reloaded <- came.Load()
	}()
	<-again
	require.Equal(t, codes.OK, code())
	came.Store(true)
	answer()
	require.True(t, <-reloaded, "it has not waited")
	require.Equal(t, codes.OK, code())
}

func TestUnknownInterceptors(t *testing.T) {
	b := startRouteBackend(t, echoes)
	mine := proxy.WithLinks(intercept.Link{Name: "mine", Guard: func(*intercept.Call) error { return nil }})
	config := func(around ...string) *conf.Config {
		cfg := faultConfig(b.addr)
		cfg.Default.Interceptors = around
		return cfg
	}
	_, err := proxy.New(config("mine"))
	require.ErrorContains(t, err, `default.interceptors[0]: "mine" is not an interceptor`)
	_, err = proxy.New(config("mine", "theirs"), mine)
	require.ErrorContains(t, err, `default.interceptors[1]: "theirs" is not an interceptor`)

	for _, none := range []proxy.Option{proxy.WithInterceptors(nil), proxy.WithGuards(nil), proxy.WithLinks(intercept.Link{Name: "nil"})} {
		_, err = proxy.New(config("mine"), mine, none)
		require.ErrorContains(t, err, `interceptor "nil" of the program has no function`)
	}
	both := intercept.Link{
		Name: "both", Guard: func(*intercept.Call) error { return nil },
		Interceptor: func(ctx context.Context, _ *intercept.Call, next intercept.Next) error { return next(ctx) },
	}
	_, err = proxy.New(config("mine"), mine, proxy.WithLinks(both))
	require.ErrorContains(t, err, `interceptor "both" of the program is a guard and an interceptor`)

	f := startCluster(t, config("mine"), mine)
	err = f.p.Reload(f.safe(), f.complete(config("theirs")))
	require.ErrorContains(t, err, `"theirs" is not an interceptor`)
	f.lives()
}

// Who calls is found in each of the ways, and asked for by rules.
func TestWhoCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		i := newIssuer(t)
		e := edge{transport: transport, around: "clients, users, who-may", rest: strings.Replace(aliceKey, "{api_keys: {", "{api_keys: {optional: true, ", 1) +
			strings.Replace(i.users(), "{jwt: {", "{jwt: {optional: true, ", 1) + `
  who-may:
    authorize:
      - {methods: [open.Service], allow: true}
      - {identities: ['api-key:alice'], methods: [fault.Test], allow: true}
      - {claims: {role: [admin]}, allow: true}
` + toMain}.start(t)
		key := func(k string) []string { return []string{"x-api-key", k} }
		token := func(who, role string) []string { return []string{"authorization", "Bearer " + i.token(t, who, role)} }
		for name, c := range map[string]struct {
			method string
			pairs  []string
			code   codes.Code
			reason stream.Reason
		}{
			"nobody":                   {method: faultMethod, code: codes.Unauthenticated, reason: stream.NoCredentials},
			"nobody, where all may":    {method: "/open.Service/Call"},
			"a key":                    {method: faultMethod, pairs: key("alice's key")},
			"a key for something else": {method: "/other.Service/Call", pairs: key("alice's key"), code: codes.PermissionDenied, reason: stream.Forbidden},
			"a wrong key":              {method: "/open.Service/Call", pairs: key("mallory's"), code: codes.Unauthenticated, reason: stream.NoCredentials},
			"a token":                  {method: "/other.Service/Call", pairs: token("bob", "admin")},
			"a token of another role":  {method: "/other.Service/Call", pairs: token("bob", "guest"), code: codes.PermissionDenied, reason: stream.Forbidden},
			"a token that is none":     {method: faultMethod, pairs: []string{"authorization", "Bearer x"}, code: codes.Unauthenticated, reason: stream.NoCredentials},
		} {
			t.Run(name, func(t *testing.T) {
				r := e.call(metadata.AppendToOutgoingContext(e.safe(), c.pairs...), c.method, []byte("x"))
				requireFailure(t, r, c.code, c.reason)
			})
		}
	})
}

func TestCallersKnownByCertificates(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		files, b := newListenerFiles(t), startNamed(t, "b", nil)
		mutual := files.tls()
		mutual.ClientCA = files.authority()
		cfg := faultConfig(b.addr)
		cfg.Transport = transport
		cfg.Interceptors = map[string]*conf.Interceptor{
			"machines": {MTLS: &conf.MTLS{Identity: conf.IdentitySANDNS}},
			"who-may":  {Authorize: []conf.AccessRule{{Identities: []string{"mtls:orders.test"}, Allow: true}}},
		}
		around := []string{"machines", "who-may"}
		cfg.Listeners = []conf.Listener{{Address: "127.0.0.1:0"}, {Address: loopback.Free(t), TLS: mutual, Interceptors: around}}
		f := startCluster(t, cfg)
		address := cfg.Listeners[1].Address
		f.requireCode(codes.OK, f.tlsClient(address, files.ca.Pool(), files.ca.Issue(t, "orders.test").TLS(t)))
		f.requireCode(codes.PermissionDenied, f.tlsClient(address, files.ca.Pool(), files.ca.Issue(t, "others.test").TLS(t)))
		require.Equal(t, 1, b.began())
	})
}

// rateOf is an interceptor "rate" that lets so many calls begin within an hour.
func rateOf(calls, key string) string {
	return "interceptors:\n  rate: {rate_limit: {calls: " + calls + ", per: 1h, key: " + key + "}}\n"
}

func TestRateLimitSaysWhenToTryAgain(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, around: "rate", rest: rateOf("2", "'metadata:tenant'") + toMain}.start(t)
		call := func(tenant string) error {
			var m []byte
			return e.client.Invoke(metadata.AppendToOutgoingContext(e.safe(), "tenant", tenant), faultMethod, &m, &m)
		}
		require.NoError(t, call("a"))
		require.NoError(t, call("a"))
		err := call("a")
		require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
		require.Len(t, status.Convert(err).Details(), 1)
		wait := status.Convert(err).Details()[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration()
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, 30*time.Minute)
		require.NoError(t, call("b"), "others have a limit of their own")
	})
}

func TestConcurrencyLimitCountsCallsUnderWay(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, around: "busy", rest: "interceptors: {busy: {concurrency_limit: {calls: 1}}}\n" + toMain}.start(t)
		// A client may have the end of its call before that is counted out.
		answered := func() bool { return e.call(e.safe(), faultMethod, nil).code == codes.OK }
		for range 3 {
			e.settles()
			open := e.stream()
			exchangeOn(t, open, "x")
			requireFailure(t, e.call(e.safe(), faultMethod, nil), codes.ResourceExhausted, stream.RateLimited)
			endOn(t, open)
			require.Eventually(t, answered, faultSafety, time.Millisecond)
		}
		e.settles()
		ctx, cancel := context.WithCancel(e.safe())
		s, err := e.client.NewStream(ctx, bidi, faultMethod)
		require.NoError(t, err)
		exchangeOn(t, s, "x")
		cancel()
		require.Eventually(t, answered, faultSafety, time.Millisecond)
	})
}

func TestRequestIDsGoBothWays(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, around: "ids", rest: "interceptors: {ids: {request_id: {}}}\n" + toMain}.start(t)
		o := e.invokeRaw(t, faultMethod, []string{"x-request-id", "mine"}, [][]byte{[]byte("x")})
		ids := e.main.next(t).metadata.Get("x-request-id")
		require.Len(t, ids, 1)
		require.NotEqual(t, "mine", ids[0])
		require.NotEmpty(t, ids[0])
		require.Equal(t, ids, o.header.Get("x-request-id"))
	})
}

// A limit that is as it was counts on, and one that has changed begins anew.
func TestReloadKeepsWhatLimitsHaveCounted(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, around: "rate", rest: rateOf("1", "all") + toMain}.start(t)
		code := func() codes.Code { return e.call(e.safe(), faultMethod, nil).code }
		require.Equal(t, codes.OK, code())
		require.Equal(t, codes.ResourceExhausted, code())
		e.reload(t, rateOf("1", "all")+"default: {cluster: other}\n")
		require.Equal(t, codes.ResourceExhausted, code())
		e.reload(t, rateOf("2", "all")+toMain)
		require.Equal(t, codes.OK, code())
		require.Equal(t, codes.OK, code())
		require.Equal(t, codes.ResourceExhausted, code())
	})
}

// Interceptors have goroutines, which end when they are no longer configured; those
// that a refused configuration has begun end as well.
func TestReloadEndsInterceptorsThatAreGone(t *testing.T) {
	i := newIssuer(t)
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	securetest.WriteFile(t, keys, []byte("- {name: alice, sha256: "+hashOf("alice's key")+"}\n"))
	with := "interceptors:\n  clients: {api_keys: {file: '" + keys + "'}}\n" + i.users() + toMain
	e := edge{rest: toMain}.start(t)
	require.Zero(t, goroutinesIn("handler/auth"))

	e.reload(t, with)
	running := goroutinesIn("handler/auth")
	require.Positive(t, running)
	e.reload(t, with+jsonGateway)
	require.Equal(t, running, goroutinesIn("handler/auth"), "they are taken over")

	broken := e.config(t, with)
	broken.Interceptors["other"] = broken.Interceptors["clients"]
	broken.Interceptors["broken"] = &conf.Interceptor{JWT: &conf.JWT{
		Header: "authorization", JWKS: conf.JWKS{URL: "https://127.0.0.1:1", CA: keys, Refresh: conf.Duration(time.Minute)},
		Issuer: conf.IssuerAny, Algorithms: []string{"ES256"}, Identity: "sub",
	}}
	require.Error(t, e.p.Reload(e.safe(), broken))
	awaitGoroutines(t, running)

	e.reload(t, toMain)
	awaitGoroutines(t, 0)
}

// awaitGoroutines waits until so many are left in package auth.
func awaitGoroutines(t testing.TB, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return goroutinesIn("handler/auth") == want }, faultSafety, 5*time.Millisecond)
}

// A panic ends its call and nothing else, and is logged once, with the stack.
func TestPanicsEndOneCall(t *testing.T) {
	unary := filter.For[echo.EchoRequest, echo.EchoReply](echoPrefix + "Unary")
	wanted := func(md string) {
		if md == "yes" {
			panic("on purpose")
		}
	}
	for name, opts := range map[string][]proxy.Option{
		"interceptor": {proxy.WithInterceptors(func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
			wanted(c.Incoming().Get("panic"))
			return next(ctx)
		})},
		"guard": {proxy.WithGuards(func(c *intercept.Call) error { wanted(c.Incoming().Get("panic")); return nil })},
		"filter": {proxy.WithFilters(unary.OnRequest(func(_ context.Context, c *filter.Call, _ *echo.EchoRequest) filter.Verdict {
			wanted(c.Incoming().Get("panic"))
			return filter.Forward
		}))},
		"director": {proxy.WithDirector(func(ctx context.Context, _ string) (context.Context, proxy.Target, error) {
			md, _ := kitexmeta.FromIncomingContext(ctx)
			wanted(strings.Join(md.Get("panic"), ""))
			return ctx, proxy.Cluster("main"), nil
		})},
		"resolver": {proxy.WithResolver(func(configured *proxy.Routes) handler.Resolver { return panickingResolver{configured} })},
		"observer": {proxy.WithObservers(panickingObserver{wanted})},
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				e := edge{
					transport: transport, rest: "routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: main, mode: struct}]\n" + toMain,
					opts: append([]proxy.Option{proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo()))}, opts...),
				}.start(t)
				open := e.open(t, echoPrefix+"Chat", nil)
				m := encoded(t, say("x"))
				require.NoError(t, open.SendMsg(&m))
				require.NoError(t, open.RecvMsg(&m))

				o := e.invoke(t, "Unary", []string{"panic", "yes"}, say("x"))
				assert.Equal(t, codes.Internal, o.code, o.message)
				assert.NotContains(t, o.message, "on purpose")

				require.NoError(t, open.SendMsg(&m))
				require.NoError(t, open.RecvMsg(&m), "other calls go on")
				require.NoError(t, open.CloseSend())
				require.Equal(t, codes.OK, finish(open).code)
				o = e.invoke(t, "Unary", nil, say("x"))
				require.Equal(t, []string{"x"}, o.texts(t))
				assert.Equal(t, 1, strings.Count(e.log.String(), "stack="), e.log.String())
				assert.Contains(t, e.log.String(), "around_config_test.go")
				e.settles()
			})
		})
	}
}

// panickingResolver panics for calls that ask for it.
type panickingResolver struct{ *proxy.Routes }

func (r panickingResolver) Resolve(c *resolver.Call) *resolver.Target {
	if _, wanted := c.Metadata.Value("panic", 0); wanted {
		panic("on purpose")
	}
	return r.Routes.Resolve(c)
}

// panickingObserver panics as a call begins that asks for it.
type panickingObserver struct{ wanted func(string) }

func (o panickingObserver) Begin(c *intercept.Call) { o.wanted(c.Incoming().Get("panic")) }
func (panickingObserver) End(*intercept.Call)       {}

// holding is an interceptor that holds calls of faultMethod, until the test or the end
// of their context lets them go.
type holding struct {
	held, let chan struct{}
	ended     chan error // of the context, nil if the test has let them go
}

func newHolding() *holding {
	return &holding{held: make(chan struct{}, 10), let: make(chan struct{}), ended: make(chan error, 10)}
}

func (h *holding) intercept(ctx context.Context, c *intercept.Call, next intercept.Next) error {
	if c.Method() != faultMethod {
		return next(ctx)
	}
	h.held <- struct{}{}
	select {
	case <-h.let:
		h.ended <- nil
		return next(ctx)
	case <-ctx.Done():
		h.ended <- ctx.Err()
		return ctx.Err()
	}
}

// arrivalTime is a deadline that a call gets to the proxy before, also on a machine that
// has much to do.
const arrivalTime = 500 * time.Millisecond

// callHeld makes a call, and returns once the interceptor holds it.
func (f *faultProxy) callHeld(ctx context.Context, h *holding) <-chan callResult {
	result := make(chan callResult, 1)
	go func() { result <- f.call(ctx, faultMethod, []byte("x")) }() // ends with the call
	<-h.held
	return result
}

func TestClientsThatGoAwayReleaseInterceptors(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		h := newHolding()
		f, backend := startAround(t, transport, proxy.WithInterceptors(h.intercept))
		ctx, cancel := context.WithCancel(f.safe())
		result := f.callHeld(ctx, h)
		cancel()
		require.Error(t, <-h.ended)
		require.Equal(t, codes.Canceled, (<-result).code)

		ctx, cancel = context.WithTimeout(f.safe(), arrivalTime)
		defer cancel()
		result = f.callHeld(ctx, h)
		require.Error(t, <-h.ended)
		require.Equal(t, codes.DeadlineExceeded, (<-result).code)
		require.Zero(t, backend.calls())
		f.lives()
	})
}

func TestShutdownWaitsForInterceptors(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		h := newHolding()
		f, _ := startAround(t, transport, proxy.WithInterceptors(h.intercept))
		result := f.callHeld(f.safe(), h)
		require.Equal(t, 1, int(f.p.Stats().ActiveCalls))
		f.cancel()
		waitDraining(t, f)
		close(h.let)
		requireOK(t, <-result, []byte("x"))
		require.NoError(t, f.stop())
	})
}

// waitDraining waits until the proxy takes no more connections.
func waitDraining(t testing.TB, f *faultProxy) {
	t.Helper()
	require.Eventually(t, func() bool {
		cc, err := grpc.NewClient("passthrough:///"+f.addr, faultDialOptions()...)
		require.NoError(t, err)
		defer cc.Close()
		_, err = askName(f.safe(), cc, faultHealthyMethod)
		return err != nil
	}, faultSafety, 5*time.Millisecond)
}

func TestShutdownEndsWhatInterceptorsHold(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		h := newHolding()
		backend := startRouteBackend(t, echoes)
		cfg := faultConfig(backend.addr)
		cfg.Transport, cfg.Timeouts.Shutdown = transport, conf.Duration(grace)
		f := startFaultProxy(t, cfg, proxy.WithInterceptors(h.intercept))
		result := f.callHeld(f.safe(), h)
		f.cancel()
		requireFailure(t, <-result, codes.Unavailable, stream.Shutdown)
		require.Error(t, <-h.ended)
		require.NoError(t, f.stop())
		require.Zero(t, backend.calls())
	})
}
