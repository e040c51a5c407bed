package h2

import (
	"io"
	"net"
	"syscall"
)

// rawSocket reads and writes a socket without waiting, or without holding a
// buffer while it waits. A TLS connection has none.
type rawSocket struct {
	conn syscall.RawConn

	// Of the reader.
	in      []byte
	inN     int
	inErr   error
	readFn  func(fd uintptr) bool
	writeFn func(fd uintptr) bool
	// Of whoever writes: one at a time.
	out    []byte
	outN   int
	outErr error
}

// newRawSocket returns nil if nc is not a plain socket.
func newRawSocket(nc net.Conn) *rawSocket {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	w := &rawSocket{conn: rc}
	w.readFn, w.writeFn = w.tryRead, w.tryWrite
	return w
}

// read waits until there is something to read, takes a buffer and reads into
// it. The buffer is nil with an error.
func (w *rawSocket) read() ([]byte, int, error) {
	w.in, w.inN, w.inErr = nil, 0, nil
	err := w.conn.Read(w.readFn)
	buf := w.in
	w.in = nil
	switch {
	case err != nil:
	case w.inErr != nil:
		err = w.inErr
	case w.inN == 0:
		err = io.EOF
	default:
		return buf, w.inN, nil
	}
	if buf != nil {
		bufs.Put((*[bufSize]byte)(buf))
	}
	return nil, 0, err
}

// tryRead reports whether it is done: not if there is nothing to read.
func (w *rawSocket) tryRead(fd uintptr) bool {
	if w.in == nil {
		w.in = bufs.Get().(*[bufSize]byte)[:]
	}
	n, err := retryRead(int(fd), w.in)
	if err == syscall.EAGAIN {
		bufs.Put((*[bufSize]byte)(w.in))
		w.in = nil
		return false
	}
	w.inN, w.inErr = max(n, 0), err
	return true
}

func retryRead(fd int, p []byte) (n int, err error) {
	for {
		n, err = syscall.Read(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// write writes what the socket takes at once, and returns how much that was.
// Only one goroutine may use it at a time.
func (w *rawSocket) write(b []byte) (int, error) {
	w.out, w.outN, w.outErr = b, 0, nil
	err := w.conn.Write(w.writeFn)
	w.out = nil
	if err == nil {
		err = w.outErr
	}
	return w.outN, err
}

// tryWrite never asks to be called again: it reports that it is done.
func (w *rawSocket) tryWrite(fd uintptr) bool {
	for w.outN < len(w.out) {
		n, err := syscall.Write(int(fd), w.out[w.outN:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			w.outErr = err
			return true
		}
		w.outN += n
	}
	return true
}
