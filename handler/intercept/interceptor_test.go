package intercept

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

var errStop = errors.New("stop")

// around returns an interceptor that notes when it is entered and left.
func around(name string, notes *[]string) Interceptor {
	return func(ctx context.Context, _ *Call, next Next) error {
		*notes = append(*notes, "into "+name)
		err := next(ctx)
		*notes = append(*notes, "out of "+name)
		return err
	}
}

// chained calls an interceptor as Carry would.
func chained(t *testing.T, f Interceptor, next Next) error {
	t.Helper()
	in := newClient(t)
	c := begin(in)
	return f(Watch(in, c).Context(), c, next)
}

func TestChainOfNoneCallsNext(t *testing.T) {
	called := 0
	err := chained(t, Chain(), func(context.Context) error {
		called++
		return errStop
	})
	require.Equal(t, errStop, err)
	require.Equal(t, 1, called)
}

func TestChainOfOneIsThatOne(t *testing.T) {
	err := chained(t, Chain(func(context.Context, *Call, Next) error { return errStop }), nil)
	require.Equal(t, errStop, err)
}

func TestChainIsInOrder(t *testing.T) {
	var notes []string
	err := chained(t, Chain(around("a", &notes), around("b", &notes), around("c", &notes)), func(context.Context) error {
		notes = append(notes, "last")
		return errStop
	})
	require.Equal(t, errStop, err)
	require.Equal(t, []string{"into a", "into b", "into c", "last", "out of c", "out of b", "out of a"}, notes)
}

func TestChainPassesContextsOn(t *testing.T) {
	type key struct{ int }
	put := func(i int) Interceptor {
		return func(ctx context.Context, _ *Call, next Next) error { return next(context.WithValue(ctx, key{i}, i)) }
	}
	require.NoError(t, chained(t, Chain(put(1), put(2)), func(ctx context.Context) error {
		require.Equal(t, 1, ctx.Value(key{1}))
		require.Equal(t, 2, ctx.Value(key{2}))
		require.NotNil(t, FromContext(ctx))
		return nil
	}))
}

func TestChainStops(t *testing.T) {
	var notes []string
	stop := func(context.Context, *Call, Next) error { return errStop }
	err := chained(t, Chain(around("a", &notes), stop, around("b", &notes)), func(context.Context) error {
		notes = append(notes, "last")
		return nil
	})
	require.Equal(t, errStop, err)
	require.Equal(t, []string{"into a", "out of a"}, notes)
}

func TestGuardAsInterceptor(t *testing.T) {
	for name, want := range map[string]error{"goes on": nil, "stops": errStop} {
		t.Run(name, func(t *testing.T) {
			called := false
			f := Guard(func(*Call) error { return want }).AsInterceptor()
			require.Equal(t, want, chained(t, f, func(context.Context) error {
				called = true
				return nil
			}))
			require.Equal(t, want == nil, called)
		})
	}
}

// TestRulesOfNext: who breaks them is told so, and the call is carried once at most.
func TestRulesOfNext(t *testing.T) {
	for name, test := range map[string]struct {
		link    Interceptor
		message string
		carried int
	}{
		"twice": {func(ctx context.Context, _ *Call, next Next) error {
			_ = next(ctx)
			return next(ctx)
		}, "called next twice", 1},
		"three times at once": {func(ctx context.Context, _ *Call, next Next) error {
			results := make(chan error, 3)
			for range 3 {
				go func() { results <- next(ctx) }()
			}
			return errors.Join(<-results, <-results, <-results)
		}, "called next twice", 1},
		"without a context": {func(_ context.Context, _ *Call, next Next) error {
			return next(nil) //nolint:staticcheck // that is the point
		}, "without a context", 0},
		"with another context": {func(_ context.Context, _ *Call, next Next) error {
			return next(context.Background())
		}, "does not descend", 0},
		"with another call's context": {func(_ context.Context, c *Call, next Next) error {
			return next(&callContext{context.Background(), &Call{info: c.info}})
		}, "does not descend", 0},
	} {
		t.Run(name, func(t *testing.T) {
			carriedTimes := 0
			end := carried(t, interceptors(test.link), func(in stream.Inbound) {
				carriedTimes++
				in.Finish(ok())
			})
			require.Equal(t, stream.Internal, end.Status.Code)
			require.Contains(t, end.Status.Message, "interceptor test: ")
			require.Contains(t, end.Status.Message, test.message)
			require.Equal(t, string(stream.ProxyInternal), end.Metadata.Get(stream.ReasonKey))
			require.Equal(t, test.carried, carriedTimes)
		})
	}
}

// A next that comes when its interceptor has returned carries nothing.
func TestNextTooLate(t *testing.T) {
	var kept Next
	var of context.Context
	end := carried(t, interceptors(func(ctx context.Context, _ *Call, next Next) error {
		kept, of = next, ctx
		return errStop
	}), func(stream.Inbound) { t.Error("carried") })
	require.Equal(t, errStop.Error(), end.Status.Message)
	require.ErrorContains(t, kept(of), "too late")
}

func TestGuardsAmongInterceptors(t *testing.T) {
	var notes []string
	guard := func(name string, err error) Link {
		return Link{Name: name, Guard: func(*Call) error {
			notes = append(notes, name)
			return err
		}}
	}
	links := []Link{guard("first", nil), interceptors(around("a", &notes))[0], guard("second", errStop), guard("third", nil)}
	end := carried(t, links, func(stream.Inbound) { t.Error("carried") })
	require.Equal(t, errStop.Error(), end.Status.Message)
	require.Equal(t, []string{"first", "into a", "second", "out of a"}, notes)
}

// A panic is an error to the interceptors outside of it, whoever's goroutine it is in.
func TestPanicsOfLinksAreErrorsToOthers(t *testing.T) {
	for name, inner := range map[string]Link{
		"interceptor": {Interceptor: func(context.Context, *Call, Next) error { panic("secret") }},
		"guard":       {Guard: func(*Call) error { panic("secret") }},
	} {
		t.Run(name, func(t *testing.T) {
			var seen error
			end := carried(t, append(interceptors(func(ctx context.Context, _ *Call, next Next) error {
				result := make(chan error)
				go func() { result <- next(ctx) }()
				seen = <-result
				return seen
			}), inner), func(stream.Inbound) { t.Error("carried") })
			require.ErrorContains(t, seen, "internal error")
			require.Equal(t, stream.Internal, end.Status.Code)
			require.NotContains(t, end.Status.Message, "secret")
		})
	}
}

func TestAskStopsAtTheFirstRefusal(t *testing.T) {
	in, asked := newClient(t), 0
	guard := func(err error) Link {
		return Link{Guard: func(*Call) error {
			asked++
			return err
		}}
	}
	require.Equal(t, errStop, Ask(begin(in), []Link{guard(nil), guard(errStop), guard(nil)}))
	require.Equal(t, 2, asked)
	require.NoError(t, Ask(begin(in), nil))
	require.ErrorContains(t, Ask(begin(in), []Link{{Guard: func(*Call) error { panic("secret") }}}), "internal error")
}
