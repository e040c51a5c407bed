package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bothWays returns a line as jsonForm writes it, and as textForm does with
// slog.JSONHandler.
func bothWays(at time.Time, with []slog.Attr, message string, write func(form)) (own, theirs string) {
	var a, b bytes.Buffer
	for _, f := range []form{&jsonForm{to: &a}, &textForm{handler: slog.NewJSONHandler(&b, nil)}} {
		f = f.with(with)
		f.begin(at, slog.LevelWarn, message)
		write(f)
		f.end()
	}
	return a.String(), b.String()
}

func TestJSONIsThatOfLogSlog(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 45_600_000, time.FixedZone("", -5400))
	for name, test := range map[string]struct {
		with  []slog.Attr
		write func(form)
	}{
		"nothing":        {nil, func(form) {}},
		"no beginning":   {nil, func(f form) { f.text("a", "b") }},
		"only beginning": {[]slog.Attr{slog.String("a", "b"), slog.Int("n", -1)}, func(form) {}},
		"both":           {[]slog.Attr{slog.String("a", "{")}, func(f form) { f.text("c", "{"); f.text("d", "") }},
		"numbers":        {nil, func(f form) { f.number("n", 1<<62); f.number("m", -7) }},
		"times": {nil, func(f form) {
			for _, d := range []time.Duration{0, 1, 499, 500, 1e3, 1499, 12_345_678, 10e6, 10_010e3, 3e9, 100 * time.Hour} {
				f.milliseconds("ms", d)
			}
		}},
		"group": {nil, func(f form) {
			f.group("m", []slog.Attr{slog.String("x", "{"), slog.String("y", "z")})
			f.text("behind", "z")
		}},
		"quotes": {[]slog.Attr{slog.String("q", `"`)}, func(f form) {
			f.text("k", `a "b" \c`)
			f.text("html", "<a&b>\u00e9")
			f.text("other", `\`)
		}},
		"other alphabets": {nil, func(f form) { f.text("k", "\u0437\u043d\u0430\u0447 \u7dd1") }},
		"what terminals obey": {[]slog.Attr{slog.String("a", "\u009b1m")}, func(f form) {
			f.text("del", "a\x7fb")
			f.group("m", []slog.Attr{slog.String("turned", "\u202eabc")})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			own, theirs := bothWays(at, test.with, "call", test.write)
			require.Equal(t, theirs, own)
		})
	}
}

// FuzzJSON: what a reader gets of any text is the same, however it is quoted.
func FuzzJSON(f *testing.F) {
	f.Add("b\n", "c\x1b\x00\"", int64(1))
	f.Add("\xff\u2028\b", `}{\`, int64(1234567))
	f.Fuzz(func(t *testing.T, value, message string, took int64) {
		attrs := []slog.Attr{slog.String("k", value)}
		own, theirs := bothWays(time.Unix(0, 0), attrs, message, func(f form) {
			f.text("own", value)
			f.milliseconds("ms", time.Duration(took&math.MaxInt64>>10)) // less than 104 days
			f.group("m", attrs)
		})
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
