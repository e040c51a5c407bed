package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

const (
	unaryPath  = "/kitexproxy.echo.v1.Echo/Unary"
	expandPath = "/kitexproxy.echo.v1.Echo/Expand"
	chatPath   = "/kitexproxy.echo.v1.Echo/Chat"
)

// guardedGateway is jsonGateway behind the interceptor "clients".
var guardedGateway = aliceKey + strings.Replace(jsonGateway, "localhost:0'", "localhost:0', interceptors: [clients]", 1) +
	"    request_headers: [x-api-key]\n"

const asAlice = "X-Api-Key: alice's key"

func TestJSONCallsAreCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, rest: guardedGateway + toMain}.start(t)
		a := e.ask(t, "POST "+unaryPath, `{"message":"hello"}`)
		require.Equal(t, 401, a.status, a.body)
		require.Equal(t, 16.0, a.fields(t)["code"])
		require.Equal(t, 401, e.ask(t, "POST "+expandPath, `{}`).status)
		require.Equal(t, 401, e.ask(t, "POST "+unaryPath, `{}`, "X-Api-Key: wrong").status)
		e.main.unasked(t)

		a = e.ask(t, "POST "+unaryPath, `{"message":"hello","payload":"AAE="}`, asAlice)
		require.Equal(t, 200, a.status, a.body)
		require.Equal(t, map[string]any{"message": "hello", "payload": "AAE="}, a.fields(t))
		require.Equal(t, "main", a.header.Get("Grpc-Metadata-Backend"))
		seen := e.main.next(t)
		require.Equal(t, []string{"hello"}, seen.texts(t))
		require.Empty(t, seen.metadata.Get("x-api-key"))

		a = e.ask(t, "POST "+unaryPath, `{"message":"on purpose","failWith":5}`, asAlice)
		require.Equal(t, 404, a.status)
		require.Equal(t, "on purpose", a.fields(t)["message"])
		require.Equal(t, codes.OK, e.invoke(t, "Unary", nil, say("x")).code, "the other listener has no interceptors")
		e.settles()
	})
}

// What rules and filters make of messages does not depend on who has sent them.
func TestRulesAndFiltersSeeJSONCalls(t *testing.T) {
	shout := filter.For[echo.EchoRequest, echo.EchoReply](echoPrefix + "Unary").OnRequest(
		func(_ context.Context, _ *filter.Call, r *echo.EchoRequest) filter.Verdict {
			r.Message += "!"
			return filter.Changed
		})
	for mode, c := range map[string]struct {
		route string
		opts  []proxy.Option
	}{
		"dynamic": {route: echoRoute(`- {name: shout, on: request, set: {message: 'message.message + "!"'}}`)},
		"struct": {
			route: "routes: [{match: {service: kitexproxy.echo.v1.Echo}, cluster: main, mode: struct}]\n",
			opts:  []proxy.Option{proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())), proxy.WithFilters(shout)},
		},
	} {
		t.Run(mode, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				e := edge{transport: transport, rest: c.route + jsonGateway, opts: c.opts}.start(t)
				a := e.ask(t, "POST "+unaryPath, `{"message":"hello"}`)
				require.Equal(t, map[string]any{"message": "hello!"}, a.fields(t), a.body)
				require.Equal(t, []string{"hello!"}, e.main.next(t).texts(t))
			})
		})
	}
}

// Messages of streams cross one by one, both ways.
func TestJSONStreams(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		e := edge{transport: transport, rest: guardedGateway + toMain}.start(t)
		t.Run("lines", func(t *testing.T) {
			body, send := io.Pipe()
			req, err := http.NewRequestWithContext(e.safe(), http.MethodPost, e.web+chatPath, body)
			require.NoError(t, err)
			req.Header.Set("X-Api-Key", "alice's key")
			go func() { _, _ = io.WriteString(send, `{"message":"0"}`+"\n") }() // ends with the write
			resp, err := e.http.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			for i := range 3 {
				require.JSONEq(t, fmt.Sprintf(`{"result":{"message":"%d"}}`, i), nextLine(t, lines))
				if i < 2 {
					_, err = fmt.Fprintf(send, "{\"message\":\"%d\"}\n", i+1)
					require.NoError(t, err)
				}
			}
			require.NoError(t, send.Close())
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			require.Empty(t, strings.TrimSpace(string(rest)))
		})
		t.Run("events", func(t *testing.T) {
			a := e.ask(t, "POST "+expandPath, `{"message":"x","count":2,"failWith":9}`, asAlice, "Accept: text/event-stream")
			require.Equal(t, "text/event-stream", a.header.Get("Content-Type"))
			require.Equal(t, 2, strings.Count(a.body, `data: {"message":"x"`), a.body)
			require.Contains(t, a.body, "event: error")
		})
		t.Run("WebSocket", func(t *testing.T) {
			conn, _, err := websocket.Dial(e.safe(), "ws"+strings.TrimPrefix(e.web, "http")+chatPath,
				&websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {"alice's key"}}})
			require.NoError(t, err)
			defer conn.CloseNow()
			for i := range 3 {
				require.NoError(t, conn.Write(e.safe(), websocket.MessageText, fmt.Appendf(nil, `{"message":"%d"}`, i)))
				_, got, err := conn.Read(e.safe())
				require.NoError(t, err)
				require.JSONEq(t, fmt.Sprintf(`{"result":{"message":"%d"}}`, i), string(got))
			}
			require.NoError(t, conn.Write(e.safe(), websocket.MessageText, nil)) // half-close
			_, _, err = conn.Read(e.safe())
			require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
		})
		t.Run("WebSocket of nobody", func(t *testing.T) {
			conn, _, err := websocket.Dial(e.safe(), "ws"+strings.TrimPrefix(e.web, "http")+chatPath, nil)
			require.NoError(t, err)
			defer conn.CloseNow()
			_, got, err := conn.Read(e.safe())
			require.NoError(t, err)
			require.Equal(t, 16.0, object(t, string(got))["error"].(map[string]any)["code"])
		})
		e.settles()
	})
}

// observingBackend is a backend that tells of a call's deadline and of its end.
func observingBackend(t *testing.T) (b *routeBackend, deadlines chan time.Duration, ends chan error) {
	deadlines, ends = make(chan time.Duration, 10), make(chan error, 10)
	b = startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
		at, ok := ss.Context().Deadline()
		if !ok {
			deadlines <- 0
		} else {
			deadlines <- time.Until(at)
		}
		<-ss.Context().Done()
		ends <- ss.Context().Err()
		return ss.Context().Err()
	})
	return b, deadlines, ends
}

func TestDeadlinesAndCancelsOfHTTPReachBackends(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b, deadlines, ends := observingBackend(t)
		e := edge{transport: transport, rest: "default: {cluster: other}\n" + jsonGateway}.startBefore(t, b.addr)
		a := e.ask(t, "POST "+unaryPath, "{}", "Grpc-Timeout: 500m")
		require.Equal(t, 504, a.status, a.body)
		left := <-deadlines
		require.Positive(t, left)
		require.LessOrEqual(t, left, arrivalTime)
		require.Error(t, <-ends)

		for _, method := range []string{unaryPath, expandPath} {
			ctx, cancel := context.WithCancel(e.safe())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.web+method, strings.NewReader("{}"))
			require.NoError(t, err)
			asked := make(chan error, 1)
			go func() { // ends with the request
				resp, err := e.http.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				asked <- err
			}()
			require.Zero(t, <-deadlines)
			cancel()
			require.Error(t, <-asked)
			require.ErrorIs(t, <-ends, context.Canceled)
		}
		e.settles()
	})
}

// What the proxy itself has to say is told by the codes' statuses.
func TestStatusesOfLocalReplies(t *testing.T) {
	e := edge{rest: `
routes:
  - {match: {method: /kitexproxy.echo.v1.Echo/Unary}, cluster: other}
  - {match: {method: /kitexproxy.echo.v1.Echo/Expand}, cluster: main, timeout: 1ms}
` + jsonGateway}.startBefore(t, loopback.Free(t))
	require.Equal(t, 503, e.ask(t, "POST "+unaryPath, "{}").status)
	a := e.ask(t, "POST "+chatPath, "{}")
	require.Equal(t, 501, a.status, a.body)
	require.Equal(t, 12.0, a.fields(t)["code"])
	require.Equal(t, 404, e.ask(t, "POST /no.Service/Method", "{}").status)
	require.Equal(t, 400, e.ask(t, "POST "+unaryPath, "{nonsense").status)
	require.Equal(t, 200, e.ask(t, "GET /openapi.json", "").status)
}

// A client's host and user-agent are those of its calls, so that routes tell it from others.
func TestJSONCallsAskForTheirHost(t *testing.T) {
	e := edge{rest: "routes:\n  - {match: {authority: '*.example.com'}, cluster: other}\n" + toMain + jsonGateway}.start(t)
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}", "Host: a.example.com:8080", "User-Agent: lynx").status)
	call := e.other.next(t)
	require.Equal(t, "a.example.com:8080", call.authority)
	if !onKitex() { // whose backends see Kitex's
		require.Equal(t, []string{"lynx"}, call.metadata.Get("user-agent"))
	}
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}").status)
	require.Equal(t, strings.TrimPrefix(e.web, "http://"), e.main.next(t).authority)
}

// largeReplies is a backend's Echo that replies with more than the default limit.
func largeReplies(s *grpc.Server) {
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "kitexproxy.echo.v1.Echo", Streams: []grpc.StreamDesc{{
		StreamName: "Unary", Handler: func(_ any, ss grpc.ServerStream) error {
			reply, err := (&echo.EchoReply{Payload: make([]byte, 5<<20)}).Marshal(nil)
			if err != nil {
				return err
			}
			return ss.SendMsg(&reply)
		},
	}}}, nil)
}

func TestRepliesMayBeAsLargeAsBodies(t *testing.T) {
	e := edge{rest: toMain + jsonGateway, register: []func(*grpc.Server){largeReplies}}.start(t)
	require.Equal(t, 429, e.ask(t, "POST "+unaryPath, "{}").status)
	e.reload(t, toMain+jsonGateway+"    body_limit: 6MiB\n")
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}").status)
}

// What is appended to a server of the OpenAPI document is the path of a request.
func TestServersOfTheOpenAPIDocument(t *testing.T) {
	e := edge{rest: toMain + jsonGateway + "    prefix: /api\n"}.start(t)
	require.Equal(t, []any{map[string]any{"url": "/api"}}, e.ask(t, "GET /openapi.json", "").fields(t)["servers"])
	e.reload(t, toMain+jsonGateway)
	require.Nil(t, e.ask(t, "GET /openapi.json", "").fields(t)["servers"])
}

func TestEnvelopesAndCodesOfTheConfiguration(t *testing.T) {
	e := edge{rest: toMain + jsonGateway + "    envelope: {}\n    codes: {NOT_FOUND: 410}\n    prefix: /api\n"}.start(t)
	a := e.ask(t, "POST /api"+unaryPath, `{"message":"x"}`)
	require.JSONEq(t, `{"errno":0,"msg":"","data":{"message":"x"}}`, a.body)
	a = e.ask(t, "POST /api"+unaryPath, `{"message":"gone","failWith":5}`)
	require.Equal(t, 410, a.status)
	require.JSONEq(t, `{"errno":5,"msg":"gone","data":null}`, a.body)
	a = e.ask(t, "POST /api"+expandPath, `{"message":"x","count":1,"failWith":9}`)
	lines := strings.Split(a.body, "\n")
	require.Len(t, lines, 2, a.body)
	require.JSONEq(t, `{"errno":0,"msg":"","data":{"message":"x","sequence":1}}`, lines[0])
	require.Equal(t, 9.0, object(t, lines[1])["errno"])
	require.Equal(t, 404, e.ask(t, "POST "+unaryPath, "{}").status)
}

func TestForwardedHeadersAreBelievedOfTrustedProxies(t *testing.T) {
	forged := []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https"}
	e := edge{rest: toMain + jsonGateway}.start(t)
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}", append(forged, "Grpc-Metadata-X-Forwarded-For: 192.0.2.2")...).status)
	md := e.main.next(t).metadata
	require.Len(t, md.Get("x-forwarded-for"), 1)
	require.True(t, net.ParseIP(md.Get("x-forwarded-for")[0]).IsLoopback(), md)
	require.NotContains(t, md.Get("x-forwarded-host"), "evil.test")
	require.Equal(t, []string{"http"}, md.Get("x-forwarded-proto"))

	trusting := strings.Replace(jsonGateway, "localhost:0'", "localhost:0', trusted_proxies: [127.0.0.0/8, '::1']", 1)
	e.reload(t, toMain+trusting)
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}", forged...).status)
	md = e.main.next(t).metadata
	require.True(t, strings.HasPrefix(md.Get("x-forwarded-for")[0], "192.0.2.1, "), md)
	require.Equal(t, []string{"evil.test"}, md.Get("x-forwarded-host"))
	require.Equal(t, []string{"https"}, md.Get("x-forwarded-proto"))
}

func TestOriginsThatMayUseCookies(t *testing.T) {
	const cookies = "    cookies: {session: x-session}\n"
	asked := []string{"Cookie: session=s", "Origin: https://app.example.com"}
	e := edge{rest: toMain + jsonGateway + cookies}.start(t)
	require.Equal(t, 403, e.ask(t, "POST "+unaryPath, "{}", asked...).status)
	for _, origin := range []string{"https://app.example.com", "*"} {
		e.reload(t, toMain+jsonGateway+cookies+"    websocket: {origins: ['"+origin+"']}\n")
		require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}", asked...).status)
		require.Equal(t, []string{"s"}, e.main.next(t).metadata.Get("x-session"))
	}
}

// Limits and logs know the client of a JSON call by its own address.
func TestPeersOfJSONCalls(t *testing.T) {
	j := new(journal)
	e := edge{rest: toMain + jsonGateway, opts: []proxy.Option{proxy.WithGuards(peerNote(j))}}.start(t)
	require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}").status)
	host, port, err := net.SplitHostPort(j.all()[0])
	require.NoError(t, err)
	require.True(t, net.ParseIP(host).IsLoopback())
	require.NotEqual(t, "0", port)
}

// What a backend tells of its methods by reflection is what the gateway has, from then on.
func TestGatewaysFollowSchemas(t *testing.T) {
	ts := newTypes(t, noteFile("text", "1"))
	rest := "schemas:\n  notes: {reflection: {cluster: main, refresh: 1s}}\n" + strings.Replace(jsonGateway, "[echo]", "[notes]", 1) + toMain
	e := edge{rest: rest, register: []func(*grpc.Server){ts.v1}}.start(t)
	require.JSONEq(t, `{"text":"x"}`, e.ask(t, "POST /notes.v1.Notes/Say", `{"text":"x"}`).body)
	ts.become(t, noteFile("words", "1"))
	require.Eventually(t, func() bool {
		return e.ask(t, "POST /notes.v1.Notes/Say", `{"words":"x"}`).body == `{"words":"x"}`
	}, faultSafety, 20*time.Millisecond)
	require.Contains(t, e.ask(t, "GET /openapi.json", "").body, `"words"`)
	e.reload(t, strings.Replace(rest, toMain, "default: {cluster: main, timeout: 1m}\n", 1))
	require.JSONEq(t, `{"words":"x"}`, e.ask(t, "POST /notes.v1.Notes/Say", `{"words":"x"}`).body)
}

// gatewayAt is an http section whose listener has an address.
func gatewayAt(addresses ...string) string {
	var list []string
	for _, a := range addresses {
		list = append(list, "{address: '"+a+"'}")
	}
	return strings.Replace(jsonGateway, "{address: 'localhost:0'}", strings.Join(list, ", "), 1)
}

func TestReloadOfHTTPListeners(t *testing.T) {
	one, two := loopback.Free(t), loopback.Free(t)
	e := edge{rest: toMain}.start(t)
	answers := func(address string) bool {
		resp, err := e.http.Post("http://"+address+unaryPath, "application/json", strings.NewReader("{}"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == 200
	}
	require.False(t, answers(one))
	e.reload(t, toMain+gatewayAt(one))
	require.True(t, answers(one))

	body, send := io.Pipe()
	go func() { _, _ = io.WriteString(send, "{}\n") }() // ends with the write
	resp, err := httpClient(t).Post("http://"+one+chatPath, "application/json", body)
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	require.JSONEq(t, `{"result":{}}`, nextLine(t, lines))

	taken := e.config(t, toMain+gatewayAt(two, e.addr))
	require.ErrorContains(t, e.p.Reload(e.safe(), taken), "in use")
	require.False(t, answers(two))
	require.True(t, answers(one), "after an error nothing has changed")

	e.reload(t, toMain+gatewayAt(two))
	require.True(t, answers(two))
	e.http.CloseIdleConnections()
	require.Eventually(t, func() bool { return !answers(one) }, faultSafety, 5*time.Millisecond)
	_, err = io.WriteString(send, `{"message":"still"}`+"\n")
	require.NoError(t, err)
	require.JSONEq(t, `{"result":{"message":"still"}}`, nextLine(t, lines), "streams go on")
	require.NoError(t, send.Close())
	_, err = lines.ReadString('\n')
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, e.p.Reload(e.safe(), e.config(t, toMain)))
	require.Empty(t, e.p.HTTPAddrs())
}

// A stream that does not end is cut when the time for it is over.
func TestShutdownEndsJSONStreams(t *testing.T) {
	b, deadlines, ends := observingBackend(t)
	e := edge{rest: "default: {cluster: other}\ntimeouts: {shutdown: 300ms}\n" + jsonGateway}.startBefore(t, b.addr)
	asked := make(chan answered, 1)
	go func() { asked <- e.ask(t, "POST "+expandPath, "{}") }() // ends with the request
	<-deadlines
	e.cancel()
	require.Error(t, <-ends)
	require.Equal(t, 503, (<-asked).status)
	require.NoError(t, e.stop())
}

func TestHTTPListenersHaveTLS(t *testing.T) {
	files := newListenerFiles(t)
	listener := fmt.Sprintf(", tls: {certificates: [{cert: '%s', key: '%s'}]}}", filepath.Join(files.dir, "proxy.pem"), filepath.Join(files.dir, "proxy.key"))
	e := edge{rest: toMain + strings.Replace(jsonGateway, "}", listener, 1)}.start(t)
	for _, h2 := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: files.ca.Pool(), ServerName: "proxy.test"}, Protocols: protocols,
		}
		t.Cleanup(transport.CloseIdleConnections)
		resp, err := (&http.Client{Transport: transport}).Post("https"+strings.TrimPrefix(e.web, "http")+unaryPath, "application/json", strings.NewReader("{}"))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, map[bool]int{false: 1, true: 2}[h2], resp.ProtoMajor)
		require.Equal(t, []string{"https"}, e.main.next(t).metadata.Get("x-forwarded-proto"))
	}
}

// webFunction is the HTTP server of a function, which answers with its name and what it was asked.
type webFunction struct {
	*httptest.Server
	asked   atomic.Int64
	failing atomic.Bool
}

func startFunction(t testing.TB, name string) *webFunction {
	f := new(webFunction)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.asked.Add(1)
		if f.failing.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s: %s %s %s key=%q trace=%q", name, req.Method, req.URL, body, req.Header.Get("X-Api-Key"), req.Header.Get("Traceparent"))
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *webFunction) address() string { return f.Listener.Addr().String() }

func TestFunctionsGoToURLsClustersAndMethods(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		atURL := startFunction(t, "url")
		one, two := startFunction(t, "one"), startFunction(t, "two")
		rest := toMain + jsonGateway + `
  functions:
    routes:
      resize: {url: '` + atURL.URL + `/base'}
      orders: {cluster: other, path: /orders}
      say: {method: ` + unaryPath + `}
`
		e := edge{transport: transport, rest: rest}.startAdapted(t, func(cfg *conf.Config) {
			cfg.Clusters["other"] = &conf.Cluster{
				Instances: []string{one.address(), two.address()}, Connections: 1, Balance: conf.BalanceRoundRobin,
				Health: &conf.Health{Eject: &conf.Eject{
					Consecutive: 2, MinCalls: 20, Interval: conf.Duration(time.Minute), For: conf.Duration(time.Hour), MaxPercent: 50,
				}},
			}
		})
		a := e.ask(t, "PUT /function/resize/a/b?c=d", "body")
		require.Equal(t, `url: PUT /base/a/b?c=d body key="" trace=""`, a.body)
		require.Equal(t, 404, e.ask(t, "GET /function/nobody", "").status)

		for range 10 {
			require.Contains(t, e.ask(t, "GET /function/orders/7", "").body, ": GET /orders/7")
		}
		require.Equal(t, []int64{5, 5}, []int64{one.asked.Load(), two.asked.Load()})
		one.failing.Store(true)
		for range 10 {
			e.ask(t, "GET /function/orders/7", "")
		}
		require.Equal(t, int64(7), one.asked.Load(), "it is ejected after two failures")

		a = e.ask(t, "POST /function/say", `{"message":"hello"}`)
		require.JSONEq(t, `{"message":"hello"}`, a.body)
		a = e.ask(t, "GET /function/say/", "")
		require.Equal(t, 200, a.status)
		a = e.ask(t, "GET /function/say", "", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
		require.Equal(t, 200, a.status, "a client that would like to speak HTTP/2")
		a = e.ask(t, "GET /function/say/more", "")
		require.Equal(t, []any{404, "proxy"}, []any{a.status, a.header.Get("X-OpenFaaS-Internal")})
		require.Equal(t, 409, e.ask(t, "POST /function/say", `{"failWith":10}`).status)
		require.Equal(t, 200, e.ask(t, "POST "+unaryPath, "{}").status, "the gateway answers beside them")
		e.settles()
	})
}

func TestFunctionsGoThroughInterceptors(t *testing.T) {
	f, path := startFunction(t, "f"), filepath.Join(t.TempDir(), "access.log")
	e := edge{rest: guardedGateway + toMain + adminAnywhere + "access_log: {output: '" + path + "'}\n"}.startAdapted(t, func(cfg *conf.Config) {
		cfg.HTTP.Functions = &conf.Functions{
			Prefix: "/function/", Timeout: conf.Duration(10 * time.Second),
			Routes: map[string]*conf.Function{"f": {URL: f.URL}, "say": {Method: unaryPath}},
		}
	})
	a := e.ask(t, "POST /function/f", "body")
	require.Equal(t, 401, a.status, a.body)
	require.Equal(t, 401, e.ask(t, "POST /function/say", "{}").status)
	require.Equal(t, 401, e.ask(t, "POST /function/nobody", "{}").status)
	require.Zero(t, f.asked.Load())
	a = e.ask(t, "POST /function/f/x", "body", asAlice)
	require.Equal(t, `f: POST /x body key="" trace=""`, a.body, "the key is nobody else's")
	f.failing.Store(true)
	require.Equal(t, 502, e.ask(t, "POST /function/f", "", asAlice).status)

	lines := linesOf(t, path, 5)
	for i, want := range []map[string]any{
		{"method": "/function/f", "code": "UNAUTHENTICATED", "route": "function f"},
		{"method": unaryPath, "code": "UNAUTHENTICATED"},
		{"method": "/function/unknown", "code": "UNAUTHENTICATED"},
		{"method": "/function/f", "code": "OK", "identity": "api-key:alice", "mode": "http", "request_bytes": 4.0},
		{"method": "/function/f", "code": "UNAVAILABLE"},
	} {
		for key, value := range want {
			assert.Equal(t, value, lines[i][key], "%d %s", i, key)
		}
	}
	assert.Equal(t, []any{0.0, 1.0, 1.0}, []any{lines[0]["attempts"], lines[3]["attempts"], lines[4]["attempts"]})
	finished := func(code string) string {
		return "calls_finished_total{cluster=,code=" + code + ",method=/function/f,route=function f}"
	}
	e.awaitFigures(t, map[string]float64{finished("OK"): 1, finished("UNAVAILABLE"): 1, finished("UNAUTHENTICATED"): 1})
}

// A request for a function is a span, and so is its way to the function, which is told.
// Limits on messages hold for functions, and who is told of messages is told of theirs.
func TestMessagesOfFunctionsAreTold(t *testing.T) {
	f, j := startFunction(t, "f"), new(journal)
	told := intercept.Link{Name: "told", Guard: func(c *intercept.Call) error {
		c.OnMessage(func(d filter.Direction) error {
			j.note("%v", d)
			return nil
		})
		return nil
	}}
	e := edge{
		links: []string{"told"}, opts: []proxy.Option{proxy.WithLinks(told)},
		rest: "interceptors: {rate: {rate_limit: {messages: 1, per: 1h}}}\n" + toMain + jsonGateway,
	}.startAdapted(t, func(cfg *conf.Config) {
		cfg.HTTP.Listeners[0].Interceptors = []string{"told", "rate"}
		cfg.HTTP.Functions = &conf.Functions{
			Prefix: "/function/", Timeout: conf.Duration(10 * time.Second), Routes: map[string]*conf.Function{"f": {URL: f.URL}},
		}
	})
	require.Equal(t, 200, e.ask(t, "POST /function/f", "body").status)
	a := e.ask(t, "POST /function/f", "body")
	require.Equal(t, 429, a.status, a.body)
	require.Equal(t, string(stream.RateLimited), a.header.Get(stream.ReasonKey))
	require.EqualValues(t, 1, f.asked.Load())
	require.Equal(t, []string{"request", "response", "request"}, j.all())
}

func TestTracesGoOnToFunctions(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	o, f := startOTLP(t), startFunction(t, "f")
	rest := toMain + "tracing: {otlp: {endpoint: 'http://" + o.addr + "'}}\n" + jsonGateway + "  functions: {routes: {f: {url: '" + f.URL + "'}}}\n"
	e := edge{rest: rest}.start(t)
	a := e.ask(t, "GET /function/f", "", "Traceparent: 00-"+trace+"-00f067aa0ba902b7-01")
	require.NoError(t, e.stop())
	calls, attempts := o.of(tracepb.Span_SPAN_KIND_SERVER), o.of(tracepb.Span_SPAN_KIND_CLIENT)
	require.Len(t, calls, 1)
	require.Len(t, attempts, 1)
	require.Equal(t, "function/f", calls[0].GetName())
	require.Equal(t, calls[0].GetSpanId(), attempts[0].GetParentSpanId())
	require.Contains(t, a.body, "00-"+trace+"-"+hex.EncodeToString(attempts[0].GetSpanId())+"-01")
}

// Whatever a path looks like: nothing gets to a function without having been asked for
// the key, also not by the name of a method, whose calls are asked for it later.
func TestNoPathGetsAroundInterceptors(t *testing.T) {
	f := startFunction(t, "f")
	e := edge{rest: guardedGateway + toMain}.startAdapted(t, func(cfg *conf.Config) {
		cfg.HTTP.Functions = &conf.Functions{
			Prefix: "/function/", Timeout: conf.Duration(10 * time.Second),
			Routes: map[string]*conf.Function{"f": {URL: f.URL}, "say": {Method: unaryPath}},
		}
	})
	for _, path := range []string{
		"/function/f", "/function/f/", "/function/%66", "/function//f", "/function/./f", "/function/say/../f", "/function/say%2f..%2ff",
		"/function/say%2F../f", "/function/say/..%2ff", "/function/say\\..\\f", "/function/say;/f", "/function/say%00/f", "/x/../function/f",
		"/%66unction/f", "/function%2ff", "/function/f?x=/function/say", "//function/f", "/function/say%3f/f",
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			head := method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
			nc, err := net.Dial("tcp", strings.TrimPrefix(e.web, "http://"))
			require.NoError(t, err)
			_, err = io.WriteString(nc, head)
			require.NoError(t, err)
			answer, err := io.ReadAll(nc)
			require.NoError(t, err)
			require.NoError(t, nc.Close())
			require.Regexp(t, `^HTTP/1.1 4`, string(answer), head)
		}
	}
	require.Zero(t, f.asked.Load())
	e.main.unasked(t)
}

// What links add to the head of a response is there as well if one of them refuses, and
// a limit on what is under way counts functions out, however they end.
func TestLinksOfFunctionsEndWithThem(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "short")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(broken.Close)
	gateway := strings.Replace(jsonGateway, "localhost:0'", "localhost:0', interceptors: [ids, busy, clients]", 1)
	e := edge{rest: toMain + aliceKey + "  ids: {request_id: {}}\n  busy: {concurrency_limit: {calls: 1}}\n" + gateway +
		"  functions: {routes: {f: {url: '" + broken.URL + "'}}}\n"}.start(t)
	for range 3 {
		a := e.ask(t, "GET /function/f", "")
		require.Equal(t, 401, a.status, a.body)
		require.NotEmpty(t, a.header.Get("X-Request-Id"))
		resp := e.begin(e.safe(), t, e.web, "GET /function/f", "", asAlice, "Accept: text/event-stream")
		require.Equal(t, 200, resp.StatusCode)
		require.Len(t, resp.Header.Values("X-Request-Id"), 1)
		_, err := io.ReadAll(resp.Body)
		require.Error(t, err, "it is not whole")
		require.NoError(t, resp.Body.Close())
	}
}
