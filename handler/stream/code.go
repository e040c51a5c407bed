package stream

import "strconv"

// Code is a gRPC status code. The names and meanings are those of
// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md.
type Code uint32

// The status codes that the proxy itself answers with, or tells apart.
const (
	OK                Code = 0
	Canceled          Code = 1
	Unknown           Code = 2
	DeadlineExceeded  Code = 4
	PermissionDenied  Code = 7
	ResourceExhausted Code = 8
	Unimplemented     Code = 12
	Internal          Code = 13
	Unavailable       Code = 14
	DataLoss          Code = 15
	Unauthenticated   Code = 16
)

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String returns the code's name in the gRPC specification, or its number if
// the specification has none.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.FormatUint(uint64(c), 10)
}

// The codes of RST_STREAM (RFC 9113 section 7) that the gRPC specification has codes for.
const (
	resetRefusedStream      = 0x7
	resetCancel             = 0x8
	resetEnhanceYourCalm    = 0xb
	resetInadequateSecurity = 0xc
)

// CodeOfReset maps the code of an RST_STREAM as the gRPC specification does ("Errors").
func CodeOfReset(code uint32) Code {
	switch code {
	case resetCancel:
		return Canceled
	case resetEnhanceYourCalm:
		return ResourceExhausted
	case resetInadequateSecurity:
		return PermissionDenied
	case resetRefusedStream:
		return Unavailable
	default:
		return Internal
	}
}
