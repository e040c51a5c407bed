package accesslog

import (
	"bytes"
	"sync/atomic"
	"time"
)

const (
	// maxWrite is after how many bytes of lines they are written, whether there are more
	// or not.
	maxWrite = 256 << 10
	// tellInterval is how often lines tell of others that are missing, at most.
	tellInterval = 10 * time.Second
)

// writer writes lines to the output. It is for one goroutine.
type writer struct {
	lines   *lines
	buf     *bytes.Buffer // lines that are not written yet
	output  *output
	dropped *atomic.Int64 // lines that are missing so far
	told    int64         // those of them that the log tells of
	toldAt  time.Time
	torn    bool // the last thing that was written is no complete line
}

func newWriter(format string, keys []key, out *output, dropped *atomic.Int64) *writer {
	buf := new(bytes.Buffer)
	return &writer{lines: newLines(format, keys, buf), buf: buf, output: out, dropped: dropped}
}

// write writes the lines of a batch, and empties its records.
func (w *writer) write(batch []record) {
	if w.output.refresh() {
		w.torn = false
	}
	if time.Since(w.toldAt) >= tellInterval {
		w.tell()
	}
	for i := range batch {
		w.lines.call(&batch[i])
		batch[i].empty()
		if w.buf.Len() >= maxWrite {
			w.dropped.Add(w.flush())
		}
	}
	w.dropped.Add(w.flush())
}

// tell writes a line that says how many are missing that no line has told of yet, if
// there are such.
func (w *writer) tell() {
	missing := w.dropped.Load() - w.told
	if missing == 0 {
		return
	}
	w.lines.lost(missing)
	w.toldAt = time.Now()
	if w.flush() == 0 {
		w.told += missing
	}
}

// flush writes the lines that there are, in one piece, and returns how many of them are
// lost.
func (w *writer) flush() (lost int64) {
	if w.buf.Len() == 0 {
		return 0
	}
	if w.torn && !w.endTorn() {
		return w.discard(0)
	}
	n := w.output.write(w.buf.Bytes())
	return w.discard(n)
}

// endTorn ends the line that was not written completely.
func (w *writer) endTorn() bool {
	w.torn = w.output.write([]byte{'\n'}) == 0
	return !w.torn
}

// discard empties the buffer, of which the first n bytes are written, and returns how
// many lines have not been written to their end.
func (w *writer) discard(n int) (lost int64) {
	written, rest := w.buf.Bytes()[:n], w.buf.Bytes()[n:]
	if n > 0 {
		w.torn = written[n-1] != '\n'
	}
	lost = int64(bytes.Count(rest, []byte{'\n'}))
	w.buf.Reset()
	return lost
}
