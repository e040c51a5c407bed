package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// functionsAt is an http section whose functions are at URLs, by their names.
func functionsAt(urls map[string]string) string {
	text := "http:\n  listeners: [{address: 'localhost:0'}]\n  functions:\n    routes:\n"
	for name, url := range urls {
		text += "      " + name + ": {url: '" + url + "'}\n"
	}
	return text
}

// startEcho starts a function that sends back what comes by a WebSocket.
func startEcho(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, message, err := conn.Read(req.Context())
			if err != nil || conn.Write(req.Context(), kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func dialWebSocket(t testing.TB, e *edgeProxy, path string) *websocket.Conn {
	conn, _, err := websocket.Dial(e.safe(), "ws"+strings.TrimPrefix(e.web, "http")+path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// exchange sends a message and waits for one.
func exchange(t testing.TB, e *edgeProxy, conn *websocket.Conn) {
	t.Helper()
	require.NoError(t, conn.Write(e.safe(), websocket.MessageText, []byte("{}")))
	_, _, err := conn.Read(e.safe())
	require.NoError(t, err)
}

// drains has the proxy stop, and returns once it takes no more connections.
func (p *edgeProxy) drains(t testing.TB) {
	t.Helper()
	p.cancel()
	require.Eventually(t, func() bool {
		nc, err := net.Dial("tcp", strings.TrimPrefix(p.web, "http://"))
		if err == nil {
			_ = nc.Close()
		}
		return err != nil
	}, faultSafety, time.Millisecond)
}

// WebSockets are calls under way as others are, though net/http does not know of them.
func TestShutdownWaitsForWebSockets(t *testing.T) {
	e := edge{rest: toMain + jsonGateway + "  functions: {routes: {echo: {url: '" + startEcho(t).URL + "'}}}\n"}.start(t)
	one, two := dialWebSocket(t, e, "/function/echo"), dialWebSocket(t, e, chatPath)
	exchange(t, e, one)
	exchange(t, e, two)
	e.drains(t)
	for range 20 {
		exchange(t, e, one)
		exchange(t, e, two)
	}
	require.NoError(t, one.CloseNow())
	require.NoError(t, two.CloseNow())
	require.NoError(t, e.stop())
}

func TestShutdownEndsWebSocketsOfFunctions(t *testing.T) {
	e := edge{rest: toMain + "timeouts: {shutdown: 300ms}\n" + functionsAt(map[string]string{"echo": startEcho(t).URL})}.start(t)
	conn := dialWebSocket(t, e, "/function/echo")
	exchange(t, e, conn)
	require.NoError(t, e.stop())
	_, _, err := conn.Read(e.safe())
	require.Error(t, err)
	require.NoError(t, e.safe().Err())
}

// However a request ends, and whatever status its client gets: it is told of as what it is,
// and nobody else is blamed.
func TestEndsOfFunctionsAreToldAsWhatTheyAre(t *testing.T) {
	asked := make(chan struct{}, 1)
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/begin") {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "short")
			_ = http.NewResponseController(w).Flush()
		}
		asked <- struct{}{}
		if !strings.HasSuffix(req.URL.Path, "/break") {
			<-req.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(f.Close)
	functions := functionsAt(map[string]string{"f": f.URL, "gone": "http://" + loopback.Free(t)})
	for name, test := range map[string]struct {
		path    string
		timeout string
		leaves  bool // the client does
		stops   bool // the proxy does
		code    string
		reason  string
	}{
		"client leaves":             {"f", "10s", true, false, "CANCELLED", "client-cancelled"},
		"client leaves a response":  {"f/begin", "10s", true, false, "CANCELLED", "client-cancelled"},
		"no answer in time":         {"f", "50ms", false, false, "DEADLINE_EXCEEDED", "route-timeout"},
		"no whole response in time": {"f/begin", "50ms", false, false, "DEADLINE_EXCEEDED", "route-timeout"},
		"no answer":                 {"f/break", "10s", false, false, "UNAVAILABLE", "backend-disconnected"},
		"no whole response":         {"f/begin/break", "10s", false, false, "UNAVAILABLE", "backend-disconnected"},
		"nobody there":              {"gone", "10s", false, false, "UNAVAILABLE", "backend-unreachable"},
		"shutdown":                  {"f", "10s", false, true, "UNAVAILABLE", "shutdown"},
		"shutdown in a response":    {"f/begin", "10s", false, true, "UNAVAILABLE", "shutdown"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "access.log")
			rest := "access_log: {output: '" + path + "'}\ntimeouts: {shutdown: 10ms}\n" + functions + "    timeout: " + test.timeout + "\n"
			e := edge{rest: toMain + rest}.start(t)
			ctx, leave := context.WithCancel(e.safe())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.web+"/function/"+test.path, nil)
			require.NoError(t, err)
			if test.leaves || test.stops {
				go func() { // ends with the request
					<-asked
					if test.leaves {
						leave()
					} else {
						e.cancel()
					}
				}()
			}
			if resp, err := e.http.Do(req); err == nil {
				_, _ = io.ReadAll(resp.Body)
				require.NoError(t, resp.Body.Close())
			}
			require.NoError(t, e.safe().Err())
			line := linesOf(t, path, 1)[0]
			require.Equal(t, []any{test.code, test.reason}, []any{line["code"], line["reason"]}, line["message"])
			require.NoError(t, e.stop())
			for len(asked) > 0 {
				<-asked
			}
		})
	}
}

// What callers have in common is found in the request, as it is in a call's metadata.
func TestFunctionsOfAClusterHaveAffinity(t *testing.T) {
	one, two := startFunction(t, "one"), startFunction(t, "two")
	rest := toMain + "http:\n  listeners: [{address: 'localhost:0'}]\n  functions: {routes: {f: {cluster: other}, g: {cluster: main}}}\n"
	e := edge{rest: rest}.startAdapted(t, func(cfg *conf.Config) {
		cfg.Clusters["other"] = &conf.Cluster{
			Instances: []string{one.address(), two.address()}, Connections: 1, Balance: conf.BalanceHash, HashOn: &conf.HashOn{Metadata: "x-user"},
		}
		cfg.Clusters["main"] = &conf.Cluster{
			Instances: []string{one.address(), two.address()}, Connections: 1, Balance: conf.BalanceHash, HashOn: &conf.HashOn{Peer: true},
		}
	})
	seen := map[string]bool{}
	for i := range 20 {
		user := "X-User: " + strconv.Itoa(i)
		first := e.ask(t, "GET /function/f", "", user).body
		seen[first] = true
		for range 4 {
			require.Equal(t, first, e.ask(t, "GET /function/f", "", user).body)
		}
	}
	require.Len(t, seen, 2)
	first := e.ask(t, "GET /function/g", "").body
	for i := range 8 {
		require.Equal(t, first, e.ask(t, "GET /function/g", "", "X-User: "+strconv.Itoa(i)).body)
	}
}

// What a function is asked for cannot come to be there later if all schemas are files.
func TestFunctionsOfMethodsThatThereAreNot(t *testing.T) {
	text := "listeners: [{address: '127.0.0.1:0'}]\nclusters: {main: {instances: ['127.0.0.1:1']}}\n" + toMain + jsonGateway +
		"  functions: {routes: {say: {method: " + unaryPath + "}, shout: {method: " + unaryPath + "Loud}}}\n"
	const problem = "http.functions.routes.shout.method: no schema of http.gateway has " + unaryPath + "Loud"
	for schema, want := range map[string]string{"{files: [../idl/echo.proto]}": problem, "{reflection: {cluster: main}}": ""} {
		cfg, err := conf.Parse("proxy.yaml", []byte(text+"schemas: {echo: "+schema+"}\n"))
		require.NoError(t, err)
		err = proxy.Check(cfg)
		_, errNew := proxy.New(cfg)
		if want == "" {
			require.NoError(t, err)
			require.NoError(t, errNew)
			continue
		}
		require.EqualError(t, err, want)
		require.EqualError(t, errNew, want)
	}
}
