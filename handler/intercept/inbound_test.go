package intercept

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// TestWatchCounts what crosses, wherever messages are cut.
func TestWatchCounts(t *testing.T) {
	in, r := newClient(t), &recorder{}
	in.request = append(message("abc"), message("")...)
	c := begin(in, curious{r})
	w := Watch(in, c)
	require.NoError(t, w.Read(make([]byte, 2)))
	require.Equal(t, Count{Bytes: 2}, c.Received())
	require.NoError(t, w.Read(make([]byte, 6)))
	require.NoError(t, w.Read(make([]byte, 5)))
	require.Equal(t, io.EOF, w.Read(make([]byte, 1)))
	require.Equal(t, Count{Messages: 2, Bytes: 13}, c.Received())
	require.NoError(t, w.WriteHeader(&stream.Header{Metadata: ok().Metadata}))
	require.NoError(t, w.Write(message("12345")))
	require.Equal(t, Count{Messages: 1, Bytes: 10}, c.Sent())
	w.Finish(lost())
	require.Equal(t, []string{
		"begin", "request 3", "request 0", "header [{from backend}]", "response 5", "end DATA_LOSS",
	}, r.all())
	require.Equal(t, message("12345"), in.got)
	require.Equal(t, lost(), in.ended(t))
	require.Equal(t, lost().Status, c.Outcome().Status)
	require.Equal(t, lost().Metadata, c.Outcome().Trailer)
}

func TestMessagesAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		refuse func() error
		want   stream.Failure
	}{
		"by a guard":             {func() error { return Refuse(stream.RateLimited, stream.ResourceExhausted, "no more") }, stream.Failure{Reason: stream.RateLimited, Code: stream.ResourceExhausted, Message: "no more"}},
		"by a guard that panics": {func() error { panic("secret") }, stream.Failure{Reason: stream.ProxyInternal, Code: stream.Internal, Message: method + ": internal error"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := newClient(t)
			in.request = message("abc")
			c := begin(in)
			require.False(t, c.WantsMessages())
			c.OnMessage(func(filter.Direction) error { return test.refuse() })
			require.True(t, c.WantsMessages())
			w := Watch(in, c)
			require.Equal(t, &test.want, w.Read(make([]byte, 8)))
			require.Equal(t, &test.want, w.Write(message("abc")))
			require.Empty(t, in.got, "nothing of it goes to the client")
			require.Equal(t, &test.want, w.Write([]byte("more")), "nor anything behind it")
		})
	}
}

func TestResponseHeadersOfLinks(t *testing.T) {
	in := newClient(t)
	c := begin(in)
	require.NoError(t, c.AddResponseHeader("x-First", "1", "2"))
	require.Error(t, c.AddResponseHeader("grpc-status", "0"))
	added := stream.Metadata{{Key: "x-first", Value: "1"}, {Key: "x-first", Value: "2"}}
	t.Run("with a head", func(t *testing.T) {
		in, backend := newClient(t), &stream.Header{ContentType: "application/grpc", Metadata: ok().Metadata}
		w := Watch(in, c)
		require.NoError(t, w.WriteHeader(backend))
		w.Finish(ok())
		require.Equal(t, append(ok().Metadata, added...), in.header.Metadata)
		require.Equal(t, "application/grpc", in.header.ContentType)
		require.Equal(t, ok().Metadata, backend.Metadata, "which is the backend's")
		require.Equal(t, ok(), in.ended(t))
	})
	t.Run("without one", func(t *testing.T) {
		in, backend := newClient(t), ok()
		Watch(in, c).Finish(backend)
		require.Equal(t, append(added, ok().Metadata...), in.ended(t).Metadata)
		require.Equal(t, ok(), backend)
	})
}

// foreign is a context that package context knows nothing of, as transports have them.
type foreign struct{ context.Context }

func (foreign) Value(any) any { return nil }

// ready is one that needs no goroutine for others to end with it.
type ready struct {
	foreign
	asked *int
}

func (r ready) AfterFunc(f func()) (stop func() bool) {
	*r.asked++
	return context.AfterFunc(r.foreign, f)
}

// Contexts that are made from a call's end with it, and take no goroutine where the
// transport's own take none.
func TestContextsEndWithTheCall(t *testing.T) {
	asked := 0
	for name, transport := range map[string]func(foreign) context.Context{
		"foreign": func(f foreign) context.Context { return f },
		"ready":   func(f foreign) context.Context { return ready{f, &asked} },
	} {
		t.Run(name, func(t *testing.T) {
			in := newClient(t)
			ctx := &callContext{transport(foreign{in.ctx}), begin(in)}
			made, cancel := context.WithCancel(ctx)
			defer cancel()
			stop := context.AfterFunc(ctx, func() { t.Error("called") })
			require.True(t, stop())
			in.cancel()
			<-made.Done()
			require.Equal(t, context.Canceled, made.Err())
			require.Equal(t, context.Canceled, ctx.Err())
		})
	}
	require.Equal(t, 2, asked)
}

func TestContextsHaveTheDeadline(t *testing.T) {
	in := newClient(t)
	var cancel context.CancelFunc
	in.ctx, cancel = context.WithTimeout(in.ctx, time.Hour)
	defer cancel()
	want, _ := in.ctx.Deadline()
	got, ok := Watch(in, begin(in)).Context().Deadline()
	require.True(t, ok)
	require.Equal(t, want, got)
}
