package intercept

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestRun(t *testing.T) {
	var notes []string
	c := begin(newClient(t))
	err := Run(t.Context(), c, interceptors(around("a", &notes), around("b", &notes)), func(ctx context.Context) error {
		require.Same(t, c, FromContext(ctx))
		notes = append(notes, "last")
		return errStop
	})
	require.Equal(t, errStop, err)
	require.Equal(t, []string{"into a", "into b", "last", "out of b", "out of a"}, notes)
}

func TestRunWithPanics(t *testing.T) {
	for name, test := range map[string]struct {
		links []Link
		last  Next
	}{
		"of a link": {interceptors(func(context.Context, *Call, Next) error { panic("secret") }), nil},
		"of last":   {interceptors(Chain()), func(context.Context) error { panic("secret") }},
	} {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), begin(newClient(t)), test.links, test.last)
			require.ErrorContains(t, err, "internal error")
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// A response that is broken off stays so, whatever links make of it, and the call ends.
func TestRunOfWhatIsBrokenOff(t *testing.T) {
	r := &recorder{}
	c := begin(newClient(t), r)
	released := false
	c.OnEnd(func() { released = true })
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		_ = Run(t.Context(), c, interceptors(func(ctx context.Context, _ *Call, next Next) error {
			result := make(chan error)
			go func() { result <- next(ctx) }()
			require.Equal(t, stream.Canceled, TrailerOf(<-result).Status.Code)
			return nil
		}), func(context.Context) error { panic(http.ErrAbortHandler) })
	})
	require.Equal(t, []string{"begin", "end CANCELLED"}, r.all())
	require.True(t, released)
}

// What has failed says why itself.
func TestRunOfWhatHasFailed(t *testing.T) {
	r := &recorder{}
	lost := &stream.Failure{Reason: stream.BackendDisconnected, Code: stream.Unavailable}
	c := begin(newClient(t), r)
	err := Run(t.Context(), c, nil, func(context.Context) error { c.Failed(lost); return nil })
	require.Same(t, lost, err)
	c = begin(newClient(t), r)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		_ = Run(t.Context(), c, nil, func(context.Context) error { c.Failed(lost); panic(http.ErrAbortHandler) })
	})
	require.Equal(t, stream.BackendDisconnected, c.Outcome().Reason)
	require.Equal(t, []string{"begin", "begin", "end UNAVAILABLE"}, r.all())
}

// Nothing of the handler runs any more when Run returns.
func TestRunWaits(t *testing.T) {
	begun, late := make(chan struct{}), make(chan error, 1)
	over := false
	err := Run(t.Context(), begin(newClient(t)), interceptors(func(ctx context.Context, _ *Call, next Next) error {
		go func() { late <- next(ctx) }()
		<-begun
		return errStop
	}), func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		over = true
		return ctx.Err()
	})
	require.True(t, over)
	require.Equal(t, errStop, err)
	require.Equal(t, context.Canceled, <-late)
}
