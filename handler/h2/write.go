package h2

import (
	"runtime"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxOut is how many bytes are queued for the socket before streams have to
// wait with their data: enough to keep a fast path full between two writes, and
// little enough for what comes behind it.
const maxOut = 64 << 10

// maxControl is how many bytes of answers may be queued for a peer that makes
// the proxy answer and does not read.
const maxControl = 1 << 20

// tail is the last frame in out while it is a DATA frame that may grow: small
// messages written one by one go out in one frame.
type tail struct {
	s     *Stream
	start int // of the frame in out
}

// seal ends the growth of the last frame. It needs mu, and is called before
// another frame is queued.
func (c *Conn) seal() { c.tail = tail{} }

// sendable returns how many of n bytes the windows and the queue have room for.
// It needs mu.
func (c *Conn) sendable(s *Stream, n int) int {
	return max(0, min(n, int(s.sendWindow), int(c.sendWindow), maxOut-len(c.out)))
}

// appendData queues DATA that is sendable. It needs mu.
func (c *Conn) appendData(s *Stream, b []byte, last bool) {
	c.sentSince = true
	s.sendWindow -= int64(len(b))
	c.sendWindow -= int64(len(b))
	if c.tail.s == s {
		b = c.growTail(b)
		if len(b) == 0 {
			if last {
				c.out[c.tail.start+4] |= byte(flagEndStream)
				c.seal()
			}
			return
		}
	}
	for {
		n := min(len(b), maxFrameSize)
		var flags http2.Flags
		if last && n == len(b) {
			flags = flagEndStream
		}
		c.tail = tail{s: s, start: len(c.out)}
		c.out = appendFrameHeader(c.out, n, http2.FrameData, flags, s.id)
		c.out = append(c.out, b[:n]...)
		b = b[n:]
		if len(b) == 0 {
			if last {
				c.seal()
			}
			return
		}
	}
}

// growTail adds to the last frame what it has room for, and returns the rest.
// It needs mu.
func (c *Conn) growTail(b []byte) []byte {
	head := c.out[c.tail.start:]
	size := len(head) - frameHeaderLen
	n := min(len(b), maxFrameSize-size)
	size += n
	head[0], head[1], head[2] = byte(size>>16), byte(size>>8), byte(size)
	c.out = append(c.out, b[:n]...)
	return b[n:]
}

// appendHeaders queues a header block. It needs mu: blocks have to be sent in
// the order in which they are encoded.
func (c *Conn) appendHeaders(id uint32, fields []hpack.HeaderField, last bool) {
	c.seal()
	c.sentSince = true
	c.block.Reset()
	for i := range fields {
		f := fields[i]
		varies := variesByCall(f.Name)
		if varies && len(f.Value) <= maxPlainValue && i > 0 { // before the first, the encoder may have to say something
			c.writePlain(&f)
			continue
		}
		f.Sensitive = f.Sensitive || varies || len(f.Value) > maxIndexedValue
		_ = c.enc.WriteField(f) // into a bytes.Buffer
	}
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if last {
		flags = flagEndStream
	}
	for block := c.block.Bytes(); ; {
		n := min(len(block), maxFrameSize)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		c.out = appendFrameHeader(c.out, n, kind, flags, id)
		c.out = append(c.out, block[:n]...)
		block = block[n:]
		if len(block) == 0 {
			return
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

// maxIndexedValue is the longest value that is put into the peer's table, for
// one long value pushes out many short ones.
const maxIndexedValue = 256

// maxPlainValue is the longest value of a field that varies by call that is not worth being
// compressed. Its length, and that of any such name, fit a byte.
const maxPlainValue = 64

// writePlain adds a field to the block that is put into no table and not compressed, in a
// tenth of the time: RFC 7541 section 6.2.2, and 6.2.3 for what is sensitive.
func (c *Conn) writePlain(f *hpack.HeaderField) {
	kind := byte(0)
	if f.Sensitive {
		kind = 0x10
	}
	b := append(c.block.AvailableBuffer(), kind, byte(len(f.Name)))
	b = append(append(b, f.Name...), byte(len(f.Value)))
	c.block.Write(append(b, f.Value...))
}

// variesByCall reports whether a field has another value in nearly every call,
// so that it would only push others out of the peer's table.
func variesByCall(name string) bool {
	switch name {
	case "grpc-timeout", "content-length", "date", "traceparent", "tracestate", "grpc-trace-bin", "x-request-id",
		"b3", "x-b3-spanid", "x-b3-traceid", "grpc-message", "grpc-status-details-bin", "endpoint-load-metrics-bin":
		return true
	}
	return false
}

func listSize(fields []hpack.HeaderField) (n uint64) {
	for i := range fields {
		n += uint64(fields[i].Size())
	}
	return n
}

// await puts a stream in line that has something to send and a window to send
// it in. It needs mu.
func (c *Conn) await(s *Stream) {
	if s.pending.len() > 0 && s.sendWindow > 0 && !s.awaiting && !s.gone {
		s.awaiting = true
		c.waiting = append(c.waiting, s)
	}
}

// release queues what waits, a frame of each stream in turn, as far as windows
// and the queue have room. It needs mu.
func (c *Conn) release() {
	for len(c.waiting) > 0 && c.sendWindow > 0 && len(c.out) < maxOut {
		s := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		s.awaiting = false
		if s.gone {
			continue
		}
		c.releaseOne(s)
		c.await(s)
	}
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
}

// releaseOne queues one frame of a stream that has something to send. It needs
// mu.
func (c *Conn) releaseOne(s *Stream) {
	n := c.sendable(s, min(s.pending.len(), maxFrameSize))
	if n == 0 {
		return
	}
	last := s.ending && n == s.pending.len()
	for left := n; left > 0; { // the pieces become one frame
		b := s.pending.first(left)
		left -= len(b)
		c.appendData(s, b, last && left == 0)
		s.pending.skip(len(b))
	}
	c.queued -= n
	if s.ev != nil {
		c.note(note{ev: s.ev, sent: n})
	}
	switch {
	case last:
		s.ending, s.localEnded = false, true
		c.leaveIfDone(s)
	case s.pending.len() == 0 && s.trailer != nil:
		trailer := s.trailer
		s.trailer = nil
		c.endWith(s, trailer)
	}
}

// checkQueued cuts off a client that has the proxy hold more than it may. It
// needs mu.
func (c *Conn) checkQueued() {
	if c.client || c.cfg.MaxQueued == 0 || c.queued <= c.cfg.MaxQueued || c.failure != nil {
		return
	}
	c.endSoon(connErrorf(http2.ErrCodeEnhanceYourCalm, "%d bytes of answers wait to be read", c.queued))
}

// FlushSoon is Flush for goroutines of which many may be about to queue
// something: those that are ready to run do so first, and what they queue is
// written together.
func (c *Conn) FlushSoon() {
	if c.flushing.Swap(true) {
		return // somebody else is between here and the flush
	}
	runtime.Gosched()
	c.flushing.Store(false)
	c.Flush()
}

// Flush writes what is queued as far as the socket takes it, and leaves the
// rest to a goroutine that ends with it. It never waits.
func (c *Conn) Flush() {
	c.mu.Lock()
	if c.writing || len(c.out) == 0 {
		c.mu.Unlock()
		c.deliver()
		return
	}
	c.writing = true
	for len(c.out) > 0 {
		b := c.takeOut()
		c.mu.Unlock()
		n, err := 0, error(nil)
		if c.raw != nil {
			n, err = c.raw.write(b)
		}
		if err == nil && n < len(b) {
			go c.writeRest(b, n) // ends when everything queued is written, or the connection closed
			c.deliver()
			return
		}
		c.mu.Lock()
		c.wrote(b, err)
	}
	c.stopWriting()
	c.mu.Unlock()
	c.deliver()
}

// flushAnswers flushes, and reports a client that makes the proxy answer and does
// not read (CVE-2019-9512 and its kind).
func (c *Conn) flushAnswers() error {
	c.Flush()
	if c.client {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) > maxControl {
		return connErrorf(http2.ErrCodeEnhanceYourCalm, "%d bytes of answers are not taken", len(c.out))
	}
	return nil
}

// takeOut takes what is queued, to be written by the caller. It needs mu.
func (c *Conn) takeOut() []byte {
	b := c.out
	c.out, c.spare = c.spare, nil
	c.seal()
	return b
}

// wrote takes b back, and queues what has been waiting. It needs mu.
func (c *Conn) wrote(b []byte, err error) {
	if err != nil {
		c.seal()
		c.out = c.out[:0]
		c.unwritable(err)
		return
	}
	c.spare = b[:0]
	c.release()
}

// unwritable takes the connection out of use, and has the reader end it when it
// has read what may have come before: the peer's last words often say why. It
// needs mu.
func (c *Conn) unwritable(err error) {
	if c.failure == nil {
		c.failure = err
		_ = c.nc.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	}
}

// stopWriting needs mu.
func (c *Conn) stopWriting() {
	c.writing = false
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// awaitWritten returns when nobody writes.
func (c *Conn) awaitWritten() {
	c.mu.Lock()
	var idle chan struct{}
	if c.writing {
		idle = make(chan struct{})
		c.idle = idle // the reader alone waits
	}
	c.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// writeRest writes b from n on and then whatever is queued, waiting for the
// socket.
func (c *Conn) writeRest(b []byte, n int) {
	for {
		_, err := c.nc.Write(b[n:])
		n = 0
		c.mu.Lock()
		c.wrote(b, err)
		if len(c.out) == 0 {
			c.stopWriting()
			c.mu.Unlock()
			c.deliver()
			return
		}
		b = c.takeOut()
		c.mu.Unlock()
		c.deliver()
	}
}
