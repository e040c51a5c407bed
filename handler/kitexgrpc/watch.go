package kitexgrpc

import (
	"encoding/binary"
	"math"
	"net"
	"slices"
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
	settled    chan struct{}
	settleOnce sync.Once
	first      []byte // the first frame, as far as it has come
	firstLen   int    // its length with its header, 0 while unknown

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
	if c.firstComplete() {
		c.settleOnce.Do(func() { close(c.settled) })
	}
	c.reading.Store(true)
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if !c.firstComplete() {
		c.keepFirst(p[:n])
	}
	return n, err
}

func (c *watchedConn) firstComplete() bool { return c.firstLen > 0 && len(c.first) >= c.firstLen }

func (c *watchedConn) keepFirst(p []byte) {
	c.first = append(c.first, p...)
	if c.firstLen == 0 && len(c.first) >= frameHeaderLen {
		c.firstLen = frameHeaderLen + int(c.first[0])<<16 + int(c.first[1])<<8 + int(c.first[2])
	}
}

// maxStreams returns how many streams the backend's first SETTINGS allows at a
// time. It is for after settled.
func (c *watchedConn) maxStreams() int64 {
	limit := int64(math.MaxInt64) // RFC 9113 section 6.5.2: no limit unless it says so
	for entry := range slices.Chunk(c.first[frameHeaderLen:c.firstLen], settingLen) {
		if len(entry) == settingLen && binary.BigEndian.Uint16(entry) == settingMaxConcurrentStreams {
			limit = int64(binary.BigEndian.Uint32(entry[2:]))
		}
	}
	return limit
}

const (
	settingLen                  = 6
	settingMaxConcurrentStreams = 0x3
)

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
