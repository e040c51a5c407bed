package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gateway "github.com/kitexproxy/kitexproxy/gateway/websocket"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestConversation(t *testing.T) {
	c := serve(t, gateway.Options{}, callTo(echo, true, true)).dial(t)
	for _, text := range []string{`"one"`, `""`, `"` + strings.Repeat("x", 100_000) + `"`} {
		c.send(t, text)
		require.Equal(t, `{"result":`+text+`}`, c.receive(t))
	}
	c.send(t, "")
	require.Equal(t, websocket.CloseError{Code: 1000}, c.closed(t))
}

// TestKinds: a call of each kind, and when its request is complete.
func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		clientStreams, serverStreams bool
		send, receive                []string
	}{
		"unary":         {false, false, []string{`"a"`}, []string{`{"result":"a"}`}},
		"server stream": {false, true, []string{`"a"`}, []string{`{"result":"a"}`, `{"result":"again"}`}},
		"client stream": {true, false, []string{`"a"`, `"b"`, ``, ``}, []string{`{"result":"ab"}`}},
		"bidi":          {true, true, []string{`"a"`, `"b"`, ``}, []string{`{"result":"ab"}`, `{"result":"again"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, gateway.Options{}, callTo(func(in stream.Inbound) {
				all := ""
				for {
					s, err := readString(in)
					if err != nil {
						require.Equal(t, io.EOF, err)
						break
					}
					all += s
				}
				_ = writeString(in, all)
				if c.serverStreams {
					_ = writeString(in, "again")
				}
				finish(in, stream.OK, "")
			}, c.clientStreams, c.serverStreams)).dial(t)
			for _, text := range c.send {
				client.send(t, text)
			}
			for _, text := range c.receive {
				require.Equal(t, text, client.receive(t))
			}
			require.Equal(t, websocket.StatusCode(1000), client.closed(t).Code)
		})
	}
}

// TestErrors: how a call's end is told.
func TestErrors(t *testing.T) {
	long := strings.Repeat("ä", 200)
	for _, c := range []struct {
		code   stream.Code
		says   string
		close  websocket.StatusCode
		reason string
	}{
		{1, "m", 1008, "gRPC code CANCELLED: m"},
		{2, "m", 1011, "gRPC code UNKNOWN: m"},
		{3, "m", 1008, "gRPC code INVALID_ARGUMENT: m"},
		{5, "m", 1008, "gRPC code NOT_FOUND: m"},
		{8, "m", 1013, "gRPC code RESOURCE_EXHAUSTED: m"},
		{13, long, 1011, "gRPC code INTERNAL: " + strings.Repeat("ä", 51)},
		{14, "m", 1013, "gRPC code UNAVAILABLE: m"},
		{16, "m", 1008, "gRPC code UNAUTHENTICATED: m"},
		{99, "m", 1011, "gRPC code 99: m"},
	} {
		t.Run(c.code.String(), func(t *testing.T) {
			client := serve(t, gateway.Options{}, callTo(fail(c.code, c.says), true, true)).dial(t)
			require.Equal(t, `{"error":{"code":`+strconv.Itoa(int(c.code))+`,"message":"`+c.says+`"}}`, client.receive(t))
			require.Equal(t, websocket.CloseError{Code: c.close, Reason: c.reason}, client.closed(t))
		})
	}
}

func TestErrorsBehindMessages(t *testing.T) {
	detail, err := anypb.New(wrapperspb.String("d"))
	require.NoError(t, err)
	details, err := proto.Marshal(&spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail, {TypeUrl: "type.example.com/unknown"}}})
	require.NoError(t, err)
	c := serve(t, gateway.Options{}, callTo(func(in stream.Inbound) {
		_ = writeString(in, "a")
		in.Finish(&stream.Trailer{Status: stream.Status{Code: 9, Message: "m", Details: details}})
	}, true, true)).dial(t)
	require.Equal(t, `{"result":"a"}`, c.receive(t))
	require.Equal(t, `{"error":{"code":9,"message":"m"}}`, c.receive(t), "without details that cannot be written")
	require.Equal(t, websocket.StatusCode(1008), c.closed(t).Code)
}

func TestFramingIsTheCallers(t *testing.T) {
	call := callTo(func(in stream.Inbound) {
		_ = writeString(in, "a")
		finish(in, 5, "m")
	}, true, true)
	call.Result = func(m proto.Message) ([]byte, error) {
		return []byte(`{"data":"` + m.(*wrapperspb.StringValue).Value + `"}`), nil
	}
	call.Error = func(err error) []byte { return []byte(`{"errno":5}`) }
	c := serve(t, gateway.Options{}, call).dial(t)
	require.Equal(t, `{"data":"a"}`, c.receive(t))
	require.Equal(t, `{"errno":5}`, c.receive(t))
	c.closed(t)

	call.Error = func(error) []byte { return nil }
	call.Result = func(proto.Message) ([]byte, error) { return nil, errors.New("no JSON") }
	c = serve(t, gateway.Options{}, call).dial(t)
	ce := c.closed(t)
	require.Equal(t, websocket.StatusCode(1011), ce.Code)
	require.Contains(t, ce.Reason, "no JSON")
}

// TestBadInput: each is answered, and ends the call of the backend.
func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		typ           websocket.MessageType
		messages      []string
		clientStreams bool
		text          string
		close         websocket.StatusCode
	}{
		"binary":                   {websocket.MessageBinary, []string{`"a"`}, true, "", 1003},
		"too long":                 {websocket.MessageText, []string{`"` + strings.Repeat("x", 1000) + `"`}, true, "", 1009},
		"no JSON":                  {websocket.MessageText, []string{`{`}, true, `{"error":{"code":3,`, 1008},
		"no UTF-8":                 {websocket.MessageText, []string{"\"\xff\""}, true, `{"error":{"code":3,`, 1008},
		"other JSON":               {websocket.MessageText, []string{`{"a":1}`}, true, `"message":"themessageisnogoogle.protobuf.StringValueinJSON`, 1008},
		"message behind the end":   {websocket.MessageText, []string{``, `"a"`}, true, `{"error":{"code":3,`, 1008},
		"second message of one":    {websocket.MessageText, []string{`"a"`, `"b"`}, false, `{"error":{"code":3,`, 1008},
		"empty message of one":     {websocket.MessageText, []string{``}, false, `{"error":{"code":3,`, 1008},
		"what Prepare refuses":     {websocket.MessageText, []string{`"refuse"`}, true, `"message":"refused"`, 1008},
		"what Prepare forbids":     {websocket.MessageText, []string{`"forbid"`}, true, `{"error":{"code":7,"message":"forbidden"}}`, 1008},
		"what nobody is ready for": {websocket.MessageText, []string{`"panic"`}, true, `{"error":{"code":13,"message":"internalerror"}}`, 1011},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			call := callTo(func(in stream.Inbound) {
				<-in.Context().Done()
				finish(in, stream.Canceled, "")
				close(ended)
			}, c.clientStreams, true)
			call.Prepare = func(m proto.Message) error {
				switch m.(*wrapperspb.StringValue).Value {
				case "refuse":
					return errors.New("refused")
				case "forbid":
					return status.Error(codes.PermissionDenied, "forbidden")
				case "panic":
					panic("secret")
				}
				return nil
			}
			client := serve(t, gateway.Options{ReadLimit: 100}, call).dial(t)
			for _, m := range c.messages {
				require.NoError(t, client.Write(safe(t), c.typ, []byte(m)))
			}
			if c.text != "" {
				require.Contains(t, client.receive(t), c.text)
			}
			require.Equal(t, c.close, client.closed(t).Code)
			if name != "empty message of one" { // the call of which never begins
				<-ended
			}
		})
	}
}

func TestMessagesOfTheLimitFit(t *testing.T) {
	c := serve(t, gateway.Options{ReadLimit: 100}, callTo(echo, true, true)).dial(t)
	text := `"` + strings.Repeat("x", 98) + `"`
	c.send(t, text)
	require.Equal(t, `{"result":`+text+`}`, c.receive(t))
}

func TestOpenMayFail(t *testing.T) {
	call := callTo(nil, true, true)
	call.Open = func(context.Context, *http.Request) (grpc.ClientStream, error) { return nil, errors.New("no route") }
	c := serve(t, gateway.Options{}, call).dial(t)
	require.Equal(t, `{"error":{"code":2,"message":"noroute"}}`, c.receive(t))
	require.Equal(t, websocket.StatusCode(1011), c.closed(t).Code)
}

func TestPanicsLeaveNothingRunning(t *testing.T) {
	call := callTo(echo, true, true)
	call.Result = func(proto.Message) ([]byte, error) { panic("secret") }
	c := serve(t, gateway.Options{}, call).dial(t)
	c.send(t, `"a"`)
	_, _, err := c.Read(safe(t))
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

// TestClientsThatDoNotLetGo: one that has announced a message of a tebibyte, and does
// not answer the close frame.
func TestClientsThatDoNotLetGo(t *testing.T) {
	s := serve(t, gateway.Options{CloseTimeout: 10 * time.Millisecond}, callTo(echo, true, true))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	r, err := http.NewRequest(http.MethodGet, s.URL, nil)
	require.NoError(t, err)
	r.Header = upgrade()
	require.NoError(t, r.Write(conn))
	_, err = conn.Write([]byte("\x81\x81\x00\x00\x00\x00{\x81\xff\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	require.NoError(t, err)
	<-s.served
}

// TestClientsThatTalkAreThere, whether or not they answer pings.
func TestClientsThatTalkAreThere(t *testing.T) {
	pings := make(chan struct{}, 100)
	s := serve(t, gateway.Options{PingInterval: time.Millisecond, PingTimeout: 300 * time.Millisecond}, callTo(echo, true, true))
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(safe(t), s.URL, &websocket.DialOptions{HTTPClient: h, OnPingReceived: func(context.Context, []byte) bool {
		pings <- struct{}{}
		return false
	}})
	require.NoError(t, err)
	c := &client{conn}
	for len(pings) < 3 {
		c.send(t, `"a"`)
		require.Equal(t, `{"result":"a"}`, c.receive(t))
	}
	c.send(t, "")
	require.Equal(t, websocket.StatusCode(1000), c.closed(t).Code)
	<-s.served
}

// TestClientsThatGoAwayCancelTheirCalls, in every way to go.
func TestClientsThatGoAwayCancelTheirCalls(t *testing.T) {
	for name, c := range map[string]struct {
		leave         func(*client) error
		clientStreams bool
	}{
		"connection lost":             {func(c *client) error { return c.CloseNow() }, true},
		"going away":                  {func(c *client) error { return c.Close(1001, "") }, true},
		"closed in a server stream":   {func(c *client) error { return c.Close(1000, "") }, false},
		"closed without the backend":  {func(c *client) error { return c.Close(1000, "") }, true},
		"without a code in a request": {func(c *client) error { return c.Close(1005, "") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan struct{}), make(chan error, 1)
			client := serve(t, gateway.Options{LingerTimeout: time.Millisecond}, callTo(func(in stream.Inbound) {
				close(begun)
				<-in.Context().Done()
				ended <- in.Context().Err()
				finish(in, stream.Canceled, "")
			}, c.clientStreams, true)).dial(t)
			client.send(t, `"a"`)
			<-begun
			_ = c.leave(client)
			require.Equal(t, context.Canceled, <-ended)
		})
	}
}

// TestUploadsSurviveTheirClient: what was sent before a normal close gets there, and
// so does the half-close.
func TestUploadsSurviveTheirClient(t *testing.T) {
	for name, serverStreams := range map[string]bool{"client stream": false, "bidi": true} {
		t.Run(name, func(t *testing.T) {
			got, closed := make(chan string, 10), make(chan struct{})
			c := serve(t, gateway.Options{}, callTo(func(in stream.Inbound) {
				defer close(got)
				<-closed
				for {
					s, err := readString(in)
					if err != nil {
						require.Equal(t, io.EOF, err)
						_ = writeString(in, "nobody reads this")
						finish(in, stream.OK, "")
						return
					}
					got <- s
					if serverStreams {
						_ = writeString(in, strings.Repeat("nor this", 5000)) // which has to be taken nevertheless
					}
				}
			}, true, serverStreams)).dial(t)
			for range 10 {
				c.send(t, `"a"`)
			}
			require.NoError(t, c.Close(1000, ""))
			close(closed)
			all := ""
			for s := range got {
				all += s
			}
			require.Equal(t, strings.Repeat("a", 10), all)
		})
	}
}

// TestDeadClientsAreNoticed: one that does not answer pings, having nothing to say.
func TestDeadClientsAreNoticed(t *testing.T) {
	ended := make(chan struct{})
	c := serve(t, gateway.Options{PingInterval: time.Millisecond, PingTimeout: time.Millisecond}, callTo(func(in stream.Inbound) {
		<-in.Context().Done()
		finish(in, stream.Canceled, "")
		close(ended)
	}, true, true)).dial(t)
	<-ended // nobody reads from c, and so nobody answers
	_, _, err := c.Read(safe(t))
	require.Error(t, err)
}

// TestLiveClientsAreLeftAlone: one whose messages wait for the backend cannot answer,
// since nothing is read from it.
func TestLiveClientsAreLeftAlone(t *testing.T) {
	pings := make(chan struct{}, 100)
	enough := make(chan struct{})
	s := serve(t, gateway.Options{PingInterval: time.Millisecond, PingTimeout: 20 * time.Millisecond}, callTo(func(in stream.Inbound) {
		select {
		case <-enough:
			echo(in)
		case <-in.Context().Done():
			finish(in, stream.Canceled, "")
		}
	}, true, true))
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(safe(t), s.URL, &websocket.DialOptions{HTTPClient: h, OnPingReceived: func(context.Context, []byte) bool {
		select {
		case pings <- struct{}{}:
		default:
		}
		return true
	}})
	require.NoError(t, err)
	conn.SetReadLimit(-1)
	c := &client{conn}
	received := make(chan error, 1)
	go func() { // ends with the connection
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				received <- err
				return
			}
		}
	}()
	text := `"` + strings.Repeat("x", 50_000) + `"`
	for range 3 { // the second of which waits for the first to be read
		c.send(t, text)
	}
	for range 20 {
		<-pings
	}
	close(enough)
	c.send(t, "")
	require.Equal(t, websocket.StatusCode(1000), websocket.CloseStatus(<-received))
	<-s.served
}

// TestClientsThatDoNotReadHoldTheirBackendUp, and for no longer than allowed.
func TestClientsThatDoNotReadHoldTheirBackendUp(t *testing.T) {
	ended := make(chan int, 1)
	s := serve(t, gateway.Options{WriteTimeout: 50 * time.Millisecond, LingerTimeout: time.Millisecond}, callTo(func(in stream.Inbound) {
		written := 0
		for writeString(in, strings.Repeat("x", 60_000)) == nil {
			written += 60_000
		}
		finish(in, stream.Canceled, "")
		ended <- written
	}, true, true))
	c := s.dial(t)
	require.Less(t, <-ended, 64<<20, "what is in the buffers of sockets, and a message or two")
	_ = c.CloseNow()
}

func TestOrigins(t *testing.T) {
	s := serve(t, gateway.Options{OriginPatterns: []string{"*.example.com", "https://app.test:8443"}}, callTo(fail(0, ""), true, true))
	host := strings.TrimPrefix(s.URL, "http://")
	for origin, want := range map[string]int{
		"": 101, "http://" + host: 101, "https://a.example.com": 101, "https://app.test:8443": 101,
		"https://evil.test": 403, "http://app.test:8443": 403, "https://example.com.evil.test": 403, "null": 403, "http://%zz": 403,
	} {
		t.Run(origin, func(t *testing.T) {
			h := upgrade()
			if origin != "" {
				h.Set("Origin", origin)
			}
			require.Equal(t, want, s.get(t, h).StatusCode)
		})
	}
	require.NoError(t, (&gateway.Options{OriginPatterns: []string{"*"}}).Check())
	require.ErrorContains(t, (&gateway.Options{OriginPatterns: []string{"a", "[b"}}).Check(), `"[b"`)
}

func upgrade() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}
}

// get makes a request of the server by hand, and returns the head of the response.
func (s *server) get(t testing.TB, h http.Header) *http.Response {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r, err := http.NewRequest(http.MethodGet, s.URL, nil)
	require.NoError(t, err)
	r.Header = h
	require.NoError(t, r.Write(conn))
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	require.NoError(t, err)
	return resp
}

func TestRequestsThatAskForNone(t *testing.T) {
	call := callTo(nil, true, true)
	call.Open = nil
	s := serve(t, gateway.Options{}, call)
	for missing, want := range map[string]int{"Connection": 426, "Upgrade": 426, "Sec-Websocket-Version": 400, "Sec-Websocket-Key": 400} {
		h := upgrade()
		h.Del(missing)
		require.Equal(t, want, s.get(t, h).StatusCode, missing)
	}
	w := httptest.NewRecorder()
	gateway.Serve(w, httptest.NewRequest(http.MethodGet, "/", nil), gateway.Options{}, call)
	require.Equal(t, http.StatusNotImplemented, w.Code)

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	require.False(t, gateway.IsAskedFor(r))
	r.Header = upgrade()
	require.True(t, gateway.IsAskedFor(r))
	r.Method = http.MethodPost
	require.False(t, gateway.IsAskedFor(r))
}

func TestBearerTokens(t *testing.T) {
	for name, c := range map[string]struct {
		protocols, authorization string // of the client
		off                      bool
		want, selected           string
	}{
		"token":            {protocols: "bearer, abc.def", want: "Bearer abc.def", selected: "bearer"},
		"capital":          {protocols: "Bearer,t", want: "Bearer t", selected: "bearer"},
		"header wins":      {protocols: "bearer, t", authorization: "Basic x", want: "Basic x", selected: "bearer"},
		"no token":         {protocols: "bearer", selected: "bearer"},
		"empty token":      {protocols: "bearer, ", selected: "bearer"},
		"other protocol":   {protocols: "graphql, t"},
		"too many":         {protocols: "bearer, a, b", selected: "bearer"},
		"nothing":          {},
		"not switched on":  {protocols: "bearer, t", off: true},
		"header, no token": {authorization: "Basic x", want: "Basic x"},
	} {
		t.Run(name, func(t *testing.T) {
			call := callTo(fail(0, ""), true, true)
			open, seen := call.Open, make(chan http.Header, 1)
			call.Open = func(ctx context.Context, r *http.Request) (grpc.ClientStream, error) {
				seen <- r.Header
				return open(ctx, r)
			}
			h := upgrade()
			if c.protocols != "" {
				h.Set("Sec-WebSocket-Protocol", c.protocols)
			}
			if c.authorization != "" {
				h.Set("Authorization", c.authorization)
			}
			resp := serve(t, gateway.Options{Bearer: !c.off}, call).get(t, h)
			require.Equal(t, 101, resp.StatusCode)
			require.Equal(t, c.selected, strings.ToLower(resp.Header.Get("Sec-WebSocket-Protocol")), "never the token")
			got := <-seen
			require.Equal(t, c.want, got.Get("Authorization"))
			if strings.HasPrefix(c.want, "Bearer") {
				require.Equal(t, "bearer", got.Get("Sec-WebSocket-Protocol"), "the token is in one place only")
			}
		})
	}
}

// TestServersMayEndCalls: the context of the request is theirs to end.
func TestServersMayEndCalls(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	begun := make(chan struct{})
	call := callTo(func(in stream.Inbound) {
		close(begun)
		echo(in)
	}, true, true)
	s := &server{served: make(chan struct{}, 1)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gateway.Serve(wrapped{w}, r.WithContext(ctx), gateway.Options{}, call)
		s.served <- struct{}{}
	}))
	t.Cleanup(s.Close)
	c := s.dial(t)
	<-begun
	cancel()
	require.Equal(t, websocket.StatusCode(1001), c.closed(t).Code)
}

// wrapped is a ResponseWriter as middlewares have it.
type wrapped struct{ inner http.ResponseWriter }

func (w wrapped) Header() http.Header         { return w.inner.Header() }
func (w wrapped) Write(b []byte) (int, error) { return w.inner.Write(b) }
func (w wrapped) WriteHeader(status int)      { w.inner.WriteHeader(status) }
func (w wrapped) Unwrap() http.ResponseWriter { return w.inner }

func TestPanicsAreReported(t *testing.T) {
	var log bytes.Buffer
	call := callTo(echo, true, true)
	call.NewRequest = func() proto.Message { panic("secret") }
	s := serve(t, gateway.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, call)
	c := s.dial(t)
	c.send(t, `"a"`)
	require.NotContains(t, c.receive(t), "secret")
	c.closed(t)
	<-s.served
	s.served <- struct{}{}
	require.Contains(t, log.String(), "secret")
}

// FuzzFrames: whatever bytes come behind the handshake, the server comes back and
// nothing but the messages it should gets to the backend.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x83\x00\x00\x00\x00\"a\""), true)
	f.Add([]byte("\x81\x80\x00\x00\x00\x00"), true)
	f.Add([]byte("\x82\x83\x00\x00\x00\x00\"a\""), false)
	f.Add([]byte("\x88\x82\x00\x00\x00\x00\x03\xe8"), true)
	f.Add([]byte("\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00"), true)
	f.Add([]byte("\x01\x81\x00\x00\x00\x00\"\x80\x82\x00\x00\x00\x00a\""), false)
	f.Add([]byte("\x89\x80\x00\x00\x00\x00\xc1\x80\x00\x00\x00\x00"), true)
	one, many := serve(f, gateway.Options{}, callTo(echo, false, true)), serve(f, gateway.Options{}, callTo(echo, true, true))
	f.Fuzz(func(t *testing.T, frames []byte, clientStreams bool) {
		s := one
		if clientStreams {
			s = many
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		r, err := http.NewRequest(http.MethodGet, s.URL, nil)
		require.NoError(t, err)
		r.Header = upgrade()
		require.NoError(t, r.Write(conn))
		_, _ = conn.Write(frames)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		if err == nil {
			require.Contains(t, string(answer), "101 Switching Protocols")
		}
		<-s.served
	})
}
