package accesslog

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// maxBeginnings is how many beginnings of lines are kept.
const maxBeginnings = 1024

// maxPeers is how many texts of addresses are kept.
const maxPeers = 1024

// lines makes lines of records. It is for one goroutine.
type lines struct {
	handler    slog.Handler
	beginnings map[beginning]slog.Handler // handlers that have the attributes of one already
	keys       []key
	peers      map[net.Addr]string // their texts; all calls of a connection have the same one
	attrs      []slog.Attr         // of the present line; kept for its memory
	metadata   []slog.Attr
}

// beginning is what lines begin with, and have in common with many others: it is formatted
// once, which is more than half of the work.
type beginning struct {
	method, route, cluster, mode, listener, authority, userAgent string
	code                                                         stream.Code
	attempts                                                     int
}

func newLines(format string, keys []key, w *bytes.Buffer) *lines {
	l := &lines{beginnings: make(map[beginning]slog.Handler), peers: make(map[net.Addr]string), keys: keys}
	if format == Text {
		l.handler = slog.NewTextHandler(w, nil)
	} else {
		l.handler = &jsonHandler{to: w}
	}
	return l
}

// call writes the line of a call.
func (l *lines) call(r *record) {
	h := l.begin(&r.beginning)
	l.attrs = l.attrs[:0]
	l.text("instance", r.instance)
	l.text("reason", r.reason)
	l.text("message", r.message)
	l.add(slog.Float64("duration_ms", milliseconds(r.took)))
	l.add(slog.Int64("request_messages", r.received.Messages))
	l.add(slog.Int64("request_bytes", r.received.Bytes))
	l.add(slog.Int64("response_messages", r.sent.Messages))
	l.add(slog.Int64("response_bytes", r.sent.Bytes))
	if r.peer != nil {
		l.text("peer", l.peer(r.peer))
	}
	if r.identified != "" {
		l.text("identity", r.identified+":"+r.identity)
	}
	l.text("request_id", r.requestID)
	l.text("trace_id", r.traceID)
	l.addMetadata(r.metadata)
	l.line(h, r.ended, slog.LevelInfo, "call")
}

// peer returns the text of an address.
func (l *lines) peer(a net.Addr) string {
	if !reflect.TypeOf(a).Comparable() { // which somebody's own may not be
		return a.String()
	}
	text, ok := l.peers[a]
	if !ok {
		if len(l.peers) >= maxPeers {
			clear(l.peers)
		}
		text = a.String()
		l.peers[a] = text
	}
	return text
}

// begin returns a handler for a line that begins so.
func (l *lines) begin(b *beginning) slog.Handler {
	if h := l.beginnings[*b]; h != nil {
		return h
	}
	if len(l.beginnings) >= maxBeginnings {
		clear(l.beginnings) // so that clients cannot have it grow
	}
	l.attrs = l.attrs[:0]
	l.text("method", b.method)
	l.text("route", b.route)
	l.text("cluster", b.cluster)
	l.text("mode", b.mode)
	l.text("listener", b.listener)
	l.text("authority", b.authority)
	l.text("user_agent", b.userAgent)
	l.text("code", b.code.String())
	l.add(slog.Int("attempts", b.attempts))
	h := l.handler.WithAttrs(l.attrs)
	l.beginnings[*b] = h
	return h
}

// lost writes a line that stands for some that are missing.
func (l *lines) lost(n int64) {
	l.attrs = append(l.attrs[:0], slog.Int64("dropped", n))
	l.line(l.handler, time.Now(), slog.LevelWarn, "lines have been dropped")
}

// line has h write the attributes that have been added. In a record they are one group
// without a name, which the line has as they are, because a record has no room for so many
// without memory of its own.
func (l *lines) line(h slog.Handler, at time.Time, level slog.Level, message string) {
	if own, ok := h.(*jsonHandler); ok {
		own.write(at, level, message, l.attrs)
		return
	}
	r := slog.NewRecord(at, level, message, 0)
	r.AddAttrs(slog.Attr{Value: slog.GroupValue(l.attrs...)})
	_ = h.Handle(context.Background(), r) // which fails as its writer does: never
}

func (l *lines) add(a slog.Attr) { l.attrs = append(l.attrs, a) }

// text adds a value unless there is none.
func (l *lines) text(name, value string) {
	if value != "" {
		l.add(slog.String(name, printable(value)))
	}
}

// addMetadata adds those of the values for keys that there are.
func (l *lines) addMetadata(values []string) {
	l.metadata = l.metadata[:0]
	for i, v := range values {
		if v != "" {
			l.metadata = append(l.metadata, slog.String(l.keys[i].name, printable(v)))
		}
	}
	if len(l.metadata) > 0 {
		l.add(slog.Attr{Key: "metadata", Value: slog.GroupValue(l.metadata...)})
	}
}

// milliseconds has microseconds behind the point.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// printable returns s with U+FFFD in place of what terminals and editors might obey.
// ASCII's control characters are quoted, but JSON leaves others as they are: DEL,
// U+009B, which begins escape sequences as ESC does, and those that turn the direction of
// text around.
func printable(s string) string {
	if isASCII(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if isObeyed(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// isASCII reports whether s has nothing but ASCII, without DEL.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func isObeyed(r rune) bool { return r >= 0x7f && !unicode.IsPrint(r) }
