package kitexgrpc

import (
	"net"
	"sync"
	"sync/atomic"
)

// watchedConn is a connection to a backend that can say two things Kitex's
// client transport does not: whether the backend's SETTINGS have been taken in
// (its stream limit is unknown before), and whether the goroutine that reads
// the connection is still there (Kitex's ends in a panic on a grpc-status
// that does not fit 32 bits, and leaves the connection open with nobody on it).
type watchedConn struct {
	net.Conn

	// settled is closed when the reader comes back for more after the first
	// frame, which has to be SETTINGS (RFC 9113 section 3.4).
	settled     chan struct{}
	settleOnce  sync.Once
	firstFrame  int // length of the first frame, 0 while unknown
	received    int // bytes received until settled
	frameHeader [3]byte

	reads   atomic.Uint64 // how often the reader has come
	reading atomic.Bool
	writing atomic.Bool

	// lastReads and stuck belong to the one goroutine that calls readerGone.
	lastReads uint64
	stuck     int
}

// frameHeaderLen is the length of an HTTP/2 frame's header.
const frameHeaderLen = 9

// watch wraps a connection to a backend, which may send header blocks of
// maxHeaderBlock bytes.
func watch(c net.Conn, maxHeaderBlock int) *watchedConn {
	c = &guardedConn{Conn: yieldingConn{c}, guard: headerGuard{limit: 2 * maxHeaderBlock}}
	return &watchedConn{Conn: c, settled: make(chan struct{})}
}

// Read is called by one goroutine at a time.
func (c *watchedConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	if c.firstFrame > 0 && c.received >= c.firstFrame {
		c.settleOnce.Do(func() { close(c.settled) })
	}
	c.reading.Store(true)
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if c.firstFrame == 0 || c.received < c.firstFrame {
		c.noteFirstFrame(p[:n])
	}
	return n, err
}

func (c *watchedConn) noteFirstFrame(p []byte) {
	if c.received < len(c.frameHeader) {
		copy(c.frameHeader[c.received:], p)
	}
	c.received += len(p)
	if c.firstFrame == 0 && c.received >= len(c.frameHeader) {
		h := c.frameHeader
		c.firstFrame = frameHeaderLen + int(h[0])<<16 + int(h[1])<<8 + int(h[2])
	}
}

func (c *watchedConn) Write(p []byte) (int, error) {
	c.writing.Store(true)
	n, err := c.Conn.Write(p)
	c.writing.Store(false)
	return n, err
}

// readerGoneAfter is how many looks in a row must find the reader away. A
// reader is away for microseconds while it handles a frame; it waits elsewhere
// only while the writer is held up, which writing shows.
const readerGoneAfter = 4

// readerGone is to be called at regular intervals by one goroutine. It reports
// true once the reader has been away for readerGoneAfter calls.
func (c *watchedConn) readerGone() bool {
	reads := c.reads.Load()
	if reads == 0 || reads != c.lastReads || c.reading.Load() || c.writing.Load() {
		c.lastReads, c.stuck = reads, 0
		return false
	}
	c.stuck++
	return c.stuck >= readerGoneAfter
}
