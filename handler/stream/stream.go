// Package stream holds the contract between the relay and the transports
// that carry its calls: an inbound stream (the client's side of one call), an
// outbound stream (the backend's side) and the values that cross between
// them. It imports nothing but the standard library, so that a transport can
// be added without touching the relay, and the other way round.
//
// Message bytes are in gRPC's wire form throughout: a 5-byte prefix
// (compressed flag, big-endian length) and the payload, as specified in
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. A transport
// neither looks at them nor needs to see message boundaries.
package stream

import (
	"context"
	"net"
)

// PrefixLen is the length in bytes of the prefix before every gRPC message.
const PrefixLen = 5

// Inbound is the client's side of one call, as a server transport delivers it.
//
// Reads are made by one goroutine at a time, and so are writes; the two may be
// different goroutines. Context and Request may be called from anywhere.
type Inbound interface {
	// Context ends when the client cancels, its deadline passes, its
	// connection is lost, or Finish is called. Everything done for the call
	// descends from it.
	Context() context.Context

	// Request describes the call. The value is read-only.
	Request() *Request

	// Peer is the client's address.
	Peer() net.Addr

	// Read fills p from the request, blocking until it is full. It returns
	// io.EOF when the client has half-closed and nothing is left,
	// io.ErrUnexpectedEOF when the request ends inside p, and any other
	// error when the call is over (see Context).
	Read(p []byte) error

	// Ready reports whether a Read of n bytes returns at once. It is for the
	// goroutine that reads.
	Ready(n int) bool

	// Complete reports whether the whole request has already arrived, so
	// that no Read will block. It may turn from false to true, never back.
	Complete() bool

	// WriteHeader sends the response headers at once. It may be called once,
	// before the first Write. A call without it is answered trailers-only
	// if no Write happens either.
	WriteHeader(h *Header) error

	// Write queues b, a part of the response, and blocks while too much is
	// queued. From then on neither side may change b.
	Write(b []byte) error

	// Flush has what has been queued sent. Until then a transport may wait for
	// more; whoever writes flushes before it waits for anything else. Finish
	// flushes by itself.
	Flush()

	// Finish ends the call with the backend's or a local status. Only the
	// first call has an effect. It may be made from anywhere, at any time,
	// and makes a Read or Write that waits for the client return.
	Finish(t *Trailer)
}

// Outbound is the backend's side of one call, as a client transport opened it
// with a Request.
//
// Reads (Header, Read, Trailer) are made by one goroutine at a time, and so
// are writes; the two may be different goroutines. Abort may be called from
// anywhere.
//
// Errors are *Failure unless stated otherwise.
type Outbound interface {
	// Header blocks until the response headers or the end of the call have
	// come, for which it flushes. It returns nil without an error when there are no headers: the
	// answer is trailers-only, Read returns io.EOF and Trailer is set.
	Header() (*Header, error)

	// Read fills p from the response, blocking until it is full. It returns
	// io.EOF when the backend has ended the call with trailers of its own.
	Read(p []byte) error

	// Ready reports whether a Read of n bytes returns at once; see Inbound.
	Ready(n int) bool

	// Write queues b, a part of the request, and blocks while too much is
	// queued. From then on neither side may change b. The last write says
	// that the request is complete (END_STREAM); its b may be empty. An
	// error means only that the request is no longer wanted; why is Read's
	// to say.
	Write(b []byte, last bool) error

	// Flush has what has been queued sent, the request's head included; see
	// Inbound.
	Flush()

	// Trailer returns how the backend ended the call. It is valid once Read
	// has returned io.EOF.
	Trailer() *Trailer

	// Abort resets the stream unless it has ended, and lets go of it. Every
	// stream opened must be aborted in the end, ended or not.
	Abort()
}

// Request is what a call's first header block says. The deadline is not in
// it: it travels as that of the context.
type Request struct {
	// Method is the full method name, "/package.Service/Method".
	Method string
	// Authority is the :authority the client asked for.
	Authority string
	// ContentType is the request's, "application/grpc" and what may follow.
	ContentType string
	// Encoding is grpc-encoding, the compression of the request's messages;
	// "" when absent.
	Encoding string
	// AcceptEncoding is grpc-accept-encoding as it came; "" when absent.
	AcceptEncoding string
	// Metadata is everything else.
	Metadata Metadata
}

// Header is the response's first header block.
type Header struct {
	// ContentType is the response's, "" to answer in the request's.
	ContentType string
	// Encoding is grpc-encoding, the compression of the response's
	// messages; "" when absent.
	Encoding string
	// AcceptEncoding is grpc-accept-encoding as it came; "" when absent.
	AcceptEncoding string
	// Metadata is everything else.
	Metadata Metadata
}

// Trailer is how a call ended.
type Trailer struct {
	Status   Status
	Metadata Metadata
	// ContentType is that of a trailers-only response, "" to answer in the
	// request's.
	ContentType string
	// Reset is the RST_STREAM code with which the backend ended the call, if
	// it did. A transport that can passes it on instead of the rest.
	Reset *uint32
}

// Metadata is an ordered list of custom metadata. Keys are lower-case; values
// are as they cross the wire: those of keys ending in "-bin" in base64. Keys that the protocol
// itself uses (pseudo-headers, content-type, te, grpc-timeout, grpc-encoding,
// grpc-status and the like) are never in it.
type Metadata []Field

// Field is one metadata entry.
type Field struct {
	Key, Value string
}

// Pair returns key and value.
func (f *Field) Pair() (key, value string) { return f.Key, f.Value }

// Get returns the first value of key, "" when there is none.
func (m Metadata) Get(key string) string {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value
		}
	}
	return ""
}

// Status is a gRPC status as it crosses the wire. Code may lie outside the
// range that gRPC defines (0 to 16); it is passed on as it came.
type Status struct {
	Code    Code
	Message string
	// Details is the serialised google.rpc.Status of
	// grpc-status-details-bin, nil when there is none.
	Details []byte
}
