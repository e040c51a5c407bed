package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// ConnError ends a connection because its peer breaks the protocol or a limit
// (RFC 9113 section 5.4.1). The code goes to the peer in a GOAWAY frame.
type ConnError struct {
	Code   http2.ErrCode
	Reason string
}

func (e *ConnError) Error() string { return fmt.Sprintf("%v: %s", e.Code, e.Reason) }

func connErrorf(code http2.ErrCode, format string, args ...any) error {
	return &ConnError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// ResetError is how a stream ended that was cut off.
type ResetError struct {
	Code http2.ErrCode
	// Reason says what is wrong with what the peer sent, when it was this
	// side that reset the stream for it; "" when the peer reset it.
	Reason string
}

func (e *ResetError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the stream was reset with %v", e.Code)
	}
	return fmt.Sprintf("%v: %s", e.Code, e.Reason)
}

// LostError is how the streams of a connection end that is over.
type LostError struct {
	// Unprocessed is true when the peer has certainly not begun the stream:
	// it said so in a GOAWAY frame (RFC 9113 section 6.8).
	Unprocessed bool
	Cause       error
}

func (e *LostError) Error() string {
	if e.Unprocessed {
		return "the peer went away before it began the stream"
	}
	return fmt.Sprintf("the connection was lost: %v", e.Cause)
}

func (e *LostError) Unwrap() error { return e.Cause }

var (
	// ErrClosed is returned for a stream or connection that has ended.
	ErrClosed = errors.New("the connection has been closed")
	// ErrDraining is returned by Open on a connection that takes no new streams.
	ErrDraining = errors.New("the connection takes no new streams")
	// ErrFull is returned by Open while the peer allows no further stream.
	ErrFull = errors.New("the peer allows no more streams at a time")
	// ErrHeaderList is returned for header lists that the peer does not accept.
	ErrHeaderList = errors.New("the header list is longer than the peer accepts")

	errPingTimeout = errors.New("the peer does not answer pings")
)
