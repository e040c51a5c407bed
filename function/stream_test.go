package function

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEventsArriveOneByOne: the function sends an event when the client has seen the one
// before.
func TestEventsArriveOneByOne(t *testing.T) {
	for _, c := range []struct{ claim, accept, contentType string }{
		{"events", "text/event-stream", "text/event-stream"},
		{"lines", "application/x-ndjson", "application/x-ndjson"},
		{"and what is not asked for as a stream", "*/*", "application/json"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			seen := make(chan struct{})
			p := through(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				for i := range 5 {
					_, _ = fmt.Fprintf(w, "data: %d\n", i)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-seen:
					case <-r.Context().Done():
						return
					}
				}
			})
			r := request(t, "GET", p.URL+"/function/f", nil)
			r.Header.Set("Accept", c.accept)
			response, err := p.Client().Do(r)
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			require.Equal(t, c.contentType, response.Header.Get("Content-Type"))
			lines := bufio.NewReader(response.Body)
			for i := range 5 {
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("data: %d\n", i), line)
				seen <- struct{}{}
			}
			_, err = lines.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// TestHeaderArrivesBeforeTheBody: there is nothing to pass on yet but the header.
func TestHeaderArrivesBeforeTheBody(t *testing.T) {
	for _, accept := range []string{"*/*", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			seen := make(chan struct{})
			p := through(t, func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				await(t, seen, "the client to see the header")
			})
			r := request(t, "GET", p.URL+"/function/f", nil)
			r.Header.Set("Accept", accept)
			response, err := p.Client().Do(r)
			require.NoError(t, err)
			close(seen)
			require.NoError(t, response.Body.Close())
		})
	}
}

func TestStreamsOutliveTheTimeout(t *testing.T) {
	const timeout = 50 * time.Millisecond
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(3 * timeout):
			_, _ = io.WriteString(w, "late")
		case <-r.Context().Done():
		}
	}))
	p := proxy(t, Options{Resolver: to(t, function.URL), Timeout: timeout})
	r := request(t, "GET", p.URL+"/function/f", nil)
	r.Header.Set("Accept", "text/event-stream")
	_, body := do(t, p, r)
	require.Equal(t, "late", body)
}

func TestWebSocket(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/base/chat?room=1", r.RequestURI)
		assert.Equal(t, "127.0.0.1", r.Header.Get("X-Forwarded-For"))
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if !assert.NoError(t, err) {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil {
				assert.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
				return
			}
			assert.NoError(t, conn.Write(r.Context(), kind, append(message, '!')))
		}
	}))
	went := make(chan string, 1)
	p := proxy(t, Options{Resolver: toAndTell(t, function.URL+"/base", went)})
	ctx := request(t, "GET", p.URL, nil).Context()
	conn, response, err := websocket.Dial(ctx, p.URL+"/function/f/chat?room=1", &websocket.DialOptions{Subprotocols: []string{"echo"}})
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	require.Equal(t, "echo", response.Header.Get("Sec-Websocket-Protocol"))
	for _, message := range []string{"a", strings.Repeat("b", 10<<10)} {
		require.NoError(t, conn.Write(ctx, websocket.MessageText, []byte(message)))
		_, echo, err := conn.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, message+"!", string(echo))
	}
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))
	require.Equal(t, "101 <nil>", await(t, went, "the end of the call"))
}

// TestClientOfAWebSocketGoesAway: without a word, and the function does nothing about it.
func TestClientOfAWebSocketGoesAway(t *testing.T) {
	ended := make(chan struct{})
	p := through(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		conn, err := websocket.Accept(w, r, nil)
		if assert.NoError(t, err) {
			_, _, err = conn.Read(r.Context())
			assert.Error(t, err)
		}
	})
	conn, _, err := websocket.Dial(request(t, "GET", p.URL, nil).Context(), p.URL+"/function/f", nil)
	require.NoError(t, err)
	require.NoError(t, conn.CloseNow())
	await(t, ended, "the function's WebSocket to end")
}

// TestOnlyWebSocketsSwitchProtocols: not a stream either, where httputil.ReverseProxy
// would let everything through.
func TestOnlyWebSocketsSwitchProtocols(t *testing.T) {
	got := make(chan http.Header, 1)
	p := through(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	for _, lines := range [][]string{
		{"Upgrade: h2c", "Connection: Upgrade", "Accept: text/event-stream"},
		{"Upgrade: h2c", "Connection: Upgrade"},
		{"Upgrade: websocket", "Connection: close"},
	} {
		response, _ := raw(t, p, append([]string{"GET /function/f HTTP/1.1", "Host: a"}, lines...)...)
		require.Equal(t, http.StatusOK, response.StatusCode)
		header := <-got
		require.NotContains(t, header, "Upgrade")
		require.NotContains(t, header, "Connection")
	}
}

// TestFunctionSwitchesProtocolsUnasked: what follows is neither a response nor anything
// that the client has asked for.
func TestFunctionSwitchesProtocolsUnasked(t *testing.T) {
	for _, c := range []struct{ claim, header, upgrade string }{
		{"to a plain request", "Accept: */*", "websocket"},
		{"to one for a stream", "Accept: text/event-stream", "websocket"},
		{"to one for another protocol", "Connection: Upgrade\r\nUpgrade: websocket", "h2c"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if assert.NoError(t, err) {
					_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+c.upgrade+"\r\n\r\n")
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}
			}))
			went := make(chan string, 1)
			p := proxy(t, Options{Resolver: toAndTell(t, function.URL, went)})
			response, body := raw(t, p, "GET /function/f HTTP/1.1", "Host: a", c.header)
			require.Equal(t, http.StatusInternalServerError, response.StatusCode)
			require.Equal(t, "Can't reach service for: f.\n", body)
			require.Equal(t, "0 "+errNoUpgrade.Error(), await(t, went, "the end of the call"))
		})
	}
}

// TestBrokenOffStreamIsNotTakenForWhole is as for other responses.
func TestBrokenOffStreamIsNotTakenForWhole(t *testing.T) {
	function := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	went := make(chan string, 1)
	p := proxy(t, Options{Resolver: toAndTell(t, function.URL, went)})
	r := request(t, "GET", p.URL+"/function/f", nil)
	r.Header.Set("Accept", "text/event-stream")
	response, err := p.Client().Do(r)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "200 unexpected EOF", await(t, went, "the end of the call"))
}

// TestConnectionOfTheFunctionEndsWithTheClients: nothing of the call is left.
func TestConnectionOfTheFunctionEndsWithTheClients(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() { // ends with the connection, or the listener
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1))
		close(began)
		_, err = io.Copy(io.Discard, conn)
		ended <- err
		_ = conn.Close()
	}()
	p := proxy(t, Options{Resolver: to(t, "http://"+listener.Addr().String())})
	conn := dial(t, p)
	_, err = io.WriteString(conn, "GET /function/f HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	await(t, began, "the request")
	require.NoError(t, conn.Close())
	require.NoError(t, await(t, ended, "the function's connection to end"))
}
