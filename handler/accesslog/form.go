package accesslog

import (
	"context"
	"log/slog"
	"math"
	"time"
)

// form is what lines look like. Between begin and end a line gets its values, in the
// order that they are to have. Names are plain words. It is for one goroutine.
type form interface {
	// with returns a form whose lines have attributes, texts and whole numbers, before all
	// others. They are formatted once.
	with(attrs []slog.Attr) form
	begin(at time.Time, level slog.Level, message string)
	// text has what terminals obey taken out of the value; see printable.
	text(name, value string)
	number(name string, n int64)
	// milliseconds has microseconds behind the point.
	milliseconds(name string, d time.Duration)
	group(name string, texts []slog.Attr)
	end()
}

// textForm writes what slog.TextHandler writes, by it.
type textForm struct {
	handler slog.Handler
	at      time.Time
	level   slog.Level
	message string
	attrs   []slog.Attr // of the present line; kept for its memory
}

func (f *textForm) with(attrs []slog.Attr) form {
	return &textForm{handler: f.handler.WithAttrs(readable(attrs))}
}

func (f *textForm) begin(at time.Time, level slog.Level, message string) {
	f.at, f.level, f.message, f.attrs = at, level, printable(message), f.attrs[:0]
}

func (f *textForm) text(name, value string)     { f.add(slog.String(name, printable(value))) }
func (f *textForm) number(name string, n int64) { f.add(slog.Int64(name, n)) }

func (f *textForm) milliseconds(name string, d time.Duration) {
	f.add(slog.Float64(name, math.Round(float64(d)/float64(time.Microsecond))/1000))
}

func (f *textForm) group(name string, texts []slog.Attr) {
	f.add(slog.Attr{Key: name, Value: slog.GroupValue(readable(texts)...)})
}

func (f *textForm) add(a slog.Attr) { f.attrs = append(f.attrs, a) }

// end writes the line. In a record its attributes are one group without a name, which the
// line has as they are, because a record has no room for so many without memory of its own.
func (f *textForm) end() {
	r := slog.NewRecord(f.at, f.level, f.message, 0)
	r.AddAttrs(slog.Attr{Value: slog.GroupValue(f.attrs...)})
	_ = f.handler.Handle(context.Background(), r) // which fails as its writer does: never
}

// readable returns attrs with their texts printable.
func readable(attrs []slog.Attr) []slog.Attr {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		if out[i] = a; a.Value.Kind() == slog.KindString {
			out[i].Value = slog.StringValue(printable(a.Value.String()))
		}
	}
	return out
}
