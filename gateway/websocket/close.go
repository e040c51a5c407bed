package websocket

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// refusal closes a connection for what its client has sent.
type refusal struct {
	code   websocket.StatusCode
	reason string
}

// Error implements error.
func (r *refusal) Error() string { return r.reason }

// finish tells the client of the call's end, nil for OK, and closes the connection.
// If the call had to end, the cause of its context knows better why.
func (s *session) finish(err error) {
	if s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	s.cancel(errGone) // who waits for the backend comes back
	var refused *refusal
	switch {
	case err == errGone:
		_ = s.conn.CloseNow()
	case errors.As(err, &refused):
		s.close(refused.code, refused.reason)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // of who serves
		s.close(websocket.StatusGoingAway, "the server ends the call")
	default:
		s.finishCall(err)
	}
}

// finishCall tells the client how the backend, or its own request, has ended the call.
func (s *session) finishCall(err error) {
	if err != nil {
		if text := s.failure(err); text != nil && s.write(text) != nil {
			return
		}
	}
	s.close(closeCode(status.Code(err)), reason(err))
}

// close closes the connection, for which it waits for the client. The deadline is for
// one that sends on and on.
func (s *session) close(code websocket.StatusCode, reason string) {
	_ = s.net.SetDeadline(time.Now().Add(s.opts.CloseTimeout))
	_ = s.conn.Close(code, reason) // whoever may have gone
}

// closeCode returns the WebSocket's equivalent of a gRPC code.
func closeCode(code codes.Code) websocket.StatusCode {
	switch code {
	case codes.OK:
		return websocket.StatusNormalClosure
	case codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated:
		return websocket.StatusPolicyViolation
	case codes.ResourceExhausted, codes.Unavailable:
		return websocket.StatusTryAgainLater
	default:
		return websocket.StatusInternalError
	}
}

// maxReason is how many bytes the reason of a close frame may have (RFC 6455
// section 5.5).
const maxReason = 123

// reason returns what fits of an error's status, "" for OK.
func reason(err error) string {
	if err == nil {
		return ""
	}
	st := status.Convert(err)
	text := strings.ToValidUTF8("gRPC code "+stream.Code(st.Code()).String()+": "+st.Message(), "\uFFFD")
	if len(text) <= maxReason {
		return text
	}
	end := maxReason
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
