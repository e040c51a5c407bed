package demo

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

var silent = slog.New(slog.DiscardHandler)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	require.NoError(t, Run(testContext(t), &out, silent), "%s", &out)
	transcript := out.String()
	for _, mode := range []string{"frame", "struct", "dynamic", "frame"} {
		assert.Regexp(t, `(?m)^client -> proxy at 127\.0\.0\.1:\d+, mode: `+mode+` -> demo backend$`, transcript)
	}
	assert.Equal(t, 5, strings.Count(transcript, "   as sent\n"))
	assert.Equal(t, 6, strings.Count(transcript, "   as filtered\n"))
	assert.Equal(t, 2, strings.Count(transcript, "   as configured\n"))
	assert.NotContains(t, transcript, "NOT")
	assert.Contains(t, transcript, "\n13. ", "numbers go on from part to part")

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "the .proto file and the access log are gone")
}

// interceptorPartOf returns the part with an interceptor, and an access log for it.
func interceptorPartOf(t *testing.T, backend string) *part {
	t.Helper()
	log, err := newAccessLog(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(log.close)
	p, err := interceptorPart(backend, log)
	require.NoError(t, err)
	return p
}

// What is stopped gets to no backend, and what has a key does; the log has both, and no
// key.
func TestInterceptedTranscript(t *testing.T) {
	handler := &service{}
	var out bytes.Buffer
	p := interceptorPartOf(t, serve(t, handler))
	require.NoError(t, runParts(testContext(t), &out, silent, handler, []*part{p}), "%s", &out)
	stopped, goesOn, found := strings.Cut(out.String(), "\n2. ")
	require.True(t, found, "%s", &out)
	assert.NotContains(t, stopped, "backend  message")
	assert.Contains(t, stopped, `client <-          trailers  x-kitexproxy-error: "unauthenticated"`)
	assert.Contains(t, stopped, `client <-          status    Unauthenticated (16) "the call has no API key;`)
	assert.Regexp(t, `(?m)^   access log: \{"time":.*"method":"/kitexproxy\.echo\.v1\.Echo/Unary".*"reason":"unauthenticated".*\}$`, stopped)
	assert.Contains(t, goesOn, `-> backend  message   "hello"`)
	_, line, found := strings.Cut(goesOn, "access log: ")
	require.True(t, found, goesOn)
	assert.Contains(t, line, `"identity":"api-key:alice"`)
	assert.NotContains(t, line, apiKey)
}

// What the interceptor and the log do is what is tested, and not that there are any.
func TestRunWithoutTheInterceptor(t *testing.T) {
	handler := &service{}
	backend := serve(t, handler)
	p := interceptorPartOf(t, backend)
	p.config.Listeners[0].Interceptors = nil
	var out bytes.Buffer
	err := runParts(testContext(t), &out, silent, handler, []*part{p})
	require.Error(t, err)
	assert.Contains(t, err.Error(), "mode: frame: 2 of 2 calls did not arrive as configured: ")
	for _, says := range []string{
		`NOT as configured: status: want Unauthenticated (16) "the call has no API key;`,
		`NOT as configured: backend's request 1: want none, got "hello"`,
		`NOT as configured: trailer x-kitexproxy-error: want "unauthenticated", got none`,
		`NOT as configured: access log: want "reason":"unauthenticated", got {`,
		`NOT as configured: access log: want "identity":"api-key:alice", got {`,
	} {
		assert.Contains(t, out.String(), says)
	}
}

func TestAccessLogWithoutALine(t *testing.T) {
	log, err := newAccessLog(t.TempDir())
	require.NoError(t, err)
	defer log.close()
	ctx, cancel := context.WithDeadline(testContext(t), time.Unix(0, 0))
	defer cancel()
	assert.Contains(t, log.next(ctx), "no line (")
}

// Both ends of the calls are shown, before and after the filters.
func TestFilteredTranscript(t *testing.T) {
	handler := &service{}
	structs, dynamic := filteredParts(t, serve(t, handler))
	for _, p := range []*part{structs, dynamic} {
		var out bytes.Buffer
		require.NoError(t, runParts(testContext(t), &out, silent, handler, []*part{p}), "%s", &out)
		transcript := out.String()
		for _, inOrder := range [][]string{
			{
				`client ->          message   "my password is rosebud"`, `-> backend  message   "***"`,
				`<- backend  message   #1 "***"`, `client <-          message   #1 "***"`,
			},
			{
				`<- backend  message   #1 "again"`, `<- backend  message   #2 "again"`, `<- backend  message   #3 "again"`,
				`client <-          trailers  echo-count: "1"`,
			},
			{`client <-          message   #1 "again"`, `client <-          message   #3 "again"`, `client <-          status    OK`},
			{
				`client ->          message   "hello"`, `-> backend  message   "hello"`,
				`client ->          message   "a secret"`, `client <-          trailers  x-kitexproxy-error: "rejected"`,
				`client <-          status    PermissionDenied (7) "no secrets"`,
			},
		} {
			rest := transcript
			for _, text := range inOrder {
				_, after, found := strings.Cut(rest, text)
				require.True(t, found, "no %s in %s", text, transcript)
				rest = after
			}
		}
		assert.NotContains(t, transcript, `-> backend  message   "a secret"`)
		assert.NotContains(t, transcript, `client <-          message   #2 "again"`)
	}
}

func filteredParts(t *testing.T, backend string) (structs, dynamic *part) {
	t.Helper()
	file, err := writeSchema(t.TempDir())
	require.NoError(t, err)
	structs, err = structPart(backend, filters())
	require.NoError(t, err)
	dynamic, err = dynamicPart(backend, file, rules())
	require.NoError(t, err)
	return structs, dynamic
}

// What filters do to the calls is what is tested, and not that there are any.
func TestRunWithoutTheFilters(t *testing.T) {
	handler := &service{}
	backend := serve(t, handler)
	frame, err := conf.Simple("127.0.0.1:0", backend)
	require.NoError(t, err)
	structs, dynamic := filteredParts(t, backend)
	structs.config, structs.options = frame, nil
	dynamic.config = frame
	var out bytes.Buffer
	err = runParts(testContext(t), &out, silent, handler, []*part{structs, dynamic})
	require.Error(t, err)
	problems := strings.Split(err.Error(), "\n")
	require.Len(t, problems, 2, "one does not keep the other from being played")
	assert.Contains(t, problems[0], "mode: struct: 3 of 3 calls did not arrive as filtered: ")
	assert.Contains(t, problems[1], "mode: dynamic: 3 of 3 calls did not arrive as filtered: ")
	for _, says := range []string{
		`NOT as filtered: backend's request 1: want "***", payload [00 ff], got "my password is rosebud", payload [00 ff]`,
		`NOT as filtered: reply 2: want #3 "again", got #2 "again"`,
		`NOT as filtered: reply 3: want none, got #3 "again"`,
		`NOT as filtered: backend's request 2: want none, got "a secret"`,
		`NOT as filtered: backend's reply 2: want none, got #2 "a secret"`,
		`NOT as filtered: trailer x-kitexproxy-error: want "rejected", got none`,
		`NOT as filtered: status: want PermissionDenied (7) "no secrets", got OK`,
	} {
		assert.Equal(t, 2, strings.Count(out.String(), says), "%s in %s", says, &out)
	}
}

// Filters that get one thing wrong.
func TestRunTellsWhatAFilterGetsWrong(t *testing.T) {
	handler := &service{}
	backend := serve(t, handler)
	for name, test := range map[string]struct {
		scene  int
		filter *filter.Filter
		says   string
	}{
		"OtherChange": {
			0, unaryMethod.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
				m.Message = "*"
				return filter.Changed
			}), `backend's request 1: want "***", payload [00 ff], got "*", payload [00 ff]`,
		},
		"LostPayload": {
			0, unaryMethod.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
				m.Message, m.Payload = "***", m.Payload[:1]
				return filter.Changed
			}), `backend's request 1: want "***", payload [00 ff], got "***", payload [00]; payloads differ from byte 1 on`,
		},
		// The client cannot tell the difference.
		"ChangedTooLate": {
			0, unaryMethod.OnResponse(func(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
				m.Message = "***"
				return filter.Changed
			}), `backend's reply 1: want #1 "***", payload [00 ff], got #1 "my password is rosebud", payload [00 ff]`,
		},
		"OtherDropped": {
			1, expandMethod.OnResponse(func(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
				if m.Sequence == 3 {
					return filter.Drop
				}
				return filter.Forward
			}), `reply 2: want #3 "again", got #2 "again"`,
		},
		"OtherCode": {
			2, chatMethod.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
				if m.Message != "hello" {
					return filter.Reject(codes.NotFound, "no secrets")
				}
				return filter.Forward
			}), `status: want PermissionDenied (7) "no secrets", got NotFound (5) "no secrets"`,
		},
		"RejectedTooLate": {
			2, chatMethod.OnResponse(func(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
				if m.Message != "hello" {
					return filter.Reject(codes.PermissionDenied, "no secrets")
				}
				return filter.Forward
			}), `backend's request 2: want none, got "a secret"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := filters()
			all[test.scene] = test.filter
			p, err := structPart(backend, all)
			require.NoError(t, err)
			var out bytes.Buffer
			err = runParts(testContext(t), &out, silent, handler, []*part{p})
			require.Error(t, err)
			assert.Contains(t, err.Error(), "mode: struct: 1 of 3 calls did not arrive as filtered: ")
			assert.Contains(t, err.Error(), p.scenes[test.scene].title)
			assert.Contains(t, out.String(), "   NOT as filtered: "+test.says+"\n")
		})
	}
}

func TestRunTellsWhatARuleGetsWrong(t *testing.T) {
	handler := &service{}
	backend := serve(t, handler)
	file, err := writeSchema(t.TempDir())
	require.NoError(t, err)
	wrong := rules()
	wrong[1] = strings.ReplaceAll(wrong[1], "== 0", "== 1")
	p, err := dynamicPart(backend, file, wrong)
	require.NoError(t, err)
	var out bytes.Buffer
	err = runParts(testContext(t), &out, silent, handler, []*part{p})
	require.Error(t, err)
	assert.Contains(t, err.Error(), `mode: dynamic: 1 of 3 calls did not arrive as filtered: "One message dropped`)
	assert.Contains(t, out.String(), `NOT as filtered: reply 1: want #1 "again", got #2 "again"`)
}

func TestRunReportsAProxyThatDoesNotStart(t *testing.T) {
	handler := &service{}
	structs, _ := filteredParts(t, serve(t, handler))
	structs.config.Default.Mode = conf.ModeFrame
	var out bytes.Buffer
	err := runParts(testContext(t), &out, silent, handler, []*part{structs})
	require.Error(t, err)
	assert.Contains(t, err.Error(), "mode: struct: filter ")
	assert.Contains(t, err.Error(), "write mode: struct there, or leave the filter out")
	assert.Empty(t, out.String())
}

func TestRunIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	assert.ErrorIs(t, Run(ctx, &bytes.Buffer{}, silent), context.Canceled)
}

func TestRunReportsThatItCannotWrite(t *testing.T) {
	assert.ErrorIs(t, Run(testContext(t), brokenPipe{}, silent), errBrokenPipe)
}
