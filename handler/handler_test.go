package handler

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, c *client, b *backends, opts Options) *stream.Trailer {
	t.Helper()
	opts.Backends = b
	if opts.Resolver == nil {
		opts.Resolver = routes("one", "two", "three")
	}
	h := New(opts)
	h.Serve(c)
	require.NotNil(t, c.end, "the call must have ended")
	require.Zero(t, h.ActiveCalls())
	return c.end
}

func reason(t *stream.Trailer) stream.Reason {
	return stream.Reason(t.Metadata.Get(stream.ReasonKey))
}

func TestRelaysBothDirectionsUntouched(t *testing.T) {
	request := messages("a", "", strings.Repeat("long ", 20_000))
	response := messages(strings.Repeat("x", pieceSize-stream.PrefixLen), "", "y")
	for name, complete := range map[string]bool{"request there already": true, "request still coming": false} {
		t.Run(name, func(t *testing.T) {
			c, a := newClient(request, io.EOF), newAnswer(response, 7)
			c.complete = complete
			a.awaitRequest = true
			end := serve(t, c, &backends{answers: []*answer{a}}, Options{})
			require.Equal(t, request, a.received())
			require.Equal(t, response, c.got)
			require.Equal(t, stream.Code(7), end.Status.Code)
			require.Empty(t, reason(end))
			require.True(t, a.isHalfClosed())
			require.Positive(t, a.aborted, "the stream must be let go of")
		})
	}
}

func TestTrailersOnlyWritesNoHeader(t *testing.T) {
	c, a := newClient(nil, io.EOF), newAnswer(nil, 5)
	a.header = nil
	end := serve(t, c, &backends{answers: []*answer{a}}, Options{})
	require.Nil(t, c.header)
	require.Equal(t, stream.Code(5), end.Status.Code)
}

func TestBackendMayAnswerBeforeTheClientHasFinished(t *testing.T) {
	c, a := newClient(message("first"), nil), newAnswer(message("enough"), stream.OK)
	end := serve(t, c, &backends{answers: []*answer{a}}, Options{})
	require.Equal(t, stream.OK, end.Status.Code)
	require.Equal(t, message("enough"), c.got)
}

func TestRefusedCallsAreSentAgainElsewhere(t *testing.T) {
	request := messages("once", "only")
	refused, a := refusal(), newAnswer(message("done"), stream.OK)
	refused.awaitRequest = true
	c, b := newClient(request, io.EOF), &backends{}
	b.answers = []*answer{refused, nil, a}
	end := serve(t, c, b, Options{})
	require.Equal(t, stream.OK, end.Status.Code)
	require.Equal(t, request, a.received())
	require.True(t, a.isHalfClosed())
	require.Equal(t, []string{"one", "two", "three"}, b.opened)
	require.Positive(t, refused.aborted)
}

func TestRefusedCallsAreNotSentAgainFor(t *testing.T) {
	t.Run("ever", func(t *testing.T) {
		b := &backends{}
		for range 2 * tries.MaxMade {
			b.answers = append(b.answers, refusal())
		}
		end := serve(t, newClient(message("m"), io.EOF), b, Options{})
		require.Equal(t, stream.Unavailable, end.Status.Code)
		require.Equal(t, stream.BackendRefused, reason(end))
		require.Len(t, b.opened, tries.MaxMade)
	})
	t.Run("a request that has outgrown the replay limit", func(t *testing.T) {
		refused := refusal()
		refused.awaitRequest = true
		b := &backends{answers: []*answer{refused, newAnswer(nil, stream.OK)}}
		end := serve(t, newClient(message(strings.Repeat("x", replayLimit)), io.EOF), b, Options{})
		require.Equal(t, stream.BackendRefused, reason(end))
		require.Len(t, b.opened, 1)
	})
	t.Run("a backend that has begun", func(t *testing.T) {
		a := newAnswer(nil, stream.OK)
		a.failure = &stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable, Unprocessed: true}
		b := &backends{answers: []*answer{a, newAnswer(nil, stream.OK)}}
		end := serve(t, newClient(message("m"), io.EOF), b, Options{})
		require.Equal(t, stream.BackendDisconnected, reason(end))
		require.Len(t, b.opened, 1)
	})
}

func TestInstancesThatAreDownAreTriedOnceEach(t *testing.T) {
	b := &backends{answers: []*answer{nil, nil, nil, nil}}
	end := serve(t, newClient(message("m"), io.EOF), b, Options{})
	require.Equal(t, stream.Unavailable, end.Status.Code)
	require.Equal(t, stream.BackendUnreachable, reason(end))
	require.Equal(t, []string{"one", "two", "three"}, b.opened)
}

func TestInstancesKnownToBeDownComeLast(t *testing.T) {
	b := &backends{answers: []*answer{newAnswer(nil, stream.OK)}, down: []string{"one"}}
	end := serve(t, newClient(message("m"), io.EOF), b, Options{})
	require.Equal(t, stream.OK, end.Status.Code)
	require.Equal(t, []string{"two"}, b.opened, "there is one that may be well")

	b = &backends{answers: []*answer{refusal(), refusal(), newAnswer(nil, stream.OK)}, down: []string{"two"}}
	end = serve(t, newClient(message("m"), io.EOF), b, Options{})
	require.Equal(t, stream.OK, end.Status.Code)
	require.Equal(t, []string{"one", "three", "one"}, b.opened)

	b = &backends{answers: []*answer{newAnswer(nil, stream.OK)}, down: []string{"one", "two", "three"}}
	end = serve(t, newClient(message("m"), io.EOF), b, Options{})
	require.Equal(t, stream.OK, end.Status.Code, "the last word may be out of date")
	require.Len(t, b.opened, 1)
}

func TestMessageLimit(t *testing.T) {
	const limit = 10
	t.Run("request", func(t *testing.T) {
		a := newAnswer(nil, stream.OK)
		a.awaitRequest = true
		c := newClient(messages("0123456789", "0123456789x"), io.EOF)
		c.complete = false
		end := serve(t, c, &backends{answers: []*answer{a}}, Options{MaxMessage: limit})
		require.Equal(t, stream.ResourceExhausted, end.Status.Code)
		require.Equal(t, stream.MessageTooLarge, reason(end))
		require.Equal(t, message("0123456789"), a.received())
	})
	t.Run("request that is all there", func(t *testing.T) {
		b := &backends{}
		end := serve(t, newClient(messages("0123456789x"), io.EOF), b, Options{MaxMessage: limit})
		require.Equal(t, stream.MessageTooLarge, reason(end))
		require.Empty(t, b.opened, "no backend need know")
	})
	t.Run("response", func(t *testing.T) {
		c := newClient(message("m"), io.EOF)
		end := serve(t, c, &backends{answers: []*answer{newAnswer(messages("ok", "0123456789x"), stream.OK)}}, Options{MaxMessage: limit})
		require.Equal(t, stream.ResourceExhausted, end.Status.Code)
		require.Equal(t, stream.MessageTooLarge, reason(end))
		require.Equal(t, message("ok"), c.got)
	})
}

func TestTruncatedMessagesAreNeverOK(t *testing.T) {
	whole := message("hello")
	for cut := 1; cut < len(whole); cut++ {
		a := newAnswer(nil, stream.OK)
		a.awaitRequest = true
		end := serve(t, newClient(whole[:cut], io.EOF), &backends{answers: []*answer{a}}, Options{})
		require.Equal(t, stream.RequestMalformed, reason(end), "request cut after %d bytes", cut)

		end = serve(t, newClient(nil, io.EOF), &backends{answers: []*answer{newAnswer(whole[:cut], stream.OK)}}, Options{})
		require.Equal(t, stream.Internal, end.Status.Code, "response cut after %d bytes", cut)
		require.Equal(t, stream.BackendProtocol, reason(end))
	}
}

func TestNoRoute(t *testing.T) {
	end := serve(t, newClient(nil, io.EOF), &backends{}, Options{Resolver: noRoutes{}})
	require.Equal(t, stream.Unimplemented, end.Status.Code)
	require.Contains(t, end.Status.Message, "/test.Service/Method")
	require.Equal(t, stream.NoRoute, reason(end))
}

func TestClientCancelEndsTheCall(t *testing.T) {
	c, a := newClient(nil, nil), newAnswer(nil, stream.OK)
	a.awaitRequest = true
	c.cancel()
	end := serve(t, c, &backends{answers: []*answer{a}}, Options{})
	require.Equal(t, stream.Canceled, end.Status.Code)
}

func TestPanicEndsItsCallOnly(t *testing.T) {
	h := New(Options{Resolver: panicking{}, Backends: &backends{}})
	c := newClient(nil, io.EOF)
	h.Serve(c)
	require.Equal(t, stream.Internal, c.end.Status.Code)
	require.Equal(t, stream.ProxyInternal, reason(c.end))
	require.NotContains(t, c.end.Status.Message, "secret")
	require.Zero(t, h.ActiveCalls())
}

func TestShutdownEndsWhatStillRuns(t *testing.T) {
	a := newAnswer(nil, stream.OK)
	a.awaitRequest = true
	h := New(Options{Resolver: routes("one"), Backends: &backends{answers: []*answer{a}}})
	c, served := newClient(nil, nil), make(chan struct{})
	go func() { defer close(served); h.Serve(c) }()
	require.Eventually(t, func() bool { return h.ActiveCalls() == 1 }, safety, tick)

	over, cancel := context.WithCancel(context.Background())
	cancel()
	h.Shutdown(over)
	<-served
	require.Equal(t, stream.Unavailable, c.end.Status.Code)
	require.Equal(t, stream.Shutdown, reason(c.end))

	late := newClient(nil, io.EOF)
	h.Serve(late)
	require.Equal(t, stream.Shutdown, reason(late.end), "no call is taken any more")
}

// stalled is a client that has stopped reading.
type stalled struct {
	*client
	writing chan struct{}
}

func (s stalled) Write([]byte) error {
	close(s.writing)
	<-s.ctx.Done() // Finish ends it
	return s.ctx.Err()
}

func TestCallOfAClientThatDoesNotReadCanBeEnded(t *testing.T) {
	short := tableOf(&conf.Config{
		Clusters: map[string]*conf.Cluster{"c": {Instances: []string{"one"}}},
		Default:  &conf.Action{Cluster: "c", Timeout: conf.Duration(10 * time.Millisecond)},
	})
	for want, table := range map[stream.Reason]Resolver{stream.Shutdown: routes("one"), stream.RouteTimeout: short} {
		t.Run(string(want), func(t *testing.T) {
			c, a := stalled{newClient(nil, nil), make(chan struct{})}, newAnswer(messages("reply"), stream.OK)
			h := New(Options{Resolver: table, Backends: &backends{answers: []*answer{a}}})
			served := make(chan struct{})
			go func() { defer close(served); h.Serve(c) }()
			<-c.writing
			if want == stream.Shutdown {
				over, cancel := context.WithCancel(context.Background())
				cancel()
				h.Shutdown(over)
			}
			<-served
			require.Equal(t, want, reason(c.end))
		})
	}
}

func TestClientThatTakesNothingEndsTheCall(t *testing.T) {
	c := newClient(nil, io.EOF)
	c.writeErr = errors.New("gone")
	a := newAnswer(message("m"), stream.OK)
	serve(t, c, &backends{answers: []*answer{a}}, Options{})
	require.Positive(t, a.aborted)
}
