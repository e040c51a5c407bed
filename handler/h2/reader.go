package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reader is the reading half of a connection. It belongs to the goroutine that
// serves the connection.
type reader struct {
	c *Conn

	buf        []byte // nil while there is nothing in it
	start, end int

	dec       *hpack.Decoder
	fields    []hpack.HeaderField
	listSize  uint32 // of fields, as RFC 9113 section 6.5.2 counts
	tooLong   bool   // the list exceeds the limit, what came after is left out
	openID    uint32 // the stream whose header block is not complete; 0: none
	openFlags http2.Flags
	openSelf  bool // it depends on itself
	block     []byte
	frames    int // CONTINUATION frames of the block

	floods floods
	// deferred is what is to be done, and dirty are the connections to flush
	// behind it, before the reader waits.
	deferred []Deferred
	dirty    []*Conn
}

// bufSize is how much is read at a time: some frames.
const bufSize = 64 << 10

var bufs = sync.Pool{New: func() any { return new([bufSize]byte) }}

func (r *reader) init(c *Conn) {
	r.c = c
	r.dec = hpack.NewDecoder(maxHeaderTable, r.emit)
	// Beyond the limit of a list, so that one field too long for it costs its
	// stream only, not the connection.
	r.dec.SetMaxStringLength(r.maxBlock())
}

// maxHeaderTable is the size of the HPACK tables in bytes, the protocol's
// default, in both directions.
const maxHeaderTable = 4096

// run reads frames until the connection is over.
func (r *reader) run() error {
	defer r.release()
	if err := r.handshake(); err != nil {
		return err
	}
	r.c.startKeepalive()
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		if err := r.handle(&f); err != nil {
			return err
		}
		if r.openID == 0 { // a header block that never ends is no sign of life
			r.c.alive()
		}
	}
}

// handshake reads what a peer has to send first.
func (r *reader) handshake() error {
	if d := r.c.cfg.HandshakeTimeout; d > 0 {
		r.c.setReadDeadline(time.Now().Add(d))
		defer r.c.setReadDeadline(time.Time{})
	}
	if !r.c.client {
		if err := r.preface(); err != nil {
			return err
		}
		r.c.begin()
	}
	f, err := r.next()
	if err != nil {
		return err
	}
	if f.kind != http2.FrameSettings || f.has(flagAck) {
		return connErrorf(http2.ErrCodeProtocol, "the first frame is %v, not SETTINGS", f.kind)
	}
	return r.handle(&f)
}

// preface reads the client's connection preface (RFC 9113 section 3.4), or
// tells a client of HTTP/1 in its own language that it is at the wrong door.
func (r *reader) preface() error {
	for n := 1; n <= len(http2.ClientPreface); n++ {
		b, err := r.peek(n)
		if err != nil {
			return err
		}
		if b[n-1] != http2.ClientPreface[n-1] {
			return r.refuse()
		}
	}
	r.start += len(http2.ClientPreface)
	return nil
}

var errNotHTTP2 = errors.New("the client does not speak HTTP/2")

// http1Answer is for those who point a browser or curl at a gRPC port.
const http1Answer = "HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 63\r\n\r\n" +
	"This port speaks gRPC: HTTP/2 with prior knowledge, no HTTP/1.\n"

func (r *reader) refuse() error {
	c := r.c
	c.mu.Lock()
	if looksLikeHTTP1(r.buf[r.start:r.end]) {
		c.out = append(c.out[:0], http1Answer...)
		c.mu.Unlock()
		return errNotHTTP2
	}
	c.mu.Unlock()
	return connErrorf(http2.ErrCodeProtocol, "the client's preface is wrong")
}

// looksLikeHTTP1 reports whether b begins with a method and a target.
func looksLikeHTTP1(b []byte) bool {
	method, rest, found := bytes.Cut(b, []byte(" "))
	if !found || len(method) == 0 || len(rest) == 0 {
		return false
	}
	for _, ch := range method {
		if ch < 'A' || ch > 'Z' {
			return false
		}
	}
	return rest[0] == '/' || rest[0] == '*' || rest[0] == 'h'
}

// next reads the next frame. Its payload is valid until next is called again.
func (r *reader) next() (frame, error) {
	head, err := r.peek(frameHeaderLen)
	if err != nil {
		return frame{}, err
	}
	length, f := parseFrameHeader(head)
	if length > maxFrameSize {
		return frame{}, connErrorf(http2.ErrCodeFrameSize, "a frame of %d bytes", length)
	}
	whole, err := r.peek(frameHeaderLen + length)
	if err != nil {
		return frame{}, err
	}
	f.payload = whole[frameHeaderLen:]
	r.start += frameHeaderLen + length
	return f, nil
}

// peek returns the next n bytes, at most bufSize. Before it waits for more, it
// has everything written that the frames so far have led to.
func (r *reader) peek(n int) ([]byte, error) {
	for r.end-r.start < n {
		r.callDeferred()
		r.flushOthers()
		if err := r.c.flushAnswers(); err != nil {
			return nil, err
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return r.buf[r.start : r.start+n], nil
}

// fill reads what is there, or waits for it. A connection that waits with
// nothing begun holds no buffer, if the socket can tell.
func (r *reader) fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if raw := r.c.raw; raw != nil {
			r.release()
			buf, n, err := raw.read()
			r.buf, r.end = buf, n
			return err
		}
	}
	if r.buf == nil {
		r.buf = bufs.Get().(*[bufSize]byte)[:]
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	n, err := r.c.nc.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	return err
}

func (r *reader) release() {
	if r.buf != nil {
		bufs.Put((*[bufSize]byte)(r.buf))
		r.buf = nil
	}
}

// Deferred is something that AfterRead puts off.
type Deferred interface{ AfterRead() }

// AfterRead has d called before the reader of c waits for more. It is for
// Config.Begin and for Events of streams of c that are called by that reader:
// whatever comes of a stream in the same read comes before d, its end included.
// d is not called if the connection ends with that read.
func (c *Conn) AfterRead(d Deferred) {
	c.reader.deferred = append(c.reader.deferred, d)
}

// FlushAfterRead has d flushed before the reader of c waits for more. It is for
// Events of streams of c that are called by that reader: what all frames that
// have arrived together lead to is written together.
func (c *Conn) FlushAfterRead(d *Conn) {
	for _, other := range c.reader.dirty {
		if other == d {
			return
		}
	}
	c.reader.dirty = append(c.reader.dirty, d)
}

func (r *reader) callDeferred() {
	for i, d := range r.deferred {
		d.AfterRead()
		r.deferred[i] = nil
	}
	r.deferred = r.deferred[:0]
}

func (r *reader) flushOthers() {
	for i, d := range r.dirty {
		d.Flush()
		r.dirty[i] = nil
	}
	r.dirty = r.dirty[:0]
}

// isOrdinaryEnd reports whether err is how connections end that nobody need
// hear of.
func isOrdinaryEnd(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrDeadlineExceeded)
}

// emit takes a field from the decoder.
func (r *reader) emit(f hpack.HeaderField) {
	size := f.Size()
	if r.tooLong || size > r.c.cfg.MaxHeaderList-r.listSize {
		r.tooLong = true
		r.dec.SetEmitEnabled(false) // the rest only keeps the tables in step
		return
	}
	r.listSize += size
	r.fields = append(r.fields, f)
}
