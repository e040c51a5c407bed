package h2

import (
	"math"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Stream is one stream of a connection. Its methods may be called from
// anywhere; what is written goes out with the connection's next Flush.
type Stream struct {
	c  *Conn
	id uint32

	// All guarded by c.mu; c.reader writes what concerns reading.
	ev          Events
	gone        bool // no longer in c.streams
	remoteEnded bool // the peer has sent END_STREAM
	telling     bool // and ev is being told of it
	localEnded  bool // END_STREAM has been queued
	gotHead     bool // the peer's head has come
	headSent    bool // ours has been queued
	stopped     bool // the peer's side is of no interest once ours has ended

	window     int64 // what the peer may have sent and not been credited for
	recvWindow int64 // what the peer may still send
	limit      int64 // what window may be at most for now
	round      int64 // what it has sent since a measurement began; see growth
	waited     bool  // some of that had to wait for its receiver
	credited   int64 // to be added to it, once it is worth a frame
	declared   int64 // content-length, -1 for none
	body       int64 // bytes of it that have come

	sendWindow int64
	pending    backlog
	ending     bool // END_STREAM follows what is pending
	trailer    []hpack.HeaderField
	awaiting   bool // it is in c.waiting
}

func newStream(c *Conn, id uint32) *Stream {
	return &Stream{
		c: c, id: id, declared: -1,
		window: int64(c.cfg.StreamWindow), limit: int64(c.cfg.StreamWindow), recvWindow: c.recvWindow(), sendWindow: c.peer.initialWindow,
	}
}

// Conn returns the connection of the stream.
func (s *Stream) Conn() *Conn { return s.c }

// ID returns the number of the stream.
func (s *Stream) ID() uint32 { return s.id }

// SetEvents says who is told what happens on a stream that Config.Begin got.
func (s *Stream) SetEvents(ev Events) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.ev = ev
}

// events needs mu.
func (s *Stream) events() Events {
	if s.ev == nil {
		return unheard{}
	}
	return s.ev
}

// unheard is for streams that nobody asks about.
type unheard struct{}

func (unheard) Headers([]hpack.HeaderField, bool) {}
func (unheard) Data([]byte, bool)                 {}
func (unheard) Trailers([]hpack.HeaderField)      {}
func (unheard) Sent(int)                          {}
func (unheard) Closed(error)                      {}

// countBody takes in n bytes of the body and reports whether that goes with
// content-length. It needs mu.
func (s *Stream) countBody(n int, last bool) bool {
	s.body += int64(n)
	return s.declared < 0 || s.body <= s.declared && (!last || s.body == s.declared)
}

// Open opens a stream on a client's connection with the head of a request. The
// error is ErrDraining when the connection takes no new streams any more,
// ErrFull when the peer allows no more at a time or takes nothing of what is
// sent, and ErrHeaderList when the request is at fault. The caller flushes.
func (c *Conn) Open(fields []hpack.HeaderField, last bool, ev Events) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.usable():
		return nil, ErrDraining
	case uint32(len(c.streams)) >= c.peer.maxStreams || len(c.out) > maxControl:
		return nil, ErrFull
	case listSize(fields) > c.peer.maxHeaderList:
		return nil, ErrHeaderList
	}
	s := newStream(c, c.nextID)
	c.nextID += 2
	s.ev = ev
	s.headSent = true
	s.localEnded = last
	c.streams[s.id] = s
	c.open.Add(1)
	c.appendHeaders(s.id, fields, last)
	return s, nil
}

// WriteHeaders queues the head of a response. last ends this side of the stream.
func (s *Stream) WriteHeaders(fields []hpack.HeaderField, last bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.gone || s.localEnded || s.headSent:
		return ErrClosed
	case listSize(fields) > c.peer.maxHeaderList:
		return ErrHeaderList
	}
	s.headSent = true
	c.appendHeaders(s.id, fields, last)
	if last {
		s.localEnded = true
		c.leaveIfDone(s)
	}
	return nil
}

// WriteData queues b, of which it keeps nothing, and returns how much of it can
// be sent at once. Events.Sent tells of the rest; until then no more should be
// written than a source's window. last ends this side of the stream.
func (s *Stream) WriteData(b []byte, last bool) (sent int) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || s.localEnded || s.ending || s.trailer != nil {
		return len(b) // nobody waits for it any more
	}
	if len(b) == 0 && !last {
		return 0
	}
	if s.pending.len() == 0 {
		sent = c.sendable(s, len(b))
		if sent == len(b) {
			c.appendData(s, b, last)
			if last {
				s.localEnded = true
				c.leaveIfDone(s)
			}
			return sent
		}
		if sent > 0 {
			c.appendData(s, b[:sent], false)
		}
	}
	s.pending.append(b[sent:])
	c.queued += len(b) - sent
	s.ending = last
	c.await(s)
	c.checkQueued()
	return sent
}

// WriteTrailers ends this side of the stream, behind what waits to be sent.
func (s *Stream) WriteTrailers(fields []hpack.HeaderField) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.gone || s.localEnded || s.ending || s.trailer != nil:
		return ErrClosed
	case listSize(fields) > c.peer.maxHeaderList:
		return ErrHeaderList
	case s.pending.len() > 0:
		s.trailer = slices.Clone(fields)
		if fields == nil {
			s.trailer = []hpack.HeaderField{} // none, but they end the stream
		}
		return nil
	}
	c.endWith(s, fields)
	return nil
}

// endWith needs mu.
func (c *Conn) endWith(s *Stream, trailer []hpack.HeaderField) {
	c.appendHeaders(s.id, trailer, true)
	s.localEnded = true
	c.leaveIfDone(s)
}

// Reset ends the stream with RST_STREAM, unless it has ended. Its Events are
// told nothing more.
func (s *Stream) Reset(code http2.ErrCode) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone {
		return
	}
	s.ev = nil
	if s.localEnded && s.remoteEnded {
		c.leave(s, nil) // it is over, if its Events have not been told yet
		return
	}
	c.reset(s, code, "")
}

// Stop says that nothing more of the peer's is wanted once this side has ended:
// a peer that goes on is told so with NO_ERROR (RFC 9113 section 8.1).
func (s *Stream) Stop() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stopped = true
	c.stopIfDone(s)
}

// stopIfDone needs mu.
func (c *Conn) stopIfDone(s *Stream) {
	if s.stopped && s.localEnded && !s.remoteEnded && !s.gone {
		c.seal()
		c.out = appendRSTStream(c.out, s.id, http2.ErrCodeNo)
		c.rememberReset(s.id)
		c.leave(s, nil)
	}
}

// Credit lets the peer send n more bytes, that many of what Events.Data got
// being done with.
func (s *Stream) Credit(n int) { s.CreditWithin(n, math.MaxInt32, true) }

// CreditWithin is Credit for a stream whose window is not to be larger than
// limit for now, or than Config.StreamWindow if that is more. A window that is
// too large shrinks as its bytes are credited. flowing says that the bytes have
// not been waiting for their receiver: a window grows only while none do.
func (s *Stream) CreditWithin(n int, limit int64, flowing bool) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.waited = s.waited || !flowing
	s.limit = max(int64(c.cfg.StreamWindow), min(limit, int64(c.cfg.MaxStreamWindow)))
	s.credit(n)
}

// credit needs mu. The peer is told in steps that cost few frames.
func (s *Stream) credit(n int) {
	if n == 0 || s.gone || s.remoteEnded {
		return
	}
	s.credited += int64(n)
	if tooMuch := min(s.window-s.limit, s.credited); tooMuch > 0 {
		s.window -= tooMuch
		s.credited -= tooMuch
	}
	if s.credited >= s.window/4 {
		s.widen()
		s.announce(s.credited)
		s.credited = 0
		s.c.measure(s)
	}
}

// announce lets the peer send n more bytes. It needs mu.
func (s *Stream) announce(n int64) {
	s.c.seal()
	s.c.out = appendWindowUpdate(s.c.out, s.id, uint32(n))
	s.recvWindow += n
}

// reset sends RST_STREAM and ends the stream, telling its Events. It needs mu.
func (c *Conn) reset(s *Stream, code http2.ErrCode, reason string) {
	c.seal()
	c.out = appendRSTStream(c.out, s.id, code)
	c.rememberReset(s.id)
	c.leave(s, &ResetError{Code: code, Reason: reason})
}

// leaveIfDone takes a stream out that both sides have ended. It needs mu.
func (c *Conn) leaveIfDone(s *Stream) {
	if s.telling {
		return // told comes back to it
	}
	if s.localEnded && s.remoteEnded {
		c.leave(s, nil)
		return
	}
	c.stopIfDone(s)
}

// leave takes a stream out, whatever it waits for. It needs mu.
func (c *Conn) leave(s *Stream, err error) {
	if s.gone {
		return
	}
	s.gone = true
	if c.growth.s == s {
		c.growth.s = nil
	}
	delete(c.streams, s.id)
	c.open.Add(-1)
	c.queued -= s.pending.len()
	s.pending.drop()
	s.trailer = nil
	if s.ev != nil {
		c.note(note{ev: s.ev, closed: true, err: err})
	}
	if c.finished() {
		c.endSoon(ErrClosed)
	}
}

// note needs mu.
func (c *Conn) note(n note) {
	c.notes = append(c.notes, n)
	c.noted.Store(true)
}

// deliver tells what has been noted. It must be called without a lock after
// whatever may have noted something; Flush does it too.
func (c *Conn) deliver() {
	for c.noted.Load() {
		c.mu.Lock()
		notes := c.notes
		c.notes, c.spareNotes = c.spareNotes, nil
		c.noted.Store(false)
		c.mu.Unlock()
		for _, n := range notes {
			if n.closed {
				n.ev.Closed(n.err)
			} else {
				n.ev.Sent(n.sent)
			}
		}
		c.keepNotes(notes)
	}
}

// keepNotes keeps notes that have been told, for the next.
func (c *Conn) keepNotes(notes []note) {
	if cap(notes) == 0 || cap(notes) > maxSpareNotes {
		return
	}
	clear(notes)
	c.mu.Lock()
	c.spareNotes = notes[:0]
	c.mu.Unlock()
}

// maxSpareNotes is how many notes a connection keeps room for.
const maxSpareNotes = 64

// backlog is what waits to be sent on a stream, in pieces of one size, so that
// it grows without copying and is given back as it goes.
type backlog struct {
	pieces []*[pieceSize]byte
	start  int // in the first piece
	end    int // in the last piece
	size   int
}

// pieceSize is small enough for a thousand streams with little to say to hold
// little.
const pieceSize = 4 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

func (b *backlog) len() int { return b.size }

func (b *backlog) append(p []byte) {
	b.size += len(p)
	for len(p) > 0 {
		if len(b.pieces) == 0 || b.end == pieceSize {
			b.pieces = append(b.pieces, pieces.Get().(*[pieceSize]byte))
			b.end = 0
		}
		n := copy(b.pieces[len(b.pieces)-1][b.end:], p)
		b.end += n
		p = p[n:]
	}
}

// first returns up to n of the bytes that come first.
func (b *backlog) first(n int) []byte {
	end := pieceSize
	if len(b.pieces) == 1 {
		end = b.end
	}
	return b.pieces[0][b.start:min(end, b.start+n)]
}

// skip removes n bytes of first.
func (b *backlog) skip(n int) {
	b.start += n
	b.size -= n
	if b.start == pieceSize || b.size == 0 {
		pieces.Put(b.pieces[0])
		b.pieces[0] = nil
		b.pieces = b.pieces[1:]
		b.start = 0
	}
	if b.size == 0 {
		b.pieces = nil
	}
}

func (b *backlog) drop() {
	for _, p := range b.pieces {
		pieces.Put(p)
	}
	*b = backlog{}
}
