package h2

import (
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"
)

// handle takes in a frame. An error ends the connection.
func (r *reader) handle(f *frame) error {
	if r.openID != 0 && (f.kind != http2.FrameContinuation || f.id != r.openID) {
		return connErrorf(http2.ErrCodeProtocol, "%v inside the header block of stream %d", f.kind, r.openID)
	}
	switch f.kind {
	case http2.FrameData:
		return r.data(f)
	case http2.FrameHeaders:
		return r.headers(f)
	case http2.FrameContinuation:
		return r.continuation(f)
	case http2.FramePriority:
		return r.priority(f)
	case http2.FrameRSTStream:
		return r.rstStream(f)
	case http2.FrameSettings:
		return r.settings(f)
	case http2.FramePushPromise:
		return connErrorf(http2.ErrCodeProtocol, "PUSH_PROMISE, which is switched off")
	case http2.FramePing:
		return r.ping(f)
	case http2.FrameGoAway:
		return r.goAway(f)
	case http2.FrameWindowUpdate:
		return r.windowUpdate(f)
	default:
		return r.floods.count(floodOther) // RFC 9113 section 4.1: unknown types are ignored
	}
}

// data takes in a part of a body (RFC 9113 section 6.1).
func (r *reader) data(f *frame) error {
	if f.id == 0 {
		return connErrorf(http2.ErrCodeProtocol, "DATA on stream 0")
	}
	counted, last := len(f.payload), f.has(flagEndStream)
	if !f.unpad() {
		return connErrorf(http2.ErrCodeProtocol, "padding of DATA is longer than the frame")
	}
	if len(f.payload) < tiny && !last {
		kind := floodTinyData
		if len(f.payload) == 0 {
			kind = floodEmptyData
		}
		if err := r.floods.count(kind); err != nil {
			return err
		}
	}
	c := r.c
	c.mu.Lock()
	if counted > int(c.cfg.connWindow())-int(c.recvUnsent) {
		c.mu.Unlock()
		return connErrorf(http2.ErrCodeFlowControl, "DATA exceeds the connection's window")
	}
	c.creditConn(uint32(counted))
	s := c.streams[f.id]
	switch {
	case s == nil:
		err := c.strayFrame(f)
		c.mu.Unlock()
		return err
	case s.remoteEnded:
		return r.endStream(s, http2.ErrCodeStreamClosed, afterEnd)
	case counted > 0 && int64(counted) > s.recvWindow: // which may be below 0
		return r.endStream(s, http2.ErrCodeFlowControl, "DATA exceeds the stream's window")
	case !s.gotHead:
		return r.endStream(s, http2.ErrCodeProtocol, "DATA before the response's head")
	}
	s.recvWindow -= int64(counted)
	s.round += int64(counted)
	if !s.countBody(len(f.payload), last) {
		return r.endStream(s, http2.ErrCodeProtocol, "the body's length differs from content-length")
	}
	if pad := counted - len(f.payload); pad > 0 {
		s.credit(pad)
	}
	s.remoteEnded, s.telling = last, last
	ev := s.events()
	c.mu.Unlock()
	ev.Data(f.payload, last)
	c.told(s, last)
	return nil
}

// told is called when the Events of s have been told of a frame. If it was the
// peer's last, the stream may now be over: not before, since Closed may come
// from another goroutine, and is to come behind.
func (c *Conn) told(s *Stream, last bool) {
	if last {
		c.mu.Lock()
		s.telling = false
		c.leaveIfDone(s)
		c.mu.Unlock()
	}
	c.deliver()
}

// connWindow is the window of a connection, which has to be the protocol's at
// least: it cannot be made smaller.
func (cfg *Config) connWindow() uint32 { return max(cfg.ConnWindow, initialWindow) }

// creditConn needs mu. Bytes on a connection are credited as they come, in
// steps that cost few frames.
func (c *Conn) creditConn(n uint32) {
	c.recvUnsent += n
	if c.recvUnsent >= c.cfg.connWindow()/4 {
		c.seal()
		c.out = appendWindowUpdate(c.out, 0, c.recvUnsent)
		c.recvUnsent = 0
	}
}

// strayFrame decides about a frame on a stream that takes none (RFC 9113
// section 5.1). It needs mu.
func (c *Conn) strayFrame(f *frame) error {
	switch {
	case c.isIdle(f.id):
		return connErrorf(http2.ErrCodeProtocol, "%v on stream %d, which has not been opened", f.kind, f.id)
	case c.client || c.wasReset(f.id) || f.id > c.goAwayMax:
		return nil // it crossed our RST_STREAM or GOAWAY
	case f.kind == http2.FrameHeaders:
		return connErrorf(http2.ErrCodeStreamClosed, "HEADERS on stream %d, which has ended", f.id)
	default:
		c.seal()
		c.out = appendRSTStream(c.out, f.id, http2.ErrCodeStreamClosed)
		return c.reader.floods.count(floodStray)
	}
}

const afterEnd = "a frame after END_STREAM"

// isIdle reports whether the stream has never been open. It needs mu.
func (c *Conn) isIdle(id uint32) bool {
	return id >= c.nextID || id%2 == 0
}

// endStream resets a stream for what its peer has sent. It is called with mu
// held and releases it.
func (r *reader) endStream(s *Stream, code http2.ErrCode, reason string) error {
	r.c.reset(s, code, reason)
	r.c.mu.Unlock()
	r.c.deliver()
	return r.floods.count(floodStray)
}

// priority is of no use to a proxy, but may break the protocol (RFC 9113
// section 6.3).
func (r *reader) priority(f *frame) error {
	if f.id == 0 {
		return connErrorf(http2.ErrCodeProtocol, "PRIORITY on stream 0")
	}
	if len(f.payload) != 5 {
		return r.refuseStream(f.id, http2.ErrCodeFrameSize, "PRIORITY of a wrong length")
	}
	if dependsOnItself(f.id, f.payload) {
		return r.refuseStream(f.id, http2.ErrCodeProtocol, "a stream that depends on itself")
	}
	return r.floods.count(floodOther)
}

func dependsOnItself(id uint32, priority []byte) bool {
	return binary.BigEndian.Uint32(priority)&(1<<31-1) == id
}

// refuseStream resets a stream that may or may not be open.
func (r *reader) refuseStream(id uint32, code http2.ErrCode, reason string) error {
	c := r.c
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		return r.endStream(s, code, reason)
	}
	c.seal()
	c.out = appendRSTStream(c.out, id, code)
	c.rememberReset(id)
	c.mu.Unlock()
	return r.floods.count(floodStray)
}

func (r *reader) rstStream(f *frame) error {
	if f.id == 0 {
		return connErrorf(http2.ErrCodeProtocol, "RST_STREAM on stream 0")
	}
	if len(f.payload) != 4 {
		return connErrorf(http2.ErrCodeFrameSize, "RST_STREAM of %d bytes", len(f.payload))
	}
	c := r.c
	c.mu.Lock()
	s := c.streams[f.id]
	if s == nil {
		idle, crossed := c.isIdle(f.id), c.client || c.forgetReset(f.id)
		c.mu.Unlock()
		switch {
		case idle:
			return connErrorf(http2.ErrCodeProtocol, "RST_STREAM on stream %d, which has not been opened", f.id)
		case crossed: // as when a backend has answered before it had the whole request
			return nil
		}
		return r.floods.count(floodStray)
	}
	unanswered := !s.headSent
	c.leave(s, &ResetError{Code: http2.ErrCode(binary.BigEndian.Uint32(f.payload))})
	c.mu.Unlock()
	c.deliver()
	if c.client || !unanswered {
		return nil
	}
	return r.floods.count(floodReset)
}

func (r *reader) settings(f *frame) error {
	if f.id != 0 {
		return connErrorf(http2.ErrCodeProtocol, "SETTINGS on stream %d", f.id)
	}
	if f.has(flagAck) {
		if len(f.payload) != 0 {
			return connErrorf(http2.ErrCodeFrameSize, "an acknowledgement of SETTINGS with a payload")
		}
		r.c.settingsAcked()
		return r.floods.count(floodOther)
	}
	if len(f.payload)%6 != 0 {
		return connErrorf(http2.ErrCodeFrameSize, "SETTINGS of %d bytes", len(f.payload))
	}
	if err := r.floods.count(floodSettings); err != nil {
		return err
	}
	c := r.c
	c.mu.Lock()
	for b := f.payload; len(b) > 0; b = b[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(b)), Val: binary.BigEndian.Uint32(b[2:])}
		if err := c.apply(s); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	first := !c.settingsIn
	c.settingsIn = true
	c.seal()
	c.out = appendFrameHeader(c.out, 0, http2.FrameSettings, flagAck, 0)
	c.release()
	c.mu.Unlock()
	c.deliver()
	if first {
		close(c.settled)
	}
	c.changed()
	return nil
}

// settingsAcked takes back what streams of a client's could send before it knew
// their window (RFC 9113 section 6.9.3).
func (c *Conn) settingsAcked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked {
		return
	}
	before := c.recvWindow()
	c.acked = true
	for _, s := range c.streams {
		s.recvWindow -= before - c.recvWindow()
	}
}

// recvWindow is what a peer may send on a new stream. It needs mu.
func (c *Conn) recvWindow() int64 {
	if c.client || c.acked { // a server knows our SETTINGS when it gets a request
		return int64(c.cfg.StreamWindow)
	}
	return max(int64(c.cfg.StreamWindow), initialWindow)
}

// apply takes over a setting of the peer's (RFC 9113 section 6.5.2). It needs mu.
func (c *Conn) apply(s http2.Setting) error {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.enc.SetMaxDynamicTableSize(min(s.Val, maxHeaderTable))
	case http2.SettingEnablePush:
		if s.Val > 1 || c.client && s.Val == 1 {
			return connErrorf(http2.ErrCodeProtocol, "SETTINGS_ENABLE_PUSH of %d", s.Val)
		}
	case http2.SettingMaxConcurrentStreams:
		c.peer.maxStreams = s.Val
	case http2.SettingInitialWindowSize:
		return c.applyInitialWindow(s.Val)
	case http2.SettingMaxFrameSize:
		if s.Val < maxFrameSize || s.Val > 1<<24-1 {
			return connErrorf(http2.ErrCodeProtocol, "SETTINGS_MAX_FRAME_SIZE of %d", s.Val)
		}
	case http2.SettingMaxHeaderListSize:
		c.peer.maxHeaderList = uint64(s.Val)
	}
	return nil
}

// applyInitialWindow changes the windows of all streams (RFC 9113 section
// 6.9.2). It needs mu.
func (c *Conn) applyInitialWindow(v uint32) error {
	if v > math.MaxInt32 {
		return connErrorf(http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE of %d", v)
	}
	delta := int64(v) - c.peer.initialWindow
	c.peer.initialWindow = int64(v)
	for _, s := range c.streams {
		if s.sendWindow+delta > math.MaxInt32 {
			return connErrorf(http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE makes the window of stream %d too large", s.id)
		}
		s.sendWindow += delta
		c.await(s)
	}
	return nil
}

func (r *reader) ping(f *frame) error {
	if f.id != 0 {
		return connErrorf(http2.ErrCodeProtocol, "PING on stream %d", f.id)
	}
	if len(f.payload) != 8 {
		return connErrorf(http2.ErrCodeFrameSize, "PING of %d bytes", len(f.payload))
	}
	c := r.c
	if f.has(flagAck) {
		return r.pong([8]byte(f.payload))
	}
	c.mu.Lock()
	measures := c.sentSince
	c.sentSince = false
	c.seal()
	c.out = appendPing(c.out, flagAck, f.payload)
	c.mu.Unlock()
	if measures { // gRPC's peers do that with what they receive, in every round trip
		return nil
	}
	return r.floods.count(floodPing)
}

// pong takes in the answer to a PING.
func (r *reader) pong(data [8]byte) error {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.growth.pinging && data == growthPing:
		c.measured()
	case c.drainPinged && data == drainPing:
		c.drained()
		if c.finished() {
			return ErrClosed // what is queued is written before the end
		}
	case data != keepalivePing:
		return r.floods.count(floodOther)
	}
	return nil
}

// goAway ends the streams that the peer has not begun, and takes the
// connection out of use (RFC 9113 section 6.8).
func (r *reader) goAway(f *frame) error {
	if f.id != 0 {
		return connErrorf(http2.ErrCodeProtocol, "GOAWAY on stream %d", f.id)
	}
	if len(f.payload) < 8 {
		return connErrorf(http2.ErrCodeFrameSize, "GOAWAY of %d bytes", len(f.payload))
	}
	c := r.c
	if !c.client {
		return r.floods.count(floodOther) // a client has nothing to refuse
	}
	last := binary.BigEndian.Uint32(f.payload) & (1<<31 - 1)
	c.mu.Lock()
	c.peerGone = true
	for id, s := range c.streams {
		if id > last {
			c.leave(s, &LostError{Unprocessed: true})
		}
	}
	over := c.finished()
	c.mu.Unlock()
	c.deliver()
	c.changed()
	if over {
		return ErrClosed
	}
	return nil
}

func (r *reader) windowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return connErrorf(http2.ErrCodeFrameSize, "WINDOW_UPDATE of %d bytes", len(f.payload))
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & (1<<31 - 1))
	if n < tiny {
		if err := r.floods.count(floodTinyCredit); err != nil {
			return err
		}
	}
	if f.id == 0 {
		return r.connWindowUpdate(n)
	}
	c := r.c
	c.mu.Lock()
	s := c.streams[f.id]
	switch {
	case s == nil && c.isIdle(f.id):
		c.mu.Unlock()
		return connErrorf(http2.ErrCodeProtocol, "WINDOW_UPDATE on stream %d, which has not been opened", f.id)
	case s == nil:
		c.mu.Unlock()
		return nil // it crossed the end of the stream
	case n == 0:
		return r.endStream(s, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case s.sendWindow+n > math.MaxInt32:
		return r.endStream(s, http2.ErrCodeFlowControl, "WINDOW_UPDATE beyond the largest window")
	}
	s.sendWindow += n
	c.await(s)
	c.release()
	c.mu.Unlock()
	c.deliver()
	return nil
}

func (r *reader) connWindowUpdate(n int64) error {
	c := r.c
	c.mu.Lock()
	defer c.deliver()
	defer c.mu.Unlock()
	switch {
	case n == 0:
		return connErrorf(http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case c.sendWindow+n > math.MaxInt32:
		return connErrorf(http2.ErrCodeFlowControl, "WINDOW_UPDATE beyond the largest window")
	}
	c.sendWindow += n
	c.release()
	return nil
}
