package filter

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// decided returns how a call ends that a filter of the request ends with v.
func decided(t testing.TB, v Verdict) *Ended {
	t.Helper()
	out, err := passed(t, runOf(t, unaryName, deciding(unaryName, AtRequest, v)), Request, "came")
	require.Empty(t, out)
	return requireEnded(t, err)
}

func TestRejectGivesAStatus(t *testing.T) {
	e := decided(t, Reject(codes.PermissionDenied, "%s may not: 100%%", "you"))
	require.Equal(t, stream.Status{Code: stream.PermissionDenied, Message: "you may not: 100%"}, e.Trailer.Status)
	require.Equal(t, stream.Metadata{{Key: stream.ReasonKey, Value: string(stream.Rejected)}}, e.Trailer.Metadata)
	require.Empty(t, e.Messages)
	require.Empty(t, e.Header)
	require.ErrorContains(t, e, "filter.deciding")
	require.ErrorContains(t, e, "PERMISSION_DENIED: you may not: 100%")
}

func TestRejectWithDetails(t *testing.T) {
	reason, info := &errdetails.ErrorInfo{Reason: "because"}, &errdetails.RequestInfo{RequestId: "1"}
	for name, v := range map[string]Verdict{
		"at once":     Reject(codes.NotFound, "no").WithDetails(reason, info),
		"in two goes": Reject(codes.NotFound, "no").WithDetails(reason).WithTrailer("k", "v").WithDetails(info),
	} {
		t.Run(name, func(t *testing.T) {
			var s status.Status
			require.NoError(t, proto.Unmarshal(decided(t, v).Trailer.Status.Details, &s))
			require.Equal(t, int32(codes.NotFound), s.Code)
			require.Equal(t, "no", s.Message)
			require.Len(t, s.Details, 2)
			for i, want := range []proto.Message{reason, info} {
				got, err := s.Details[i].UnmarshalNew()
				require.NoError(t, err)
				require.True(t, proto.Equal(want, got), "%v", got)
			}
		})
	}
}

func TestVerdictsWithMetadata(t *testing.T) {
	e := decided(t, unary.Answer(reply("yes")).WithHeader("H", "1", "2").WithTrailer("T-Bin", "\x00").WithHeader("h", "3").WithTrailer("t", "4"))
	require.Equal(t, stream.Metadata{{Key: "h", Value: "1"}, {Key: "h", Value: "2"}, {Key: "h", Value: "3"}}, e.Header)
	require.Equal(t, stream.Metadata{{Key: "t-bin", Value: "AA"}, {Key: "t", Value: "4"}}, e.Trailer.Metadata)
	require.Equal(t, stream.OK, e.Trailer.Status.Code)
	require.Equal(t, [][]byte{encoded("yes")}, e.Messages)

	e = decided(t, Reject(codes.Aborted, "").WithTrailer("t", "1"))
	require.Equal(t, stream.Metadata{{Key: "t", Value: "1"}, {Key: stream.ReasonKey, Value: string(stream.Rejected)}}, e.Trailer.Metadata)
}

// Verdicts may be kept in package variables: nothing changes one.
func TestVerdictsAreValues(t *testing.T) {
	base := Reject(codes.Aborted, "base").WithTrailer("a", "1").WithTrailer("b", "2").WithTrailer("c", "3").WithHeader("h", "1")
	left, right := base.WithTrailer("left", "1"), base.WithTrailer("right", "1")
	_ = base.WithHeader("more", "1")
	_ = base.WithDetails(&emptypb.Empty{})
	_ = chat.WithRequests([]*echo.EchoRequest{request("x")}, base, nil)
	trailer := func(v Verdict) (keys []string) {
		for _, f := range decided(t, v).Trailer.Metadata {
			keys = append(keys, f.Key)
		}
		return keys
	}
	require.Equal(t, []string{"a", "b", "c", "left", stream.ReasonKey}, trailer(left))
	require.Equal(t, []string{"a", "b", "c", "right", stream.ReasonKey}, trailer(right))
	require.Equal(t, []string{"a", "b", "c", stream.ReasonKey}, trailer(base))
	e := decided(t, base)
	require.Len(t, e.Header, 1)
	require.Nil(t, e.Trailer.Status.Details)

	more := chat.WithRequests([]*echo.EchoRequest{request("x")}, Forward, nil)
	require.NotEmpty(t, more.before)
	require.Empty(t, Forward.before)
}

// Calls that end with the same verdict at the same time share nothing that
// either of them writes to. The race detector says so.
func TestVerdictsOfManyCallsAtOnce(t *testing.T) {
	denied := Reject(codes.Aborted, "").WithTrailer("a", "1").WithTrailer("b", "2").WithTrailer("c", "3")
	require.Greater(t, cap(denied.trailer), len(denied.trailer), "there is room that two could write to")
	chain := chainOf(t, unaryName, deciding(unaryName, AtStart, denied),
		unary.OnEnd(func(_ context.Context, c *Call, _ *End) { _ = c.ResponseTrailer().Add("more", "1") }))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				r := begin(chain)
				r.End(context.Background(), requireEnded(t, r.Start(context.Background())).Trailer)
			}
		})
	}
	all.Wait()
	require.Len(t, denied.trailer, 3)
}

func TestVerdictsThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		verdict Verdict
		what    string
	}{
		"reject with OK":                  {Reject(codes.OK, ""), "it rejects a call with OK"},
		"reserved trailer":                {Reject(codes.Aborted, "").WithTrailer("grpc-status", "0"), `metadata "grpc-status" is the protocol's`},
		"reserved header":                 {unary.Answer(reply("")).WithHeader("te", "x"), `metadata "te" is the protocol's`},
		"value that cannot be sent":       {Reject(codes.Aborted, "").WithTrailer("k", "\n"), "not printable ASCII"},
		"the first of two mistakes":       {Reject(codes.Aborted, "").WithTrailer("te", "x").WithTrailer("upgrade", "x"), `metadata "te"`},
		"nil details":                     {Reject(codes.Aborted, "").WithDetails(nil), "details of type <nil>"},
		"details of a text that is none":  {Reject(codes.Aborted, "\xff").WithDetails(&emptypb.Empty{}), "details: "},
		"answer of no message":            {unary.Answer(), "it answers " + unaryName + " with 0 messages instead of one"},
		"answer of two messages":          {unary.Answer(reply(""), reply("")), "it answers " + unaryName + " with 2 messages instead of one"},
		"answer that is nil":              {unary.Answer(nil), "it answers with a message that is nil"},
		"answer of another type":          {For[echo.EchoRequest, echo.EchoRequest](unaryName).Answer(request("")), "it answers with a message of type *echo.EchoRequest, where they are *echo.EchoReply"},
		"messages of the other direction": {unary.WithResponses(nil, Forward, []*echo.EchoReply{reply("")}), "it adds messages of the other direction"},
		"messages of another type": {
			For[echo.EchoReply, echo.EchoReply](unaryName).WithRequests(nil, Forward, []*echo.EchoReply{reply("")}),
			"it adds a message of type *echo.EchoReply, where they are *echo.EchoRequest",
		},
		"message before that is nil": {unary.WithRequests([]*echo.EchoRequest{nil}, Forward, nil), "it adds a message that is nil"},
		"message behind that is nil": {unary.WithRequests(nil, Drop, []*echo.EchoRequest{nil}), "it adds a message that is nil"},
		"header of no answer":        {Forward.WithHeader("k", "v"), "it adds headers, trailers or details to a verdict that takes none"},
		"trailer of no answer":       {Drop.WithTrailer("k", "v"), "it adds headers, trailers or details to a verdict that takes none"},
		"details of no rejection":    {Changed.WithDetails(&emptypb.Empty{}), "it adds headers, trailers or details to a verdict that takes none"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := passed(t, runOf(t, unaryName, deciding(unaryName, AtRequest, test.verdict)), Request, "came")
			requireMistake(t, err, "filter.deciding")
			requireMistake(t, err, test.what)
		})
	}
}

// At the start and at the headers there is no message to decide on.
func TestVerdictsThatMakeNoSenseWithoutAMessage(t *testing.T) {
	hook := func(r *Run, at Point) error {
		if at == AtStart {
			return r.Start(t.Context())
		}
		_, err := r.Header(t.Context(), &stream.Header{})
		return err
	}
	for name, v := range map[string]Verdict{
		"drop": Drop, "changed": Changed,
		"more before": chat.WithRequests([]*echo.EchoRequest{request("")}, Forward, nil),
		"more behind": chat.WithResponses(nil, Forward, []*echo.EchoReply{reply("")}),
	} {
		for _, at := range []Point{AtStart, AtHeader} {
			t.Run(name+" at the "+at.String(), func(t *testing.T) {
				requireMistake(t, hook(runOf(t, chatName, deciding(chatName, at, v)), at), "there is no message to ")
			})
		}
	}
	for _, at := range []Point{AtStart, AtHeader} {
		require.NoError(t, hook(runOf(t, chatName, deciding(chatName, at, Forward)), at))
		e := requireEnded(t, hook(runOf(t, chatName, deciding(chatName, at, Reject(codes.Aborted, "no"))), at))
		require.Equal(t, stream.Code(codes.Aborted), e.Trailer.Status.Code)
		e = requireEnded(t, hook(runOf(t, chatName, deciding(chatName, at, chat.Answer(reply("a"), reply("b")))), at))
		require.Equal(t, [][]byte{encoded("a"), encoded("b")}, e.Messages)
	}
}

// A stream may be answered with any number of messages.
func TestAnswerOfAStream(t *testing.T) {
	for n := range 3 {
		answer := make([]*echo.EchoReply, n)
		for i := range answer {
			answer[i] = reply("x")
		}
		_, err := passed(t, runOf(t, expandName, deciding(expandName, AtRequest, unary.Answer(answer...))), Request, "")
		require.Len(t, requireEnded(t, err).Messages, n)
	}
}
