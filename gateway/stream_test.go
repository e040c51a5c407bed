package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStreams(t *testing.T) {
	s := start(t, lean())
	const sse = "Accept: text/event-stream, */*;q=0.5"
	for _, c := range []struct {
		name, do, body, want, contentType string
		headers                           []string
		status                            int
	}{
		{
			name: "replies, one to a line", do: "GET /v1/watch?big=2",
			want: `{"result":{}}` + "\n" + `{"result":{"big":"1"}}` + "\n", contentType: "application/x-ndjson",
		},
		{name: "no replies", do: "GET /v1/watch", want: ""},
		{
			name: "an error before the first reply", do: "GET /v1/watch", headers: []string{"Grpc-Metadata-Fail: 5"}, status: 404,
			want: `{"code":5,"message":"failed as asked"}`, contentType: "application/json",
		},
		{
			name: "an error after it", do: "GET /v1/watch?big=1", headers: []string{"Grpc-Metadata-Fail: 5"},
			want: `{"result":{}}` + "\n" + `{"error":{"code":5,"message":"failed as asked"}}` + "\n", contentType: "application/x-ndjson",
		},
		{
			name: "events", do: "GET /v1/watch?big=2", headers: []string{sse}, contentType: "text/event-stream",
			want: "data: {}\n\ndata: {\"big\":\"1\"}\n\nevent: end\ndata: {}\n\n",
		},
		{name: "no events", do: "GET /v1/watch", headers: []string{sse}, want: "event: end\ndata: {}\n\n", contentType: "text/event-stream"},
		{
			name: "an error before the first event", do: "GET /v1/watch", headers: []string{sse, "Grpc-Metadata-Fail: 5"}, status: 404,
			want: `{"code":5,"message":"failed as asked"}`, contentType: "application/json",
		},
		{
			name: "an error after it", do: "GET /v1/watch?big=1", headers: []string{sse, "Grpc-Metadata-Fail: 5"},
			want: "data: {}\n\nevent: error\ndata: {\"code\":5,\"message\":\"failed as asked\"}\n\n", contentType: "text/event-stream",
		},
		{name: "bodies as they are", do: "GET /v1/download", want: "\x00one\ntwo\xff", contentType: "image/x-test"},
		{name: "and never as events", do: "GET /v1/download", headers: []string{sse}, want: "\x00one\ntwo\xff", contentType: "image/x-test"},
		{
			name: "requests, one after the other", do: "POST /v1/collect", body: `{"name":"a"} {"name":"b"}` + "\n" + `{"name":"c"}`,
			want: `{"name":"a|b|c","big":"3"}`, contentType: "application/json",
		},
		{name: "no requests", do: "POST /v1/collect", want: `{}`, contentType: "application/json"},
		{name: "a broken request", do: "POST /v1/collect", body: `{"name":"a"}{`, status: 400, want: `{"code":3,"message":"the body: unexpected EOF"}`, contentType: "application/json"},
		{name: "an early error", do: "POST /v1/collect", body: `{}`, headers: []string{"Grpc-Metadata-Fail: 7"}, status: 403, want: `{"code":7,"message":"failed as asked"}`, contentType: "application/json"},
		{name: "a body as it is", do: "POST /v1/upload", body: "{\n", want: `{"name":"{\n","big":"1"}`, contentType: "application/json"},
		{
			name: "both", do: "POST /v1/chat", body: `{"name":"a"}` + "\n" + `{"name":"b"}`, contentType: "application/x-ndjson",
			want: `{"result":{"name":"a"}}` + "\n" + `{"result":{"name":"b"}}` + "\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do(t, c.do, c.body, c.headers...)
			assert.Equal(t, max(200, c.status), a.status)
			assert.Equal(t, c.want, a.body)
			assert.Equal(t, c.contentType, a.header.Get("Content-Type"))
		})
	}
}

// A reply is there when the backend has sent it, and a client that goes away ends the
// call.
func TestStreamsAreFlushedAndCanceled(t *testing.T) {
	s := start(t, lean())
	for _, accept := range []string{"*/*", "text/event-stream"} {
		ctx, cancel := context.WithCancel(t.Context())
		resp := s.open(t, ctx, "GET /v1/watch?big=1", nil, "Grpc-Metadata-Hold: x", "Accept: "+accept)
		_, err := bufio.NewReader(resp.Body).ReadString('\n')
		require.NoError(t, err)
		cancel()
		<-s.gone
		_ = resp.Body.Close()
	}
}

func TestChatGoesBothWaysAtOnce(t *testing.T) {
	s := start(t, lean())
	body, requests := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer func() { _ = requests.Close() }()
	go func() { _, _ = io.WriteString(requests, `{"name":"a"}`+"\n") }() // ends when that is read
	resp := s.open(t, ctx, "POST /v1/chat", body)
	defer func() { _ = resp.Body.Close() }()
	replies := bufio.NewReader(resp.Body)
	for _, name := range []string{"a", "b", "c"} {
		line, err := replies.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, `{"result":{"name":"`+name+`"}}`+"\n", compact(line))
		_, err = io.WriteString(requests, `{"name":"`+string(name[0]+1)+`"}`+"\n")
		require.NoError(t, err)
	}
	cancel()
	<-s.gone
}

// The backend answers although the client would have more to say.
func TestAnEarlyAnswerDoesNotWaitForTheBody(t *testing.T) {
	s := start(t, lean())
	body, requests := io.Pipe()
	defer func() { _ = requests.Close() }()
	resp := s.open(t, t.Context(), "POST /v1/collect", body, "Grpc-Metadata-Fail: 9")
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, 400, resp.StatusCode)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, string(b), "failed as asked")
}

func TestAMessageOfAStreamIsLimited(t *testing.T) {
	o := lean()
	o.MaxBody = 1000
	s := start(t, o)
	small := `{"name":"` + strings.Repeat("x", 300) + `"}` + "\n"
	a := s.do(t, "POST /v1/collect", strings.Repeat(small, 20))
	assert.Equal(t, 200, a.status, a.body)
	a = s.do(t, "POST /v1/collect", small+`{"name":"`+strings.Repeat("x", 2000)+`"}`)
	assert.Equal(t, 413, a.status, a.body)
	assert.Contains(t, a.body, `"code":8`)
}

func TestIdleEventsArePinged(t *testing.T) {
	o := lean()
	o.KeepAlive = time.Millisecond
	s := start(t, o)
	resp := s.open(t, t.Context(), "GET /v1/watch?big=0", nil, "Grpc-Metadata-Hold: x", "Grpc-Metadata-Fail: 5", "Accept: text/event-stream")
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	events := bufio.NewReader(resp.Body)
	line, err := events.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, ": ping\n", line)
	close(s.hold)
	rest, err := io.ReadAll(events)
	require.NoError(t, err)
	assert.Contains(t, compact(string(rest)), "event: error\ndata: {\"code\":5,\"message\":\"failed as asked\"}\n\n")
	assert.NotContains(t, string(rest), "event: end")
}

// A body as it is has no place for an error.
func TestABrokenDownloadIsBrokenOff(t *testing.T) {
	s := start(t, lean())
	resp := s.open(t, t.Context(), "GET /v1/download", nil, "Grpc-Metadata-Fail: 5")
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.Error(t, err)
	assert.Equal(t, "\x00one\ntwo\xff", string(b))
}

func TestEventsOfSeveralLines(t *testing.T) {
	assert.Equal(t, "event: x\ndata: {\ndata:  1}", string(event("x", []byte("{\n 1}"))))
}

// HTTP/2 needs no permission to go both ways, and keeps its connection.
func TestChatOverHTTP2(t *testing.T) {
	s := start(t, lean())
	server := httptest.NewUnstartedServer(s.gateway)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url, s.client = server.URL, server.Client()
	body, requests := io.Pipe()
	defer func() { _ = requests.Close() }()
	go func() { _, _ = io.WriteString(requests, `{"name":"a"}`+"\n") }() // ends when that is read
	resp := s.open(t, t.Context(), "POST /v1/chat", body)
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, 2, resp.ProtoMajor)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, `{"result":{"name":"a"}}`+"\n", compact(line))
	md, _ := s.seen()
	assert.Equal(t, []string{"https"}, md["x-forwarded-proto"])
}
