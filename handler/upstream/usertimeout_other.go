//go:build !linux

package upstream

import "syscall"

// limitUnacknowledged does nothing where the option is not known.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
