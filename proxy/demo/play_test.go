package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// through runs a proxy before a backend for the time of a test.
func through(t *testing.T, backend string) string {
	t.Helper()
	cfg, err := conf.Simple("127.0.0.1:0", backend)
	require.NoError(t, err)
	p, err := proxy.New(cfg, proxy.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
	select {
	case <-p.Ready():
	case err := <-ended:
		ended <- err
		require.FailNow(t, "the proxy does not start", "%v", err)
	}
	return p.Addrs()[0].String()
}

func TestPlayThroughAProxy(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, Play(testContext(t), &out, through(t, serve(t, &service{}))), "%s", &out)
	transcript := out.String()
	for _, expected := range []string{
		"/kitexproxy.echo.v1.Echo/Unary", "/kitexproxy.echo.v1.Echo/Collect",
		"/kitexproxy.echo.v1.Echo/Expand", "/kitexproxy.echo.v1.Echo/Chat",
		`-> metadata  demo-raw-bin: [00 01 fe ff]`,
		`-> message   "hello"`,
		`<- headers   echo-raw-bin: [00 01 fe ff]`,
		`<- message   #1 "hello"`,
		`<- trailers  echo-count: "3"`,
		`<- trailers  echo-digest-bin: [`,
		`<- status    OK`,
		`<- status    ResourceExhausted (8) "café: sold out, 100%"`,
		"5 of 5 calls arrived as sent\n",
	} {
		assert.Contains(t, transcript, expected)
	}
	assert.Equal(t, 5, strings.Count(transcript, "   as sent\n"))
	assert.NotContains(t, transcript, "NOT as sent")
}

func TestPlayThroughTwoProxies(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, Play(testContext(t), &out, through(t, through(t, serve(t, &service{})))), "%s", &out)
}

// The saboteurs are backends that get one thing wrong, as a faulty proxy would.
type (
	shouting   struct{ service } // alters a message
	trailerCut struct{ service } // drops the trailers of unary calls
	lateHeader struct{ service } // drops the headers of client streaming
	forgetful  struct{ service } // drops the last message of a stream
	talkative  struct{ service } // sends a message too many
	reversed   struct{ service } // changes the order
	renaming   struct{ service } // changes a status message
	recoding   struct{ service } // changes a status code
	truncating struct{ service } // loses the end of a payload
)

func (s *shouting) Unary(ctx context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	reply, err := s.service.Unary(ctx, req)
	if err == nil {
		reply.Message = strings.ToUpper(reply.Message)
	}
	return reply, err
}

// mute is a stream that loses metadata.
type mute struct{ streaming.Stream }

func (mute) SetTrailer(metadata.MD) {}

func (s *trailerCut) Unary(ctx context.Context, req *echo.EchoRequest) (*echo.EchoReply, error) {
	return s.service.Unary(streaming.NewCtxWithStream(ctx, mute{streaming.GetStream(ctx)}), req)
}

type collecting struct {
	echo.Echo_CollectServer
	ctx  context.Context
	send func(*echo.EchoReply)
}

func (c *collecting) Context() context.Context { return c.ctx }

func (c *collecting) SendAndClose(reply *echo.EchoReply) error {
	if c.send != nil {
		c.send(reply)
	}
	return c.Echo_CollectServer.SendAndClose(reply)
}

func (s *lateHeader) Collect(stream echo.Echo_CollectServer) error {
	ctx := metadata.NewIncomingContext(stream.Context(), metadata.MD{})
	return s.service.Collect(&collecting{Echo_CollectServer: stream, ctx: ctx})
}

func (s *truncating) Collect(stream echo.Echo_CollectServer) error {
	return s.service.Collect(&collecting{
		Echo_CollectServer: stream, ctx: stream.Context(),
		send: func(reply *echo.EchoReply) { reply.Payload = reply.Payload[:len(reply.Payload)-1] },
	})
}

func (s *forgetful) Expand(req *echo.EchoRequest, stream echo.Echo_ExpandServer) error {
	less := *req
	less.Count--
	return s.service.Expand(&less, stream)
}

func (s *talkative) Chat(stream echo.Echo_ChatServer) error {
	if err := s.service.Chat(stream); err != nil {
		return err
	}
	return stream.Send(&echo.EchoReply{Message: "by the way"})
}

// backwards counts the replies of a stream down.
type backwards struct {
	echo.Echo_ExpandServer
	next int32
}

func (b *backwards) Send(reply *echo.EchoReply) error {
	reply.Sequence = b.next
	b.next--
	return b.Echo_ExpandServer.Send(reply)
}

func (s *reversed) Expand(req *echo.EchoRequest, stream echo.Echo_ExpandServer) error {
	return s.service.Expand(req, &backwards{Echo_ExpandServer: stream, next: req.Count})
}

func (s *renaming) Expand(req *echo.EchoRequest, stream echo.Echo_ExpandServer) error {
	err := s.service.Expand(req, stream)
	if err != nil {
		err = status.Err(status.Code(err), strings.ReplaceAll(req.Message, "é", "%C3%A9"))
	}
	return err
}

func (s *recoding) Expand(req *echo.EchoRequest, stream echo.Echo_ExpandServer) error {
	err := s.service.Expand(req, stream)
	if err != nil {
		err = status.Err(codes.Unavailable, req.Message)
	}
	return err
}

func TestPlayTellsWhatDiffers(t *testing.T) {
	for name, test := range map[string]struct {
		backend echo.Echo
		says    []string
		scenes  string
	}{
		"AlteredMessage": {&shouting{}, []string{`NOT as sent: reply 1: want #1 "hello", got #1 "HELLO"`}, "Unary"},
		"LostTrailers": {&trailerCut{}, []string{
			`NOT as sent: trailer echo-count: want "1", got none`,
			`NOT as sent: trailer echo-digest-bin: want [ea 53 `,
		}, "Unary"},
		"LostHeaders":          {&lateHeader{}, []string{`NOT as sent: header echo-color: want "amber", got none`}, "Client streaming"},
		"LostEndOfPayload":     {&truncating{}, []string{`(99999 bytes); payloads differ from byte 99999 on`}, "Client streaming"},
		"LostMessage":          {&forgetful{}, []string{`NOT as sent: reply 3: want #3 "again", got none`}, "Server streaming"},
		"MessageTooMany":       {&talkative{}, []string{`NOT as sent: reply 4: want none, got #0 "by the way"`}, "Bidirectional"},
		"Order":                {&reversed{}, []string{`NOT as sent: reply 1: want #1 "again", got #3 "again"`}, "Server streaming"},
		"AlteredStatusMessage": {&renaming{}, []string{`want ResourceExhausted (8) "café: sold out, 100%", got ResourceExhausted (8) "caf%C3%A9: sold out, 100%"`}, "fails"},
		"AlteredStatusCode":    {&recoding{}, []string{`want ResourceExhausted (8) "café: sold out, 100%", got Unavailable (14) "café: sold out, 100%"`}, "fails"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := Play(testContext(t), &out, through(t, serve(t, test.backend)))
			require.Error(t, err)
			assert.Contains(t, err.Error(), "of 5 calls did not arrive as sent: ")
			assert.Contains(t, err.Error(), test.scenes)
			for _, says := range test.says {
				assert.Contains(t, out.String(), says)
			}
		})
	}
}

func TestPlayWithoutAProxy(t *testing.T) {
	var out bytes.Buffer
	err := Play(testContext(t), &out, "unix:///nowhere/proxy.sock")
	require.Error(t, err)
	assert.Contains(t, err.Error(), "cannot connect to unix:///nowhere/proxy.sock, is the proxy running there?")
	assert.Empty(t, out.String())
}

func TestPlayBeforeADeadBackend(t *testing.T) {
	var out bytes.Buffer
	err := Play(testContext(t), &out, through(t, "unix:///nowhere/backend.sock"))
	require.Error(t, err)
	assert.Contains(t, err.Error(), "5 of 5 calls did not arrive as sent")
	assert.Contains(t, out.String(), "got Unavailable (14)")
}

func TestPlayIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	assert.ErrorIs(t, Play(ctx, &bytes.Buffer{}, serve(t, &service{})), context.Canceled)
}

func TestPlayReportsThatItCannotWrite(t *testing.T) {
	assert.ErrorIs(t, Play(testContext(t), brokenPipe{}, serve(t, &service{})), errBrokenPipe)
}

type brokenPipe struct{}

var errBrokenPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBrokenPipe }
