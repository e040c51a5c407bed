package websocket

import (
	"context"
	"errors"
	"net"
	"time"
)

// keepAlive notices that the client is not there any more although the connection
// is, and that the connection is not while nothing is read from it.
func (s *session) keepAlive() {
	if s.opts.PingInterval < 0 {
		return
	}
	again := time.NewTicker(s.opts.PingInterval)
	defer again.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-again.C:
			if s.isGone() {
				s.cancel(errGone)
				_ = s.net.Close() // who reads or writes comes back
				return
			}
		}
	}
}

// isGone sends a ping. A client that does not answer in time is there nevertheless
// if anything else has moved since, or if its answer is not read because the backend
// does not take what it has sent before.
func (s *session) isGone() bool {
	// The context is not the call's, with which the connection could be lost.
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.PingTimeout)
	defer cancel()
	before := s.moves.Load()
	err := s.conn.Ping(ctx)
	switch {
	case err == nil, s.ctx.Err() != nil, errors.Is(err, net.ErrClosed): // which the reader knows
		return false
	case errors.Is(err, context.DeadlineExceeded):
		return before%2 == 0 && s.moves.Load() == before
	default:
		return true
	}
}
