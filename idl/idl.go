// Package idl has the sources of the demo service's types, for programs that
// need them where the files are not.
package idl

import _ "embed" // for Echo

// Echo is echo.proto.
//
//go:embed echo.proto
var Echo []byte
