package kitexgrpc

import (
	"encoding/binary"
	"errors"
	"net"
)

// Prepare returns a function that prepares client connections for Kitex's
// transport, for a TransServer. maxHeaderBlock is the longest header block in
// bytes, as it crosses the wire, that a client may send before it is cut off.
func Prepare(maxHeaderBlock int) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		return &guardedConn{
			Conn:  yieldingConn{c},
			guard: headerGuard{limit: maxHeaderBlock, skip: clientPrefaceLen},
		}
	}
}

// guardedConn ends a connection whose peer sends a header block without end.
//
// Kitex counts the fields of a header list, but goes on taking in the frames of
// a block that exceeds it, and keeps their bytes until END_HEADERS comes
// (CVE-2023-45288 is that fault in Go's own HTTP/2). The guard looks at frame
// headers only, and passes everything on as it came.
type guardedConn struct {
	net.Conn
	guard headerGuard
}

// Read is called by one goroutine at a time.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.guard.accepts(p[:n]) {
		_ = c.Close()
		return 0, errEndlessHeaders
	}
	return n, err
}

var errEndlessHeaders = errors.New("a header block exceeds the limit (limits.header_list)")

// headerGuard follows the frames in a stream of bytes that comes in pieces
// (RFC 9113 section 4.1).
type headerGuard struct {
	limit int // bytes of one header block, all its frames together
	skip  int // bytes until the next frame header: a payload, or the preface

	partial [frameHeaderLen]byte // a frame header that is not complete yet
	have    int                  // how much of it is there

	block int // bytes of the header block that is open
}

const (
	frameHeaders      = 0x1
	framePushPromise  = 0x5
	frameContinuation = 0x9
	flagEndHeaders    = 0x4
	clientPrefaceLen  = 24
)

// accepts takes in the next bytes. It reports false once a header block is
// longer than the limit.
func (g *headerGuard) accepts(p []byte) bool {
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(p))
			g.skip -= n
			p = p[n:]
			continue
		}
		n := copy(g.partial[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have == frameHeaderLen && !g.begin() {
			return false
		}
	}
	return true
}

// begin takes in the header of a frame.
func (g *headerGuard) begin() bool {
	g.have = 0
	length := int(binary.BigEndian.Uint32(g.partial[:4]) >> 8)
	g.skip = length
	switch g.partial[3] {
	case frameHeaders, framePushPromise:
		g.block = length
	case frameContinuation:
		g.block += length
	default:
		return true
	}
	tooLong := g.block > g.limit
	if g.partial[4]&flagEndHeaders != 0 {
		g.block = 0
	}
	return !tooLong
}
