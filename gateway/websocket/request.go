package websocket

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// requests sends what the client says to the backend, up to the end of the call or
// of the connection.
func (s *session) requests() {
	defer s.recoverPanic()
	halfClosed, begun := false, false
	for {
		// The context is not the call's, with which the connection would be lost.
		typ, data, err := s.conn.Read(context.Background())
		s.moves.Add(2)
		switch {
		case err != nil:
			s.readFailed(err)
			return
		case s.ctx.Err() != nil:
			return
		case typ != websocket.MessageText:
			s.cancel(&refusal{websocket.StatusUnsupportedData, "messages are JSON, in text frames"})
			return
		case len(data) == 0 && s.call.ClientStreams:
			halfClosed = true
			_ = s.stream.CloseSend() // an error would be RecvMsg's to tell
			continue
		case halfClosed || begun && !s.call.ClientStreams:
			s.cancel(status.Error(codes.InvalidArgument, "a message behind the half-close: the request is complete"))
			return
		}
		begun = true
		if err := s.request(data); err != nil {
			s.cancel(err)
			return
		}
	}
}

// request sends one message. That the call has ended is no error: RecvMsg tells of
// it.
func (s *session) request(data []byte) error {
	m := s.call.NewRequest()
	if err := s.call.Codec.Unmarshal(data, m); err != nil {
		return status.Errorf(codes.InvalidArgument, "the message is no %s in JSON: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if s.call.Prepare != nil {
		if err := s.call.Prepare(m); err != nil {
			return invalid(err)
		}
	}
	s.moves.Add(1)
	defer s.moves.Add(1)
	if s.stream.SendMsg(m) == nil && !s.call.ClientStreams {
		_ = s.stream.CloseSend()
	}
	return nil
}

// invalid returns err with a gRPC status.
func invalid(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// readFailed ends the call, or only its request, of a client that nothing more
// comes from.
func (s *session) readFailed(err error) {
	switch code := websocket.CloseStatus(err); {
	case errors.Is(err, websocket.ErrMessageTooBig):
		s.cancel(&refusal{websocket.StatusMessageTooBig, fmt.Sprintf("a message is longer than %d bytes", s.opts.ReadLimit)})
	case s.call.ClientStreams && (code == websocket.StatusNormalClosure || code == websocket.StatusNoStatusRcvd):
		_ = s.stream.CloseSend()
		s.linger()
	default:
		s.cancel(errGone)
	}
}

// linger waits for the end of the call of a client that has gone, for a while.
func (s *session) linger() {
	enough := time.NewTimer(s.opts.LingerTimeout)
	defer enough.Stop()
	select {
	case <-enough.C:
		s.cancel(errGone)
	case <-s.ctx.Done():
	}
}

// recoverPanic ends the call that panicked, and nothing else.
func (s *session) recoverPanic() {
	if p := recover(); p != nil {
		s.opts.Logger.Error("a WebSocket panicked", "panic", p, "stack", string(debug.Stack()))
		s.cancel(status.Error(codes.Internal, "internal error"))
	}
}
