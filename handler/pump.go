package handler

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/bytedance/gopkg/lang/dirtmake"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// source is where the messages of one direction come from.
type source interface {
	Read(p []byte) error
	Ready(n int) bool
}

// flusher is what is written to, and has to be flushed before a pump waits.
type flusher interface{ Flush() }

// pieces are what one direction of a call consists of, to be sent on as they
// come.
type pieces interface {
	// next returns the next piece, io.EOF when the source has ended between two
	// messages, or the error that ends the call.
	next() ([]byte, error)
	// messages is how many have begun to come.
	messages() int
}

// pump sends the pieces of one direction on.
type pump struct {
	from  pieces
	write func(b []byte) error
}

// frames are the messages of a source as they come, in pieces of bounded size:
// what a length prefix claims is neither believed nor reserved. Nothing is looked
// at but the prefix.
type frames struct {
	src       source
	onWait    flusher
	limit     uint32 // longest message let through in bytes; 0: any
	direction direction

	begun  int    // messages
	left   uint32 // bytes of the present message still to come
	prefix [stream.PrefixLen]byte
}

// direction is what moves, and how errors call it.
type direction struct {
	name      fmt.Stringer
	malformed stream.Reason // for one that ends inside a message
}

// pieceSize is how much is moved at a time: about one HTTP/2 frame of the size
// that every peer accepts (RFC 9113 section 4.2), so that few are cut in two,
// and with the spare byte of newPiece no more than 16 KiB.
const pieceSize = 16<<10 - 1

// newPiece returns n bytes that are not zeroed, and one behind them that is.
// Kitex's transport takes a buffer whose capacity ends in the magic number of
// its allocator for its own, and recycles it once it is sent: the end must not
// be the peer's to choose.
func newPiece(n int) []byte {
	b := dirtmake.Bytes(n+1, n+1)
	b[n] = 0
	return b[:n]
}

// writeError is an error of where a pump writes, as opposed to its source.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// run moves everything up to the source's end, for which it returns nil. It
// returns *writeError when writing fails, and otherwise the source's error or
// the *stream.Failure that ends the call.
func (p *pump) run() error {
	for {
		b, err := p.from.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.write(b); err != nil {
			return &writeError{err}
		}
	}
}

// next reads the next piece: a prefix and what fits of its message, or more of
// a message begun.
func (f *frames) next() ([]byte, error) {
	if f.left > 0 {
		n := int(min(f.left, pieceSize))
		b := newPiece(n)
		return b, f.fill(b)
	}
	length, err := f.begin()
	if err != nil {
		return nil, err
	}
	n := stream.PrefixLen + int(min(length, pieceSize-stream.PrefixLen))
	b := newPiece(n)
	copy(b, f.prefix[:])
	if n == stream.PrefixLen {
		return b, nil
	}
	return b, f.fill(b[stream.PrefixLen:])
}

// read reads from the source. What has been sent on must not wait with it.
func (f *frames) read(p []byte) error {
	if !f.src.Ready(len(p)) {
		f.onWait.Flush()
	}
	return f.src.Read(p)
}

// begin reads the prefix of the next message, and returns the message's length.
func (f *frames) begin() (length uint32, err error) {
	if err := f.read(f.prefix[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			return 0, f.truncated()
		}
		return 0, err
	}
	length = binary.BigEndian.Uint32(f.prefix[1:])
	if f.limit > 0 && length > f.limit {
		return 0, f.tooLarge(length)
	}
	f.begun++
	f.left = length
	return length, nil
}

func (f *frames) messages() int { return f.begun }

// fill reads len(b) bytes of the present message.
func (f *frames) fill(b []byte) error {
	err := f.read(b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return f.truncated()
	}
	f.left -= uint32(len(b))
	return err
}

func (f *frames) tooLarge(length uint32) error {
	return &stream.Failure{
		Reason: stream.MessageTooLarge, Code: stream.ResourceExhausted,
		Message: fmt.Sprintf("%s: a message of %d bytes exceeds the proxy's limit of %d bytes (limits.message, or message_limit of the route)", f.direction.name, length, f.limit),
	}
}

func (f *frames) truncated() error {
	return &stream.Failure{
		Reason: f.direction.malformed, Code: stream.Internal,
		Message: fmt.Sprintf("%s ends inside a message", f.direction.name),
	}
}
