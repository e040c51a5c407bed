package handler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// linked returns a handler with links around the calls of all routes.
func linked(b *backends, links ...intercept.Link) *Handler {
	return New(Options{
		Resolver: routes("i"), Backends: b, Logger: slog.New(slog.DiscardHandler),
		Links: func(*resolver.Target) []intercept.Link { return links },
	})
}

func interceptor(f intercept.Interceptor) intercept.Link {
	return intercept.Link{Name: "test", Interceptor: f}
}

// counting is an observer that counts the ends of calls.
type counting struct {
	mu   sync.Mutex
	ends []stream.Code
}

func (*counting) Begin(*intercept.Call) { /* nothing to count */ }
func (o *counting) End(c *intercept.Call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ends = append(o.ends, c.Outcome().Status.Code)
}

// observed has h serve in as a call that is observed.
func observed(h *Handler, in *client) *counting {
	o := &counting{}
	c := intercept.Begin(intercept.NewObservers(o), intercept.Info{Request: in.Request(), Logger: slog.New(slog.DiscardHandler)})
	h.Serve(intercept.Watch(in, c))
	return o
}

// An interceptor that does not care for its context keeps no process from ending.
func TestShutdownLeavesBehindWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newClient(nil, nil)
		held, release := make(chan struct{}), make(chan struct{})
		h := linked(&backends{}, interceptor(func(context.Context, *intercept.Call, intercept.Next) error {
			close(held)
			<-release
			return nil
		}))
		var served sync.WaitGroup
		served.Go(func() { h.Serve(in) })
		<-held
		now, cancel := context.WithCancel(t.Context())
		cancel()
		h.Shutdown(now)
		require.Equal(t, 1, h.ActiveCalls())
		close(release)
		served.Wait()
		require.Zero(t, h.ActiveCalls())
	})
}

// Links of a route may have come with a reload: the call is one that nothing has been
// around until then.
func TestLinksOfRoutes(t *testing.T) {
	in, out := newClient(messages("request"), io.EOF), newAnswer(messages("response"), stream.DataLoss)
	var seen []string
	h := linked(&backends{answers: []*answer{out}}, intercept.Link{Guard: func(c *intercept.Call) error {
		seen = append(seen, c.Cluster())
		return c.AddResponseHeader("x-guarded", "yes")
	}}, interceptor(func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
		err := next(ctx)
		require.Equal(t, stream.DataLoss, intercept.TrailerOf(err).Status.Code)
		require.Equal(t, intercept.Count{Messages: 1, Bytes: 12}, c.Received())
		require.Equal(t, 1, c.Attempts())
		return c.Trailer().Set("x-end", "seen")
	}))
	h.Serve(in)
	require.Equal(t, []string{"c"}, seen)
	require.Equal(t, stream.OK, in.end.Status.Code)
	require.Equal(t, "seen", in.end.Metadata.Get("x-end"))
	require.Equal(t, "yes", in.header.Metadata.Get("x-guarded"))
	require.Equal(t, messages("response"), in.got)
	require.Zero(t, h.ActiveCalls())
}

func TestLinksOfRoutesRefuse(t *testing.T) {
	refusal := intercept.Refuse(stream.Forbidden, stream.PermissionDenied, "no")
	for name, link := range map[string]intercept.Link{
		"guard":       {Guard: func(*intercept.Call) error { return refusal }},
		"interceptor": interceptor(func(context.Context, *intercept.Call, intercept.Next) error { return refusal }),
	} {
		t.Run(name, func(t *testing.T) {
			in, b := newClient(messages("request"), io.EOF), &backends{}
			o := observed(linked(b, link), in)
			require.Equal(t, string(stream.Forbidden), in.end.Metadata.Get(stream.ReasonKey))
			require.Empty(t, b.opened)
			require.Equal(t, []stream.Code{stream.PermissionDenied}, o.ends)
		})
	}
}

// The end of the process ends calls that a link holds, at any time, once.
func TestShutdownEndsCallsThatLinksHold(t *testing.T) {
	for name, hold := range map[string]func(held func()) intercept.Interceptor{
		"before next": func(held func()) intercept.Interceptor {
			return func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
				held()
				<-ctx.Done()
				return next(ctx)
			}
		},
		"in a next": func(held func()) intercept.Interceptor {
			return func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
				held()
				return next(ctx)
			}
		},
		"in a next that it does not wait for": func(held func()) intercept.Interceptor {
			return func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
				go func() { _ = next(ctx) }() // ends with the call
				held()
				<-ctx.Done()
				return ctx.Err()
			}
		},
		"in a next with a context of its own": func(held func()) intercept.Interceptor {
			return func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
				held()
				return next(context.WithoutCancel(ctx))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, out := newClient(nil, nil), newAnswer(nil, stream.OK)
			out.awaitRequest = true
			held := make(chan struct{})
			h := linked(&backends{answers: []*answer{out}}, interceptor(hold(func() { close(held) })))
			var o *counting
			var served sync.WaitGroup
			served.Go(func() { o = observed(h, in) })
			<-held
			now, cancel := context.WithCancel(t.Context())
			cancel()
			h.Shutdown(now)
			served.Wait()
			require.Len(t, o.ends, 1)
			require.NotEqual(t, stream.OK, in.end.Status.Code)
			require.Zero(t, h.ActiveCalls())
		})
	}
}

// A client that goes away ends calls whose links wait for the backend.
func TestClientsThatGoAwayEndCallsWithLinks(t *testing.T) {
	in, out := newClient(nil, nil), newAnswer(nil, stream.OK)
	out.awaitRequest = true
	var told error
	h := linked(&backends{answers: []*answer{out}}, interceptor(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
		go in.cancel()
		told = next(ctx)
		return told
	}))
	o := observed(h, in)
	require.Equal(t, stream.Canceled, intercept.TrailerOf(told).Status.Code)
	require.Equal(t, []stream.Code{stream.Canceled}, o.ends)
}

// A panic behind links ends the call for them as an error does.
func TestPanicsBehindLinks(t *testing.T) {
	in := newClient(messages("request"), io.EOF)
	var told error
	h := linked(nil, interceptor(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
		told = next(ctx)
		return errors.New("instead")
	}))
	h.opts.Backends = nil // opening a stream panics
	o := observed(h, in)
	require.Equal(t, stream.Internal, intercept.TrailerOf(told).Status.Code)
	require.Equal(t, "instead", in.end.Status.Message)
	require.Equal(t, []stream.Code{stream.Unknown}, o.ends)
}
