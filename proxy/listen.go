package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/kitexproxy/kitexproxy/conf"
)

// The fixes of an address that is in use: the flag and the keys that say another.
const (
	grpcListeners = "--listen, or listeners in the file"
	httpListeners = "--http-listen, or http.listeners in the file"
	adminAddress  = "--admin, or admin.address in the file"
)

// listen binds an address. fix is how people choose another one.
func listen(address, fix string) (net.Listener, error) {
	network, rest := conf.SplitAddress(address)
	if network == "unix" {
		if err := removeStaleSocket(rest, fix); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen(network, rest)
	return ln, listenError(address, fix, err)
}

func listenError(address, fix string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: the address is in use; stop the process that uses it, or choose another address (%s)", address, fix)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: permission denied; choose a port above 1023 or a path that this user may write to", address)
	default:
		return fmt.Errorf("cannot listen on %s: %w", address, err)
	}
}

// removeStaleSocket removes a socket file that no process listens on any more.
func removeStaleSocket(path, fix string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // absent, or net.Listen will say what is wrong
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on unix://%s: a file that is not a socket is there; remove it or choose another path", path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return listenError("unix://"+path, fix, syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path) // what a process that was killed leaves behind
	default: // busy, of another kind, or not ours to know
		return listenError("unix://"+path, fix, err)
	}
}
