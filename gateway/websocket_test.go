package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// talk opens a WebSocket, sends messages and returns what comes until it is closed.
func (s *started) talk(t *testing.T, path string, messages ...string) (got []string, code websocket.StatusCode) {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+path, nil)
	require.NoError(t, err)
	if resp.Body != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	defer func() { _ = conn.CloseNow() }()
	for _, m := range messages {
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(m)))
	}
	for {
		_, b, err := conn.Read(context.WithoutCancel(t.Context()))
		if err != nil {
			return got, websocket.CloseStatus(err)
		}
		got = append(got, compact(string(b)))
	}
}

func TestWebSockets(t *testing.T) {
	s := start(t, lean())
	for _, c := range []struct {
		name, path string
		messages   []string
		want       []string
		code       websocket.StatusCode
	}{
		{
			name: "both ways", path: "/shop.Shop/Chat", messages: []string{`{"name":"a"}`, `{"name":"b"}`, ""},
			want: []string{`{"result":{"name":"a"}}`, `{"result":{"name":"b"}}`}, code: 1000,
		},
		{name: "unary", path: "/shop.Shop/Plain", messages: []string{`{"ok":true}`}, want: []string{`{"result":{"ok":true}}`}, code: 1000},
		{name: "client stream", path: "/shop.Shop/Collect", messages: []string{`{"name":"a"}`, ""}, want: []string{`{"result":{"name":"a","big":"1"}}`}, code: 1000},
		{name: "server stream", path: "/shop.Shop/Watch", messages: []string{`{"big":2}`}, want: []string{`{"result":{}}`, `{"result":{"big":"1"}}`}, code: 1000},
		{name: "by its URL", path: "/v1/watch?big=1", want: []string{`{"result":{}}`}, code: 1000},
		{name: "by its path", path: "/v1/shelves/1/items/2", want: []string{`{"result":{"name":"shelves/1/items/2"}}`}, code: 1000},
		{
			name: "bad URL", path: "/v1/watch?big=x", code: 1008,
			want: []string{`{"error":{"code":3,"message":"the query: parsing field \"big\": strconv.ParseInt: parsing \"x\": invalid syntax"}}`},
		},
		{
			name: "bad message", path: "/shop.Shop/Chat", messages: []string{`nope`}, code: 1008,
			want: []string{`{"error":{"code":3,"message":`},
		},
		{name: "bodies", path: "/shop.Shop/Download", messages: []string{`{}`}, want: []string{`{"result":{"contentType":"image/x-test","data":"AG9uZQo="}}`, `{"result":{"contentType":"image/x-test","data":"dHdv/w=="}}`}, code: 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, code := s.talk(t, c.path, c.messages...)
			assert.Equal(t, c.code, code)
			require.Len(t, got, len(c.want), got)
			for i, want := range c.want {
				assert.True(t, strings.HasPrefix(got[i], want), got[i])
			}
		})
	}
}

func TestWebSocketInAnEnvelope(t *testing.T) {
	o := lean()
	o.Envelope = &Envelope{}
	s := start(t, o)
	got, _ := s.talk(t, "/shop.Shop/Chat", `{"name":"a"}`, "")
	assert.Equal(t, []string{`{"errno":0,"msg":"","data":{"name":"a"}}`}, got)
	got, _ = s.talk(t, "/shop.Shop/Chat", `nope`)
	require.Len(t, got, 1)
	assert.True(t, strings.HasPrefix(got[0], `{"errno":3,"msg":`), got[0])
}

func TestOnlyWhatIsBoundToGETIsAWebSocket(t *testing.T) {
	s := start(t, lean())
	a := s.do(t, "GET /v1/collect", "", "Upgrade: websocket", "Connection: Upgrade")
	assert.Equal(t, 404, a.status)
	a = s.do(t, "GET /shop.Shop/Chat", "", "Upgrade: websocket", "Connection: Upgrade", "Origin: http://evil.example",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	assert.Equal(t, 403, a.status)
}
