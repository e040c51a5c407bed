package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// ErrNoHTTP2 is what Dials return for a backend that ends a new connection.
var ErrNoHTTP2 = errors.New("the backend closed the connection, or does not speak HTTP/2 without TLS")

// A backend host that is gone without a word is found out about within
// goneAfter, by keepalive when nothing is under way, else by the bytes that
// are not acknowledged.
const goneAfter = 20 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: goneAfter / 2, Interval: goneAfter / 4, Count: 2}

// DialNet opens the network connection for a Dial. address is "host:port" or
// "unix:///path/to/socket".
func DialNet(ctx context.Context, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, address = "unix", path
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnacknowledged}
	nc, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(err)
	}
	return nc, nil
}

// dialError leaves out of a dial error what the caller says anyway.
func dialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys // it names what failed, which is "connect" as a rule
	}
	return fmt.Errorf("connect: %w", err)
}
