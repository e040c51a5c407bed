package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bothWays returns a line as jsonHandler writes it, and as slog.JSONHandler does.
func bothWays(t testing.TB, at time.Time, with, attrs []slog.Attr, message string) (own, theirs string) {
	t.Helper()
	r := slog.NewRecord(at, slog.LevelWarn, message, 0)
	r.AddAttrs(slog.Attr{Value: slog.GroupValue(attrs...)})
	var a, b bytes.Buffer
	require.NoError(t, (&jsonHandler{to: &a}).WithAttrs(with).Handle(t.Context(), r))
	require.NoError(t, slog.NewJSONHandler(&b, nil).WithAttrs(with).Handle(t.Context(), r))
	return a.String(), b.String()
}

func TestJSONIsThatOfLogSlog(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 45_600_000, time.FixedZone("", -5400))
	for name, test := range map[string]struct{ with, attrs []slog.Attr }{
		"nothing":        {nil, nil},
		"no beginning":   {nil, []slog.Attr{slog.String("a", "b")}},
		"only beginning": {[]slog.Attr{slog.String("a", "b"), slog.Int("n", -1)}, nil},
		"both":           {[]slog.Attr{slog.String("a", "")}, []slog.Attr{slog.String("c", "d")}},
		"numbers": {nil, []slog.Attr{
			slog.Int64("n", 1<<62), slog.Float64("f", 12.345), slog.Float64("whole", 3), slog.Float64("0", 0),
		}},
		"group":          {nil, []slog.Attr{slog.Group("m", slog.String("x", "y"), slog.Int("n", 1)), slog.String("behind", "z")}},
		"group in begin": {[]slog.Attr{slog.Group("m", slog.String("x", "{"), slog.String("y", "{"))}, []slog.Attr{slog.String("z", "{")}},
		"quotes": {nil, []slog.Attr{
			slog.String(`"k\`, `a "b" \c`), slog.String("html", "<a&b>é"), slog.String("one", `"`), slog.String("other", `\`),
		}},
		"other alphabets": {nil, []slog.Attr{slog.String("ключ", "значение 緑")}},
	} {
		t.Run(name, func(t *testing.T) {
			own, theirs := bothWays(t, at, test.with, test.attrs, "call")
			require.Equal(t, theirs, own)
		})
	}
}

// FuzzJSON: what a reader gets of any text is the same, however it is quoted.
func FuzzJSON(f *testing.F) {
	f.Add("a", "b\n", "c\x1b\x00\"")
	f.Add("", "\xff\u2028\b", `}{\`)
	f.Fuzz(func(t *testing.T, key, value, message string) {
		attrs := []slog.Attr{slog.String("k"+key, value)}
		own, theirs := bothWays(t, time.Unix(0, 0), attrs, attrs, message)
		var read, want map[string]any
		require.NoError(t, json.Unmarshal([]byte(own), &read), "%q", own)
		require.NoError(t, json.Unmarshal([]byte(theirs), &want))
		require.Equal(t, want, read)
	})
}

// BenchmarkLine is what a line costs: go test ./handler/accesslog -run '^$' -bench Line
func BenchmarkLine(b *testing.B) {
	var out bytes.Buffer
	for _, format := range []string{JSON, Text} {
		b.Run(format, func(b *testing.B) {
			l := newLines(format, nil, &out)
			r := &record{
				beginning: beginning{method: "/shop.Orders/Get", route: "orders", cluster: "shop", mode: "frame", userAgent: "grpc-go/1.85.0"},
				ended:     time.Now(), took: 1234567, instance: "10.0.0.1:9000", traceID: "4bf92f3577b34da6a3ce929d0e0e4736",
			}
			b.ReportAllocs()
			for b.Loop() {
				l.call(r)
				out.Reset()
			}
		})
	}
}
