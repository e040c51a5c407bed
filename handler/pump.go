package handler

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/bytedance/gopkg/lang/dirtmake"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// source is where the messages of one direction come from.
type source interface{ Read(p []byte) error }

// pump moves the messages of one direction as they come, in pieces of bounded
// size: what a length prefix claims is neither believed nor reserved.
//
// The frame mode of a call is a pump that looks at nothing but the prefix.
type pump struct {
	src       source
	write     func(b []byte) error // where they go
	limit     uint32               // longest message let through in bytes; 0: any
	direction direction

	left   uint32 // bytes of the present message still to move
	prefix [stream.PrefixLen]byte
}

// direction is what a pump moves, and how it calls that in messages.
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
		b, err := p.next()
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
// a message begun. It returns io.EOF when the source has ended between two
// messages.
func (p *pump) next() ([]byte, error) {
	if p.left > 0 {
		n := int(min(p.left, pieceSize))
		b := newPiece(n)
		return b, p.fill(b)
	}
	if err := p.src.Read(p.prefix[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			return nil, p.truncated()
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(p.prefix[1:])
	if p.limit > 0 && length > p.limit {
		return nil, p.tooLarge(length)
	}
	p.left = length
	n := stream.PrefixLen + int(min(length, pieceSize-stream.PrefixLen))
	b := newPiece(n)
	copy(b, p.prefix[:])
	if n == stream.PrefixLen {
		return b, nil
	}
	return b, p.fill(b[stream.PrefixLen:])
}

// fill reads len(b) bytes of the present message.
func (p *pump) fill(b []byte) error {
	err := p.src.Read(b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return p.truncated()
	}
	p.left -= uint32(len(b))
	return err
}

func (p *pump) tooLarge(length uint32) error {
	return &stream.Failure{
		Reason: stream.MessageTooLarge, Code: stream.ResourceExhausted,
		Message: fmt.Sprintf("%s: a message of %d bytes exceeds the proxy's limit of %d bytes (limits.message)", p.direction.name, length, p.limit),
	}
}

func (p *pump) truncated() error {
	return &stream.Failure{
		Reason: p.direction.malformed, Code: stream.Internal,
		Message: fmt.Sprintf("%s ends inside a message", p.direction.name),
	}
}
