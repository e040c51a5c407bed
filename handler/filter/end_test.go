package filter

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// atEnd returns a filter of the end.
func atEnd(f func(c *Call, end *End)) *Filter {
	return chat.OnEnd(func(_ context.Context, c *Call, end *End) { f(c, end) })
}

func TestEndsMayBeChanged(t *testing.T) {
	var seen []codes.Code
	r := runOf(
		t, chatName,
		atEnd(func(_ *Call, end *End) {
			require.Equal(t, &End{Code: codes.NotFound, Message: "came", Details: []byte{8, 5}, Reason: "no-route"}, end)
			seen = append(seen, end.Code)
			end.Code = codes.Aborted
		}),
		atEnd(func(c *Call, end *End) {
			seen = append(seen, end.Code)
			end.Message, end.Details = "changed", []byte("opaque")
			require.NoError(t, c.ResponseTrailer().Set("k", "v"))
		}),
	)
	reset := uint32(8)
	came := &stream.Trailer{
		Status:   stream.Status{Code: 5, Message: "came", Details: []byte{8, 5}},
		Metadata: stream.Metadata{{Key: stream.ReasonKey, Value: "no-route"}}, ContentType: "type", Reset: &reset,
	}
	require.Equal(t, &stream.Trailer{
		Status:   stream.Status{Code: 10, Message: "changed", Details: []byte("opaque")},
		Metadata: stream.Metadata{{Key: stream.ReasonKey, Value: "no-route"}, {Key: "k", Value: "v"}}, ContentType: "type",
	}, r.End(t.Context(), came))
	require.Equal(t, []codes.Code{codes.NotFound, codes.Aborted}, seen, "in order")
	require.Equal(t, stream.Code(5), came.Status.Code)
}

// A reset that nobody objects to stays one.
func TestResetsStayResets(t *testing.T) {
	reset := uint32(8)
	end := runOf(t, chatName, atEnd(func(*Call, *End) {})).End(t.Context(), &stream.Trailer{Reset: &reset})
	require.Equal(t, &reset, end.Reset)
}

// Details say code and message again; a client takes a status that contradicts
// itself for broken.
func TestDetailsFollowTheStatus(t *testing.T) {
	detail := must(anypb.New(&status.Status{Code: 99}))
	details := must(proto.Marshal(&status.Status{Code: 5, Message: "came", Details: []*anypb.Any{detail}}))
	for name, test := range map[string]struct {
		details []byte
		change  func(*Call, *End)
		want    *status.Status // nil: the details as they are
	}{
		"code":          {details, func(_ *Call, end *End) { end.Code = codes.Aborted }, &status.Status{Code: 10, Message: "came", Details: []*anypb.Any{detail}}},
		"message":       {details, func(_ *Call, end *End) { end.Message = "new" }, &status.Status{Code: 5, Message: "new", Details: []*anypb.Any{detail}}},
		"nothing":       {details, func(*Call, *End) {}, nil},
		"their own":     {details, func(_ *Call, end *End) { end.Code, end.Details = codes.Aborted, []byte("own") }, nil},
		"none":          {nil, func(_ *Call, end *End) { end.Code = codes.Aborted }, nil},
		"opaque ones":   {[]byte{0xff}, func(_ *Call, end *End) { end.Code = codes.Aborted }, nil},
		"no valid text": {details, func(_ *Call, end *End) { end.Message = "\xff" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var own []byte
			r := runOf(t, chatName, atEnd(func(c *Call, end *End) { test.change(c, end); own = end.Details }))
			end := r.End(t.Context(), &stream.Trailer{Status: stream.Status{Code: 5, Message: "came", Details: test.details}})
			if test.want == nil {
				require.Equal(t, own, end.Status.Details)
				return
			}
			var got status.Status
			require.NoError(t, proto.Unmarshal(end.Status.Details, &got))
			require.True(t, proto.Equal(test.want, &got), "%v", &got)
		})
	}
}

// A filter of the end that panics changes how the call ends, and keeps no other
// from learning of it.
func TestPanicsAtTheEnd(t *testing.T) {
	var seen []End
	learn := atEnd(func(_ *Call, end *End) { seen = append(seen, *end) })
	end := runOf(t, chatName, learn, panics(AtEnd), learn).End(t.Context(), &stream.Trailer{Status: stream.Status{Details: []byte{8, 0}}})
	require.Equal(t, stream.Internal, end.Status.Code)
	require.Equal(t, string(stream.FilterFailed), end.Metadata.Get(stream.ReasonKey))
	require.Len(t, seen, 2)
	require.Equal(t, codes.OK, seen[0].Code)
	require.Equal(t, codes.Internal, seen[1].Code)
	require.Equal(t, string(stream.FilterFailed), seen[1].Reason)
}

// The backend of a stream may end it while a filter looks at a request. The
// filters of the end are asked when that one has returned, which its context
// tells it to do, and no filter is asked after them.
func TestTheEndIsLast(t *testing.T) {
	began, ended := make(chan struct{}), false
	r := runOf(
		t, chatName,
		chat.OnRequest(func(ctx context.Context, _ *Call, _ *echo.EchoRequest) Verdict {
			close(began)
			<-ctx.Done()
			require.False(t, ended)
			return Forward
		}),
		atEnd(func(*Call, *End) { ended = true }),
	)
	result := make(chan error, 1)
	go func() { // ends with the filter
		_, err := r.Messages(context.Background(), Request, nil, nil)
		result <- err
	}()
	<-began
	r.End(t.Context(), &stream.Trailer{})
	require.True(t, ended)
	require.NoError(t, <-result)
	_, err := r.Messages(t.Context(), Request, nil, nil)
	require.ErrorIs(t, err, ErrOver)
}

// The filters of the end get the context of the call, which goes on until the
// client has its status.
func TestTheEndHasTheContextOfTheCall(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	r := runOf(t, chatName, appends(""), chat.OnEnd(func(ctx context.Context, _ *Call, _ *End) {
		require.NoError(t, ctx.Err())
		require.Equal(t, "value", ctx.Value(key{}))
	}))
	_, err := r.Messages(ctx, Request, nil, nil)
	require.NoError(t, err)
	end := r.End(ctx, &stream.Trailer{})
	require.Equal(t, stream.OK, end.Status.Code, "%v", end)
}
