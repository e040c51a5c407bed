package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged is a net.Dialer's Control. It ends a TCP connection whose
// peer acknowledges nothing for goneAfter (RFC 5482); Linux would go on sending
// for a quarter of an hour.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(goneAfter.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
