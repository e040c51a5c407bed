package intercept

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestEndsOfInterceptedCalls(t *testing.T) {
	passOn := func(ctx context.Context, _ *Call, next Next) error { return next(ctx) }
	after := func(err error) Interceptor {
		return func(ctx context.Context, _ *Call, next Next) error {
			_ = next(ctx)
			return err
		}
	}
	for name, test := range map[string]struct {
		link     Interceptor
		backend  *stream.Trailer
		code     stream.Code
		message  string
		metadata stream.Metadata
	}{
		"left as it is": {passOn, lost(), stream.DataLoss, "lost", ok().Metadata},
		"left OK":       {passOn, ok(), stream.OK, "", ok().Metadata},
		"ended before": {
			func(context.Context, *Call, Next) error { return status.Error(codes.NotFound, "none") },
			nil, 5, "none",
			stream.Metadata{{Key: stream.ReasonKey, Value: "rejected"}},
		},
		"ended well before": {func(context.Context, *Call, Next) error { return nil }, nil, stream.OK, "", nil},
		"replaced": {
			after(status.Error(codes.NotFound, "none")), lost(), 5, "none",
			append(ok().Metadata, stream.Field{Key: stream.ReasonKey, Value: "rejected"}),
		},
		"an error for OK": {
			after(errStop), ok(), stream.Unknown, "stop", append(ok().Metadata, stream.Field{Key: stream.ReasonKey, Value: "rejected"}),
		},
		"nil for an error": {after(nil), lost(), stream.OK, "", ok().Metadata},
		"nil for a local reply": {
			after(nil), (&stream.Failure{Reason: stream.NoRoute, Code: stream.Unimplemented}).Trailer(), stream.OK, "", stream.Metadata{},
		},
		"wrapped": {func(ctx context.Context, _ *Call, next Next) error {
			return fmt.Errorf("around: %w", next(ctx))
		}, lost(), stream.DataLoss, "around: rpc error: code = DataLoss desc = lost", append(ok().Metadata, stream.Field{Key: stream.ReasonKey, Value: "rejected"})},
		"panic before": {
			func(context.Context, *Call, Next) error { panic("secret") },
			nil, stream.Internal, method + ": internal error",
			stream.Metadata{{Key: stream.ReasonKey, Value: "internal"}},
		},
		"panic after": {func(ctx context.Context, _ *Call, next Next) error {
			_ = next(ctx)
			panic("secret")
		}, lost(), stream.Internal, method + ": internal error", append(ok().Metadata, stream.Field{Key: stream.ReasonKey, Value: "internal"})},
	} {
		t.Run(name, func(t *testing.T) {
			end := carried(t, interceptors(test.link), func(in stream.Inbound) {
				require.NotNil(t, test.backend, "carried")
				in.Finish(test.backend)
			})
			require.Equal(t, test.code, end.Status.Code)
			require.Equal(t, test.message, end.Status.Message)
			require.Equal(t, test.metadata, end.Metadata)
		})
	}
}

// Tests that fail with FailNow do it, where they are called by a server.
func TestInterceptorsThatExitEndTheirCalls(t *testing.T) {
	for name, goOn := range map[string]bool{"before next": false, "behind it": true} {
		t.Run(name, func(t *testing.T) {
			in, over := newClient(t), make(chan struct{})
			go func() { // ends with its interceptor
				defer close(over)
				carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
					if goOn {
						_ = next(ctx)
					}
					runtime.Goexit()
					return nil
				}), ending(lost()))
			}()
			<-over
			end := in.ended(t)
			require.Equal(t, stream.Internal, end.Status.Code)
			require.Equal(t, "an interceptor has ended its goroutine", end.Status.Message)
		})
	}
}

// A backend's RST_STREAM stays one if nobody objects.
func TestResetsPassInterceptors(t *testing.T) {
	code := uint32(8)
	reset := (&stream.Failure{Code: stream.Canceled, Reset: &code}).Trailer()
	require.Equal(t, &code, carried(t, interceptors(Chain()), ending(reset)).Reset)
	end := carried(t, interceptors(func(ctx context.Context, _ *Call, next Next) error {
		_ = next(ctx)
		return errStop
	}), ending(reset))
	require.Nil(t, end.Reset)
}

func TestInterceptorsSeeTheStatus(t *testing.T) {
	carried(t, interceptors(func(ctx context.Context, c *Call, next Next) error {
		require.ErrorContains(t, c.Trailer().Set("x-early", "1"), "sent already", "there is none yet")
		err := next(ctx)
		require.Equal(t, codes.DataLoss, status.Code(err))
		require.Equal(t, "lost", status.Convert(err).Message())
		require.Equal(t, "backend", c.Trailer().Get("from"))
		return err
	}), ending(lost()))
}

func TestTrailersAreChanged(t *testing.T) {
	backend := lost()
	var kept *Call
	end := carried(t, interceptors(func(ctx context.Context, c *Call, next Next) error {
		kept = c
		err := next(ctx)
		require.NoError(t, c.Trailer().Set("from", "outside"))
		return err
	}, func(ctx context.Context, c *Call, next Next) error {
		err := next(ctx)
		require.NoError(t, c.Trailer().Add("more", "inside"))
		return err
	}), ending(backend))
	require.Equal(t, stream.Metadata{{Key: "more", Value: "inside"}, {Key: "from", Value: "outside"}}, end.Metadata)
	require.Equal(t, lost(), backend, "which is the backend's")
	require.ErrorContains(t, kept.Trailer().Set("x-late", "1"), "sent already")
}

// TestHeadersAreChanged by links on two levels: what the outer relay is asked stays as
// it was.
func TestHeadersAreChanged(t *testing.T) {
	for name, level := range map[string]func(Guard) []Link{
		"guards":       func(g Guard) []Link { return []Link{{Guard: g}} },
		"interceptors": func(g Guard) []Link { return interceptors(g.AsInterceptor()) },
	} {
		t.Run(name, func(t *testing.T) {
			in := newClient(t)
			c := begin(in)
			set := func(value string) []Link { return level(func(c *Call) error { return c.Header().Set("who", value) }) }
			Carry(Watch(in, c), c, set("outer"), func(outer stream.Inbound) {
				Carry(outer, c, set("inner"), func(inner stream.Inbound) {
					require.Equal(t, stream.Metadata{{Key: "who", Value: "inner"}}, inner.Request().Metadata)
					inner.Finish(ok())
				})
				require.Equal(t, stream.Metadata{{Key: "who", Value: "outer"}}, outer.Request().Metadata)
			})
			require.Equal(t, ok(), in.ended(t))
			require.Equal(t, "me", c.Incoming().Get("who"))
		})
	}
}

// TestRelaysThatEndTwice: aborts and the end of who is aborted. Interceptors are told
// of the first, and nothing passes them by.
func TestRelaysThatEndTwice(t *testing.T) {
	in := newClient(t)
	second := make(chan struct{})
	carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
		require.Equal(t, codes.DataLoss, status.Code(next(ctx)))
		<-second
		require.NoError(t, ctx.Err(), "nobody has ended it for the client")
		return errStop
	}), func(in stream.Inbound) {
		in.Finish(lost())
		in.Finish(ok())
		in.Finish(ok())
		close(second)
	})
	require.Equal(t, errStop.Error(), in.ended(t).Status.Message)
}

// TestCallsEndedFromElsewhere, as the end of the process does it.
func TestCallsEndedFromElsewhere(t *testing.T) {
	t.Run("before next", func(t *testing.T) {
		in := newClient(t)
		carry(in, interceptors(func(ctx context.Context, c *Call, next Next) error {
			in.Finish(lost())
			<-ctx.Done()
			return next(ctx) // which a relay that sees its context will end
		}), func(in stream.Inbound) {
			require.Error(t, in.Context().Err())
			in.Finish(ok())
		})
		require.Equal(t, lost(), in.end)
	})
	t.Run("while next is under way", func(t *testing.T) {
		in := newClient(t)
		carry(in, interceptors(Chain()), func(relayed stream.Inbound) {
			in.Finish(lost())
			<-relayed.Context().Done()
			relayed.Finish(ok())
		})
		require.Equal(t, lost(), in.end)
	})
	t.Run("after next", func(t *testing.T) {
		in := newClient(t)
		carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
			err := next(ctx)
			in.Finish(lost())
			return err
		}), ending(ok()))
		require.Equal(t, lost(), in.end)
	})
}

// What a slow link says of a call that has been ended from elsewhere does no harm, and
// the function that it wants called at the end is.
func TestLinksOfCallsThatHaveEnded(t *testing.T) {
	in := newClient(t)
	observer := &recorder{}
	c := begin(in, observer)
	watched := Watch(in, c)
	released := 0
	Carry(watched, c, interceptors(func(ctx context.Context, c *Call, _ Next) error {
		c.OnEnd(func() { released++ })
		go watched.Finish(lost())
		for range 100 { // for the race detector
			require.NoError(t, c.AddResponseHeader("x-more", "1"))
			c.SetIdentity(Identity{Name: "me"})
			c.SetRequestID("1")
		}
		<-ctx.Done()
		c.OnEnd(func() { released++ })
		return ctx.Err()
	}), ending(ok()))
	require.Equal(t, 2, released)
	require.Equal(t, []string{"begin", "end DATA_LOSS"}, observer.all())
	require.Equal(t, stream.DataLoss, in.ended(t).Status.Code)
}

func TestInterceptorsThatNeverCallNextEndWithTheClient(t *testing.T) {
	in := newClient(t)
	waits := make(chan struct{})
	go func() { // ends with the test
		<-waits
		in.cancel()
	}()
	carry(in, interceptors(func(ctx context.Context, _ *Call, _ Next) error {
		close(waits)
		<-ctx.Done()
		return ctx.Err()
	}), func(stream.Inbound) { t.Error("carried") })
	require.Equal(t, stream.Canceled, in.ended(t).Status.Code)
}

// An interceptor may end a call that it does not wait for, such as one with a limit on
// time of its own. Those outside of it go by what it says.
func TestInterceptorsThatDoNotWaitForNext(t *testing.T) {
	in := newClient(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	late := make(chan error, 1)
	carry(in, interceptors(func(ctx context.Context, c *Call, next Next) error {
		err := next(ctx)
		require.Equal(t, errStop, err)
		close(goOn)
		require.NoError(t, <-late)
		require.Empty(t, c.Trailer().Get("from"))
		return err
	}, func(ctx context.Context, _ *Call, next Next) error {
		go func() { late <- next(ctx) }()
		<-begun
		return errStop
	}), func(relayed stream.Inbound) {
		close(begun)
		<-goOn
		relayed.Finish(ok())
	})
	require.Equal(t, errStop.Error(), in.ended(t).Status.Message)
	require.Equal(t, stream.Metadata{{Key: stream.ReasonKey, Value: "rejected"}}, in.end.Metadata)
}

// An interceptor that the one outside of it has not waited for may call its own next
// when the call is over.
func TestNextAfterTheEndOfTheCall(t *testing.T) {
	in := newClient(t)
	late, inside := make(chan error, 1), make(chan struct{})
	carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
		go func() { late <- next(ctx) }()
		<-inside
		return errStop
	}, func(ctx context.Context, _ *Call, next Next) error {
		close(inside)
		<-ctx.Done() // which is once the call has been ended
		return next(ctx)
	}), func(stream.Inbound) { t.Error("carried") })
	require.Equal(t, errTooLate, <-late)
	require.Equal(t, errStop.Error(), in.ended(t).Status.Message)
}

// next in another goroutine at the moment that the interceptor returns: the call is
// carried before Carry returns, or not at all.
func TestNextWhileItsInterceptorReturns(t *testing.T) {
	for range 200 {
		in := newClient(t)
		late := make(chan error, 1)
		over := false
		carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
			go func() { late <- next(ctx) }()
			return errStop
		}), func(relayed stream.Inbound) {
			require.False(t, over)
			<-relayed.Context().Done()
			relayed.Finish(ok())
		})
		over = true
		<-late
		require.Equal(t, errStop.Error(), in.ended(t).Status.Message)
	}
}

func TestPanicsOfRelaysEndCalls(t *testing.T) {
	end := carried(t, interceptors(Chain()), func(stream.Inbound) { panic("secret") })
	require.Equal(t, stream.Internal, end.Status.Code)
	require.NotContains(t, end.Status.Message, "secret")
}

// TestContextsOfInterceptors: the call ends with the context that it is to go on with,
// and that with the call.
func TestContextsOfInterceptors(t *testing.T) {
	hold := func(in stream.Inbound) {
		<-in.Context().Done()
		in.Finish(TrailerOf(endOfContext(in.Context())))
	}
	for name, test := range map[string]struct {
		made   func(context.Context) (context.Context, context.CancelFunc)
		code   stream.Code
		reason stream.Reason
	}{
		"a time limit": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, stream.DeadlineExceeded, stream.DeadlinePassed},
		"a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, Refuse(stream.Forbidden, stream.PermissionDenied, "no more"))
		}, stream.PermissionDenied, stream.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newClient(t)
				carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
					ctx, cancel := test.made(ctx)
					defer cancel()
					return next(ctx)
				}), func(relayed stream.Inbound) {
					_, limited := relayed.Context().Deadline()
					require.True(t, limited)
					hold(relayed)
				})
				require.Equal(t, test.code, in.ended(t).Status.Code)
				require.Equal(t, string(test.reason), in.end.Metadata.Get(stream.ReasonKey))
			})
		})
	}
	t.Run("a relay that waits for its client", func(t *testing.T) {
		in := newClient(t)
		carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return next(ctx)
		}), func(relayed stream.Inbound) {
			<-in.ctx.Done() // as a Read does, whatever the context
			relayed.Finish(ok())
		})
		require.Equal(t, stream.Canceled, in.ended(t).Status.Code)
	})
	t.Run("one that does not end", func(t *testing.T) {
		in := newClient(t)
		carry(in, interceptors(func(ctx context.Context, _ *Call, next Next) error {
			return next(context.WithoutCancel(ctx))
		}), func(relayed stream.Inbound) {
			in.cancel()
			hold(relayed)
		})
		require.Equal(t, stream.Canceled, in.ended(t).Status.Code)
	})
}

// EndWith may be given the same trailer for all calls.
func TestEndsThatCallsShareAreNotChanged(t *testing.T) {
	shared := lost()
	in := newClient(t)
	c := begin(in)
	require.NoError(t, c.AddResponseHeader("x-first", "1"))
	Carry(Watch(in, c), c, []Link{{Guard: func(*Call) error { return EndWith(shared) }}}, nil)
	require.Equal(t, stream.Metadata{{Key: "x-first", Value: "1"}, {Key: "from", Value: "backend"}}, in.ended(t).Metadata)
	require.Equal(t, lost(), shared)
}

func TestObserversThatPanicAsCallsBegin(t *testing.T) {
	for name, links := range map[string][]Link{"nothing": nil, "an interceptor": interceptors(Chain())} {
		t.Run("before "+name, func(t *testing.T) {
			in := newClient(t)
			carry(in, links, func(stream.Inbound) { t.Error("carried") }, panicking{})
			require.Equal(t, stream.Internal, in.ended(t).Status.Code)
		})
	}
	require.ErrorContains(t, Run(t.Context(), begin(newClient(t), panicking{}), nil, nil), "internal error")
}

type panicking struct{}

func (panicking) Begin(*Call) { panic("secret") }
func (panicking) End(*Call)   { panic(errors.New("secret")) }
