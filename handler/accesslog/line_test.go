package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// endedCall returns a call that has everything a line can have.
func endedCall(i intercept.Info) *intercept.Call {
	c := intercept.Begin(nil, i)
	c.SetIdentity(intercept.Identity{Kind: "api-key", Name: "alice"})
	c.SetRequestID("r-1")
	c.SetTraceID("4bf92f3577b34da6a3ce929d0e0e4736")
	c.Routed("orders", "shop", "frame")
	c.BeginAttempt("shop", "10.0.0.1:9000")
	c.BeginAttempt("shop", "10.0.0.2:9000")
	c.Crossed(filter.Request, 1, 12)
	c.Crossed(filter.Response, 2, 34)
	f := stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable, Message: "it has gone"}
	c.End(f.Trailer())
	return c
}

func TestLineHasEverything(t *testing.T) {
	begun := time.Now()
	log := logTo(t, Options{SamplePercent: 100, Metadata: []string{"X-Tenant", "x-none"}}, func(l *Log) {
		l.End(endedCall(info(stream.Field{Key: "x-tenant", Value: "acme"})))
	})
	line := parse(t, log)[0]
	at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
	require.NoError(t, err)
	require.WithinRange(t, at, begun.Round(0), time.Now())
	require.IsType(t, 0.0, line["duration_ms"])
	delete(line, "time")
	delete(line, "duration_ms")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "call", "method": "/shop.Orders/Get", "route": "orders", "cluster": "shop",
		"instance": "10.0.0.2:9000", "mode": "frame", "code": "UNAVAILABLE", "reason": "backend-disconnected",
		"message": "it has gone", "request_messages": 1.0, "request_bytes": 12.0, "response_messages": 2.0,
		"response_bytes": 34.0, "attempts": 2.0, "peer": "10.0.0.7:4711", "listener": "127.0.0.1:8888",
		"authority": "orders.internal", "user_agent": "grpc-go/1.85.0", "identity": "api-key:alice",
		"request_id": "r-1", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
		"metadata": map[string]any{"x-tenant": "acme"},
	}, line)
}

// TestLineLeavesOutWhatThereIsNot, of a call that was refused before anything was known.
func TestLineLeavesOutWhatThereIsNot(t *testing.T) {
	log := logTo(t, Options{Format: Text, SamplePercent: 100, Metadata: []string{"x-tenant"}}, func(l *Log) {
		c := intercept.Begin(nil, intercept.Info{Request: &stream.Request{Method: "/a.B/C"}})
		c.End(ended(stream.Unimplemented, "no\nroute"))
		l.End(c)
	})
	require.Regexp(t, `^time=\S+ level=INFO msg=call method=/a\.B/C code=UNIMPLEMENTED attempts=0 message="no\\nroute" `+
		`duration_ms=[0-9.]+ request_messages=0 request_bytes=0 response_messages=0 response_bytes=0\n$`, log)
}

func TestSecretsAreRedacted(t *testing.T) {
	for name, test := range map[string]struct {
		redact   []string
		key      string
		redacted bool
	}{
		"by default":          {nil, "authorization", true},
		"cookie":              {nil, "cookie", true},
		"x-api-key":           {nil, "x-api-key", true},
		"proxy-authorization": {nil, "proxy-authorization", true},
		"no secret":           {nil, "x-tenant", false},
		"listed":              {[]string{"X-Tenant"}, "x-tenant", true},
		"not listed":          {[]string{"x-other"}, "x-tenant", false},
		"binary":              {[]string{}, "x-trace-bin", true},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{SamplePercent: 100, Metadata: []string{test.key}, Redact: test.redact}
			log := logTo(t, opts, func(l *Log) {
				i := info(stream.Field{Key: test.key, Value: "rosebud"}, stream.Field{Key: test.key, Value: "xanadu"})
				carry(l, i, ended(stream.OK, ""))
			})
			want := "rosebud, xanadu"
			if test.redacted {
				want = "***"
				require.NotContains(t, log, "rosebud")
			}
			require.Equal(t, map[string]any{test.key: want}, parse(t, log)[0]["metadata"])
		})
	}
}

// TestBeginningsAreBounded: lines that begin alike are told apart, and clients that never
// begin alike do not have memory grow.
func TestBeginningsAreBounded(t *testing.T) {
	var b bytes.Buffer
	l := newLines(JSON, nil, &b)
	for n := range 3 * maxBeginnings {
		l.call(&record{beginning: beginning{method: "/a.B/C", userAgent: strconv.Itoa(n / 2)}, instance: strconv.Itoa(n)})
		require.LessOrEqual(t, len(l.beginnings), maxBeginnings)
	}
	for n, line := range parse(t, b.String()) {
		require.Equal(t, strconv.Itoa(n/2), line["user_agent"])
		require.Equal(t, strconv.Itoa(n), line["instance"])
	}
}

func TestLongValuesAreCut(t *testing.T) {
	long := strings.Repeat("é", maxValue)
	i := info(stream.Field{Key: "x-tenant", Value: long}, stream.Field{Key: "x-tenant", Value: long})
	i.Request.Method, i.Request.Authority = long, long
	log := logTo(t, Options{SamplePercent: 100, Metadata: []string{"x-tenant"}}, func(l *Log) {
		carry(l, i, ended(stream.Internal, "x"+long))
	})
	line, short := parse(t, log)[0], strings.Repeat("é", maxValue/2)+"…"
	require.Equal(t, short, line["method"])
	require.Equal(t, short, line["authority"])
	require.Equal(t, "x"+strings.Repeat("é", (maxValue-1)/2)+"…", line["message"], "not within a character")
	require.Equal(t, map[string]any{"x-tenant": short}, line["metadata"])
}

// TestTerminalsAreNotGivenOrders by characters that log/slog lets through in JSON.
func TestTerminalsAreNotGivenOrders(t *testing.T) {
	for name, test := range map[string]struct{ value, want string }{
		"text":             {"grün 緑", "grün 緑"},
		"DEL":              {"a\x7fb", "a\uFFFDb"},
		"CSI":              {"\u009b31mred", "\uFFFD31mred"},
		"right to left":    {"\u202Egnp.exe", "\uFFFDgnp.exe"},
		"line separator":   {"a\u2028b", "a\uFFFDb"},
		"no character":     {"a\xffb", "a\uFFFDb"},
		"left to log/slog": {"a\nb\x1b", "a\nb\x1b"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, printable(test.value)) })
	}
}

// FuzzLine: whatever comes from outside, a call has one line, and nothing in it but what
// can be printed.
func FuzzLine(f *testing.F) {
	f.Add("/a.B/C", "a\nb", "x\r\n\x1b[31m")
	f.Add("\u009b\u2028\u202e\x7f\xff", `" level=ERROR msg="`, "}{\"a\":1}\n")
	f.Fuzz(func(t *testing.T, method, message, value string) {
		i := info(stream.Field{Key: "x-tenant", Value: value})
		i.Request.Method = method
		c := intercept.Begin(nil, i)
		c.End(ended(stream.Internal, message))
		o := c.Outcome()
		for _, format := range []string{JSON, Text} {
			var b bytes.Buffer
			keys := []key{{name: "x-tenant"}}
			var r record
			r.fill(c, &o, keys)
			newLines(format, keys, &b).call(&r)
			line, complete := strings.CutSuffix(b.String(), "\n")
			require.True(t, complete)
			require.True(t, utf8.ValidString(line))
			require.Negative(t, strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", line)
			if format == JSON {
				var attrs map[string]any
				require.NoError(t, json.Unmarshal([]byte(line), &attrs))
				require.Equal(t, slog.LevelInfo.String(), attrs["level"])
				require.Equal(t, "call", attrs["msg"])
			}
		}
	})
}
