package kitexgrpc

import (
	"net"
	"runtime"
)

// yieldingConn lets other goroutines run before each small write.
//
// Kitex's writer goroutine flushes as soon as it has a thousand bytes and
// nothing more is queued. It is woken by the first of the streams that a read
// has brought messages for, runs at once, and so writes message by message.
// Yielding first lets the other streams queue theirs, to go in one write: what
// is in hand goes alone, the rest together.
type yieldingConn struct{ net.Conn }

// smallWrite is what is worth waiting for company: more is a full buffer.
const smallWrite = 16 << 10

func (c yieldingConn) Write(p []byte) (int, error) {
	if len(p) < smallWrite {
		runtime.Gosched()
	}
	return c.Conn.Write(p)
}
