package filter

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

func TestFiltersSeeTheirCall(t *testing.T) {
	type seen struct {
		point     Point
		direction Direction
		number    int
	}
	var got []seen
	see := func(at Point, c *Call) Verdict {
		got = append(got, seen{at, c.Direction(), c.Number()})
		require.Equal(t, chatName, c.Method())
		require.Equal(t, "authority", c.Authority())
		require.Equal(t, ":1", c.Peer().String())
		require.Equal(t, "routes[0]", c.Route())
		require.Equal(t, "cluster", c.Cluster())
		return Forward
	}
	r := runOf(
		t, chatName,
		chat.OnStart(func(_ context.Context, c *Call) Verdict { return see(AtStart, c) }),
		chat.OnRequest(func(_ context.Context, c *Call, _ *echo.EchoRequest) Verdict { return see(AtRequest, c) }),
		chat.OnHeader(func(_ context.Context, c *Call) Verdict { return see(AtHeader, c) }),
		chat.OnResponse(func(_ context.Context, c *Call, m *echo.EchoReply) Verdict {
			see(AtResponse, c)
			return Drop
		}),
		chat.OnEnd(func(_ context.Context, c *Call, _ *End) { see(AtEnd, c) }),
	)
	require.NoError(t, r.Start(t.Context()))
	_, err := passed(t, r, Request, "1")
	require.NoError(t, err)
	r.Skip(Request)
	_, err = r.Messages(t.Context(), Request, []byte{0xff}, nil)
	require.Error(t, err)
	_, err = passed(t, r, Request, "4")
	require.NoError(t, err)
	_, err = r.Header(t.Context(), &stream.Header{})
	require.NoError(t, err)
	for range 2 {
		_, err = passed(t, r, Response, "")
		require.NoError(t, err)
	}
	r.End(t.Context(), &stream.Trailer{})
	require.Equal(t, []seen{
		{AtStart, Request, 0},
		{AtRequest, Request, 1},
		{AtRequest, Request, 4}, // what nobody could look at has come as well
		{AtHeader, Response, 0},
		{AtResponse, Response, 1},
		{AtResponse, Response, 2}, // the one dropped has come as well
		{AtEnd, Response, 2},
	}, got)
}

func TestKeysAreOfACall(t *testing.T) {
	count, text, other := NewKey[int]("count"), NewKey[string]("text"), NewKey[int]("count")
	require.Equal(t, "count", count.String())
	step := func(c *Call) {
		n, ok := count.Get(c)
		require.Equal(t, n > 0, ok)
		count.Set(c, n+1)
		s, _ := text.Get(c)
		text.Set(c, s+"x")
		_, ok = other.Get(c)
		require.False(t, ok, "keys of the same name and type are different")
	}
	chain := chainOf(
		t, chatName,
		chat.OnStart(func(_ context.Context, c *Call) Verdict { step(c); return Forward }),
		chat.OnRequest(func(_ context.Context, c *Call, _ *echo.EchoRequest) Verdict { step(c); return Forward }),
		chat.OnResponse(func(_ context.Context, c *Call, _ *echo.EchoReply) Verdict { step(c); return Forward }),
		chat.OnEnd(func(_ context.Context, c *Call, _ *End) { step(c) }),
	)
	first, second := begin(chain), begin(chain)
	for _, r := range []*Run{first, second} {
		require.NoError(t, r.Start(t.Context()))
		_, err := passed(t, r, Request, "")
		require.NoError(t, err)
		_, err = passed(t, r, Response, "")
		require.NoError(t, err)
	}
	first.End(t.Context(), &stream.Trailer{})
	for r, want := range map[*Run]int{first: 4, second: 3} {
		n, ok := count.Get(&r.responses)
		require.True(t, ok)
		require.Equal(t, want, n)
		s, _ := text.Get(&r.responses)
		require.Len(t, s, want)
	}
}

// A value may be an interface's, and nil.
func TestKeysOfInterfaces(t *testing.T) {
	key := NewKey[error]("error")
	r := runOf(t, chatName, appends(""))
	c := &r.requests
	key.Set(c, context.Canceled)
	err, ok := key.Get(c)
	require.True(t, ok)
	require.ErrorIs(t, err, context.Canceled)
}

// The directions of a stream run beside each other. The race detector says what
// they must not share.
func TestBothDirectionsAtOnce(t *testing.T) {
	count := NewKey[*int]("count")
	see := func(c *Call, _ ...any) Verdict {
		n := 0
		count.Set(c, &n)
		_, _ = count.Get(c)
		_ = c.ResponseHeader().Get("k")
		_ = c.ResponseTrailer().Get("k")
		_ = c.RequestHeader().Set("k", "v")
		_ = c.RequestHeader().Get("k")
		_ = c.Incoming().Get("k")
		_ = c.SetCluster("other")
		_ = c.Cluster()
		_ = c.Number()
		return Forward
	}
	r := runOf(
		t, chatName,
		chat.OnRequest(func(_ context.Context, c *Call, _ *echo.EchoRequest) Verdict { return see(c) }),
		chat.OnHeader(func(_ context.Context, c *Call) Verdict { _ = c.ResponseHeader().Set("k", "v"); return see(c) }),
		chat.OnResponse(func(_ context.Context, c *Call, _ *echo.EchoReply) Verdict { return see(c) }),
		chat.OnEnd(func(_ context.Context, c *Call, _ *End) { _ = c.ResponseTrailer().Set("k", "v"); see(c) }),
	)
	_, _ = r.Request()
	sent := make(chan struct{})
	go func() { // ends with its messages
		defer close(sent)
		for range 100 {
			_, _ = r.Messages(t.Context(), Request, nil, nil)
		}
	}()
	_, err := r.Header(t.Context(), &stream.Header{})
	require.NoError(t, err)
	for range 100 {
		_, err := r.Messages(t.Context(), Response, nil, nil)
		require.NoError(t, err)
	}
	r.End(t.Context(), &stream.Trailer{})
	<-sent
}

// What goes to the backend can be changed until that is settled.
func TestTheRequestCanBeChangedUntilItIsSettled(t *testing.T) {
	var got []error
	change := func(c *Call) Verdict {
		err := c.RequestHeader().Set("k", "v")
		require.Equal(t, err, c.SetCluster("other"))
		require.Equal(t, err, c.RequestHeader().Add("k", "w"))
		require.Equal(t, err, c.RequestHeader().Remove("j"))
		got = append(got, err)
		return Forward
	}
	r := runOf(
		t, chatName,
		chat.OnStart(func(_ context.Context, c *Call) Verdict { return change(c) }),
		chat.OnRequest(func(_ context.Context, c *Call, _ *echo.EchoRequest) Verdict { return change(c) }),
	)
	require.NoError(t, r.Start(t.Context()))
	_, err := passed(t, r, Request, "")
	require.NoError(t, err)
	r.Settle()
	_, err = passed(t, r, Request, "")
	require.NoError(t, err)
	require.Equal(t, []error{nil, nil, ErrSent}, got)
	req, cluster := r.Request()
	require.Equal(t, "other", cluster)
	require.Equal(t, stream.Metadata{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}, req.Metadata)
	require.ErrorIs(t, r.requests.SetCluster("late"), ErrSent)
	require.Equal(t, "other", r.requests.Cluster())

	r = runOf(t, chatName, appends(""))
	_, _ = r.Request()
	require.ErrorIs(t, r.requests.SetCluster("late"), ErrSent)
}
