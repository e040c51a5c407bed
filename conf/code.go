package conf

import "slices"

// Code is the name of a gRPC status code as the specification writes it:
// "PERMISSION_DENIED".
type Code string

// codeNames are the names of the codes 1 to 16:
// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md. OK, which is 0,
// ends no call early.
var codeNames = []string{
	"CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// Number returns the code as it crosses the wire, 1 to 16; 0 for one that a valid
// Config does not have.
func (c Code) Number() uint32 {
	return uint32(slices.Index(codeNames, string(c)) + 1)
}

// code checks the code of a rejection.
func (v *validator) code(path string, c Code) {
	switch {
	case v.isBroken(path) || c.Number() != 0:
	case c == "OK":
		v.badValue(path, "OK", "is how a call succeeds", "codes: "+enumerate(codeNames))
	default:
		v.choice(path, string(c), "is not the name of a gRPC status code", "codes", codeNames)
	}
}
