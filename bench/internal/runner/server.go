package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/kitexproxy/kitexproxy/bench/internal/child"
	"github.com/kitexproxy/kitexproxy/bench/internal/load"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

const (
	// readyTime is how long a server may take until it has answered a call.
	readyTime = 10 * time.Second
	// tryTime is how long one call may take until it is tried again, on a connection of its own.
	tryTime = time.Second
)

// server is a child that answers calls at addr.
type server struct {
	*child.Child
	addr string
}

// try makes one call to addr, and says what is wrong with the answer.
type try func(ctx context.Context, addr string) error

// startServer starts a server on a free address and waits until it has answered a call.
func startServer(ctx context.Context, name string, call try, command func(addr string) ([]string, error)) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	argv, err := command(addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c, err := child.Start(name, nil, argv...)
	if err != nil {
		return nil, err
	}
	s := &server{Child: c, addr: addr}
	if err := s.waitReady(ctx, call); err != nil {
		s.stop(&err)
		return nil, err
	}
	return s, nil
}

// stop ends the server's processes; if they cannot be ended, that is added to err.
func (s *server) stop(err *error) { *err = errors.Join(*err, s.Stop()) }

// waitReady tries until a call has been answered, the server has ended or readyTime is over.
func (s *server) waitReady(ctx context.Context, call try) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	var last error
	for {
		if last = call(ctx, s.addr); last == nil {
			return s.Ended() // an answer may have come from somebody else who took the address
		}
		select {
		case <-s.Done():
			return s.Ended()
		case <-ctx.Done():
			return s.Explain(fmt.Errorf("not ready at %s after %v: %w", s.addr, readyTime, last))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tryCall makes one unary call on a connection of its own and checks the reply.
func tryCall(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	conn, err := wire.Dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	payload := wire.NewPayload(64)
	var reply wire.Message
	if err := conn.Invoke(ctx, wire.Unary, payload.Stamp(1), &reply, grpc.WaitForReady(true)); err != nil {
		return err
	}
	defer reply.Free()
	return payload.Check(reply.Data, 1)
}

// tryRequest makes one request of a scenario in HTTP on a connection of its own and checks the reply.
func tryRequest(s scenario.Scenario) try {
	return func(ctx context.Context, addr string) error {
		ctx, cancel := context.WithTimeout(ctx, tryTime)
		defer cancel()
		client := wire.NewHTTPClient(1)
		defer client.CloseIdleConnections()
		return load.ExchangeOf(s).Do(ctx, client, addr, 1)
	}
}
