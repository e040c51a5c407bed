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

// A backend host that is gone without a word is found out about within
// goneAfter, by keepalive when nothing is under way, else by the bytes that
// are not acknowledged.
const goneAfter = 20 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: goneAfter / 2, Interval: goneAfter / 4, Count: 2}

// DialNet opens the network connection for a Dial, TLS included.
func DialNet(ctx context.Context, to Peer) (net.Conn, error) {
	network, address := networkOf(to.Address)
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnacknowledged}
	nc, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(err)
	}
	if to.TLS == nil {
		return nc, nil
	}
	return handshake(ctx, nc, to)
}

// networkOf takes an address apart as package net wants it.
func networkOf(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return "unix", path
	}
	return "tcp", address
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
