package websocket_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gateway "github.com/kitexproxy/kitexproxy/gateway/websocket"
	"github.com/kitexproxy/kitexproxy/handler/inproc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

var quiet = slog.New(slog.DiscardHandler)

func safe(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	t.Cleanup(cancel)
	return ctx
}

// codec is JSON as protobuf has it.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return protojson.Marshal(v.(proto.Message)) }
func (codec) Unmarshal(data []byte, v any) error { return protojson.Unmarshal(data, v.(proto.Message)) }

// callTo is a call of a method that backend answers, all of whose messages are strings.
func callTo(backend func(stream.Inbound), clientStreams, serverStreams bool) gateway.Call {
	conn := inproc.New(backend, inproc.WithLogger(quiet))
	return gateway.Call{
		Open: func(ctx context.Context, _ *http.Request) (grpc.ClientStream, error) {
			return conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: clientStreams, ServerStreams: serverStreams}, "/test.Service/Method")
		},
		ClientStreams: clientStreams, ServerStreams: serverStreams,
		NewRequest:  func() proto.Message { return new(wrapperspb.StringValue) },
		NewResponse: func() proto.Message { return new(wrapperspb.StringValue) },
		Codec:       codec{},
	}
}

// server serves WebSockets until the test ends, which waits for each of them.
type server struct {
	*httptest.Server
	served chan struct{} // has one for each that has been served
}

func serve(t testing.TB, o gateway.Options, call gateway.Call) *server {
	if o.Logger == nil {
		o.Logger = quiet
	}
	s := &server{served: make(chan struct{}, 1000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.served <- struct{}{} }()
		gateway.Serve(w, r, o, call)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

// dial opens a WebSocket.
func (s *server) dial(t testing.TB, protocols ...string) *client {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(safe(t), s.URL, &websocket.DialOptions{HTTPClient: h, Subprotocols: protocols})
	require.NoError(t, err)
	conn.SetReadLimit(-1)
	t.Cleanup(func() {
		_ = conn.CloseNow()
		<-s.served
	})
	return &client{conn}
}

// client is the browser.
type client struct{ *websocket.Conn }

func (c *client) send(t testing.TB, text string) {
	t.Helper()
	require.NoError(t, c.Write(safe(t), websocket.MessageText, []byte(text)))
}

func (c *client) receive(t testing.TB) string {
	t.Helper()
	typ, b, err := c.Read(safe(t))
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, typ)
	require.True(t, json.Valid(b), "%s", b)
	return strings.ReplaceAll(string(b), " ", "") // protojson has some at random
}

// closed returns how the connection is closed, which must be next.
func (c *client) closed(t testing.TB) websocket.CloseError {
	t.Helper()
	_, b, err := c.Read(safe(t))
	require.Error(t, err, "a message: %s", b)
	var ce websocket.CloseError
	require.ErrorAs(t, err, &ce)
	return ce
}

// readString reads a request message.
func readString(in stream.Inbound) (string, error) {
	prefix := make([]byte, stream.PrefixLen)
	if err := in.Read(prefix); err != nil {
		return "", err
	}
	payload := make([]byte, int(prefix[2])<<16|int(prefix[3])<<8|int(prefix[4]))
	if err := in.Read(payload); err != nil && len(payload) > 0 {
		return "", err
	}
	var m wrapperspb.StringValue
	err := proto.Unmarshal(payload, &m)
	return m.Value, err
}

func writeString(in stream.Inbound, s string) error {
	payload, err := proto.Marshal(wrapperspb.String(s))
	if err != nil {
		return err
	}
	n := len(payload)
	return in.Write(append([]byte{0, 0, byte(n >> 16), byte(n >> 8), byte(n)}, payload...))
}

// echo answers each message with its own text.
func echo(in stream.Inbound) {
	_ = in.WriteHeader(&stream.Header{})
	for {
		s, err := readString(in)
		if err == io.EOF {
			finish(in, stream.OK, "")
			return
		}
		if err != nil || writeString(in, s) != nil {
			finish(in, stream.Canceled, "")
			return
		}
	}
}

func finish(in stream.Inbound, code stream.Code, message string) {
	in.Finish(&stream.Trailer{Status: stream.Status{Code: code, Message: message}})
}

// fail answers with a status.
func fail(code stream.Code, message string) func(stream.Inbound) {
	return func(in stream.Inbound) { finish(in, code, message) }
}
