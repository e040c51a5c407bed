package accesslog

import (
	"bytes"
	"log/slog"
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
	form       form
	beginnings map[beginning]form // those that have the values of one already
	last       beginning          // of the line before, whose form is the one in lastForm
	lastForm   form
	keys       []key
	peers      map[net.Addr]string // their texts; all calls of a connection have the same one
	attrs      []slog.Attr         // kept for its memory
}

// beginning is what lines begin with, and have in common with many others: it is formatted
// once, which is more than half of the work.
type beginning struct {
	method, route, cluster, mode, listener, authority, userAgent string
	code                                                         stream.Code
	attempts                                                     int
}

func newLines(format string, keys []key, w *bytes.Buffer) *lines {
	l := &lines{beginnings: make(map[beginning]form), peers: make(map[net.Addr]string), keys: keys}
	if format == Text {
		l.form = &textForm{handler: slog.NewTextHandler(w, nil)}
	} else {
		l.form = &jsonForm{to: w}
	}
	return l
}

// call writes the line of a call.
func (l *lines) call(r *record) {
	f := l.begin(&r.beginning)
	f.begin(r.ended, slog.LevelInfo, "call")
	text(f, "instance", r.instance)
	text(f, "reason", r.reason)
	text(f, "message", r.message)
	f.milliseconds("duration_ms", r.took)
	f.number("request_messages", r.received.Messages)
	f.number("request_bytes", r.received.Bytes)
	f.number("response_messages", r.sent.Messages)
	f.number("response_bytes", r.sent.Bytes)
	if r.peer != nil {
		text(f, "peer", l.peer(r.peer))
	}
	if r.identified != "" {
		f.text("identity", r.identified+":"+r.identity)
	}
	text(f, "request_id", r.requestID)
	text(f, "trace_id", r.traceID)
	l.addMetadata(f, r.metadata)
	f.end()
}

// text adds a value unless there is none.
func text(f form, name, value string) {
	if value != "" {
		f.text(name, value)
	}
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

// begin returns a form for a line that begins so.
func (l *lines) begin(b *beginning) form {
	if l.lastForm == nil || l.last != *b {
		l.last, l.lastForm = *b, l.find(b)
	}
	return l.lastForm
}

func (l *lines) find(b *beginning) form {
	if f := l.beginnings[*b]; f != nil {
		return f
	}
	if len(l.beginnings) >= maxBeginnings {
		clear(l.beginnings) // so that clients cannot have it grow
	}
	l.attrs = l.attrs[:0]
	l.add("method", b.method)
	l.add("route", b.route)
	l.add("cluster", b.cluster)
	l.add("mode", b.mode)
	l.add("listener", b.listener)
	l.add("authority", b.authority)
	l.add("user_agent", b.userAgent)
	l.add("code", b.code.String())
	f := l.form.with(append(l.attrs, slog.Int("attempts", b.attempts)))
	l.beginnings[*b] = f
	return f
}

// add adds to attrs, unless there is no value.
func (l *lines) add(name, value string) {
	if value != "" {
		l.attrs = append(l.attrs, slog.String(name, value))
	}
}

// lost writes a line that stands for some that are missing.
func (l *lines) lost(n int64) {
	l.form.begin(time.Now(), slog.LevelWarn, "lines have been dropped")
	l.form.number("dropped", n)
	l.form.end()
}

// addMetadata adds those of the values for keys that there are.
func (l *lines) addMetadata(f form, values []string) {
	l.attrs = l.attrs[:0]
	for i, v := range values {
		l.add(l.keys[i].name, v)
	}
	if len(l.attrs) > 0 {
		f.group("metadata", l.attrs)
	}
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
