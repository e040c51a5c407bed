package proxy_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
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
