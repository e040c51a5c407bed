package handlertest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// deadline: the client's deadline is the backend's, and the end of a call for
// which it passes; without one nothing ends.
func (s *suite) deadline(t *testing.T) {
	s.each(t, []testCase{
		{"Remaining", s.deadlineRemaining},
		{"RemainingInEveryUnit", s.deadlineUnits},
		{"Absent", s.deadlineAbsent},
		{"Huge", s.deadlineHuge},
		{"Passes", s.deadlinePasses},
		{"PassesOnTheWire", s.deadlinePassesOnTheWire},
		{"IdleStreamStays", s.idleStream},
	})
}

// deadlineRemaining: the backend has what is left, never more.
func (s *suite) deadlineRemaining(t *testing.T) {
	const timeout = 8 * time.Second
	ctx, cancel := context.WithTimeout(s.context(t), timeout)
	defer cancel()
	seen := make(chan time.Duration, 1)
	cc := s.connect(t, func(stream grpc.ServerStream) error {
		deadline, ok := stream.Context().Deadline()
		if !ok {
			seen <- -1
			return nil
		}
		seen <- time.Until(deadline)
		return nil
	})
	stream := open(ctx, t, cc, bidi)
	require.NoError(t, stream.CloseSend())
	remaining := await(ctx, t, seen, "the call")
	assert.Positive(t, remaining, "no deadline at the backend")
	assert.LessOrEqual(t, remaining, timeout)
	expectEnd(t, stream)
}

// timeoutUnits are the units of grpc-timeout.
var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// parseTimeout reads a grpc-timeout, with the 1 to 8 digits that the
// specification allows.
func parseTimeout(t *testing.T, value string) time.Duration {
	t.Helper()
	require.Regexp(t, `^[0-9]{1,8}[HMSmun]$`, value, "grpc-timeout")
	n, err := strconv.Atoi(value[:len(value)-1])
	require.NoError(t, err)
	return time.Duration(n) * timeoutUnits[value[len(value)-1]]
}

// deadlineUnits: a timeout may be given in any unit, and be passed on in any.
// Nanoseconds are left out: eight digits of them are too soon over to count on
// that the call arrives.
func (s *suite) deadlineUnits(t *testing.T) {
	for _, sent := range []string{"2H", "90M", "30S", "20000m", "20000000u", "00000030S"} {
		got := s.rawExchange(t, requestFields(rawh2.F("grpc-timeout", sent)), emptyMessage, answerOK)
		seen := got.Request.Values("grpc-timeout")
		require.Len(t, seen, 1, "grpc-timeout for %s", sent)
		remaining := parseTimeout(t, seen[0])
		assert.Positive(t, remaining, "%s became %s", sent, seen[0])
		assert.LessOrEqual(t, remaining, parseTimeout(t, sent), "%s became %s", sent, seen[0])
		assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"))
	}
}

func (s *suite) deadlineAbsent(t *testing.T) {
	got := s.rawExchange(t, requestFields(), emptyMessage, answerOK)
	assert.Empty(t, got.Request.Values("grpc-timeout"))
}

// deadlineHuge: the largest timeout that can be written is longer than Go can
// count in nanoseconds. The call has practically no deadline; what must not
// happen is that it overflows into one that has passed.
func (s *suite) deadlineHuge(t *testing.T) {
	got := s.rawExchange(t, requestFields(rawh2.F("grpc-timeout", "99999999H")), emptyMessage, answerOK)
	assert.Equal(t, "0", got.Reply.Trailer.Get("grpc-status"), got.Reply.Trailer)
	for _, seen := range got.Request.Values("grpc-timeout") {
		require.Regexp(t, `^[0-9]{1,8}[HMSmun]$`, seen)
		assert.NotRegexp(t, `^0+[HMSmun]$`, seen, "no time is left")
	}
}

// shortTimeouts are tried in turn: should the machine be so busy that a call
// has not reached the backend before its deadline, the next may.
var shortTimeouts = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// hang is the script that says when it has begun and when its context ended.
func hang(begun chan<- struct{}, ended chan<- error) script {
	return func(stream grpc.ServerStream) error {
		begun <- struct{}{}
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// deadlinePasses: client and backend both learn it.
func (s *suite) deadlinePasses(t *testing.T) {
	for _, kind := range callKinds {
		s.run(t, kind.name, func(t *testing.T) {
			safe := s.context(t)
			begun, ended := make(chan struct{}, len(shortTimeouts)), make(chan error, len(shortTimeouts))
			cc := s.connect(t, hang(begun, ended))
			for _, timeout := range shortTimeouts {
				ctx, cancel := context.WithTimeout(safe, timeout)
				defer cancel()
				stream, err := cc.NewStream(ctx, kind.desc, method)
				if err == nil {
					_ = stream.SendMsg([]byte("request")) // what failed, RecvMsg says
					_, err = receive(stream)
				}
				assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
				if len(begun) > 0 {
					await(safe, t, ended, "the end of the backend's context")
					return
				}
			}
			t.Fatal("no call has reached the backend")
		})
	}
}

// deadlinePassesOnTheWire: a client that leaves it to the server to keep the
// time is not left waiting. The specification does not say how it is told:
// grpc-go's server resets the stream with CANCEL, others answer with
// DEADLINE_EXCEEDED. A proxy may do either, but nothing else.
func (s *suite) deadlinePassesOnTheWire(t *testing.T) {
	ctx := s.context(t)
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	addr := s.through(t, backend(t, hang(begun, ended)))
	stream := rawOpen(t, rawDial(ctx, t, addr), requestFields(rawh2.F("grpc-timeout", "300m")), true)
	reply, err := stream.AwaitReply(ctx)
	require.NoError(t, err)
	if reply.Reset != nil {
		assert.Equal(t, http2.ErrCodeCancel, reply.Reset.Code)
	} else {
		assert.Equal(t, "4", reply.Trailer.Get("grpc-status"), reply.Trailer)
	}
	if len(begun) > 0 { // unless the machine was too busy for the call to arrive
		await(ctx, t, ended, "the end of the backend's context")
	}
}
