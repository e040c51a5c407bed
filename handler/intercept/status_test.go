package intercept

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// pretender is an error whose status is OK, or none.
type pretender struct{ st *status.Status }

func (pretender) Error() string                { return "pretends" }
func (p pretender) GRPCStatus() *status.Status { return p.st }

func TestTrailerOf(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		code    stream.Code
		message string
		reason  stream.Reason
	}{
		"nil":                  {nil, stream.OK, "", ""},
		"text":                 {errStop, stream.Unknown, "stop", stream.Rejected},
		"status":               {status.Error(codes.NotFound, "none"), 5, "none", stream.Rejected},
		"wrapped status":       {fmt.Errorf("so: %w", status.Error(codes.NotFound, "none")), 5, "so: rpc error: code = NotFound desc = none", stream.Rejected},
		"deadline":             {fmt.Errorf("so: %w", context.DeadlineExceeded), stream.DeadlineExceeded, "so: context deadline exceeded", stream.Rejected},
		"cancelled":            {context.Canceled, stream.Canceled, "context canceled", stream.Rejected},
		"refusal":              {Refuse(stream.Forbidden, stream.PermissionDenied, "no"), stream.PermissionDenied, "no", stream.Forbidden},
		"wrapped refusal":      {errors.Join(errStop, Refuse(stream.Forbidden, stream.PermissionDenied, "no")), stream.PermissionDenied, "no", stream.Forbidden},
		"a status that is OK":  {pretender{status.New(codes.OK, "fine")}, stream.Unknown, "pretends", stream.Rejected},
		"a status that is nil": {pretender{}, stream.Unknown, "pretends", stream.Rejected},
		"an end":               {EndWith(lost()), stream.DataLoss, "lost", ""},
		"a wrapped end":        {fmt.Errorf("so: %w", EndWith(lost())), stream.DataLoss, "so: rpc error: code = DataLoss desc = lost", stream.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			got := TrailerOf(test.err)
			require.Equal(t, test.code, got.Status.Code)
			require.Equal(t, test.message, got.Status.Message)
			require.Equal(t, string(test.reason), got.Metadata.Get(stream.ReasonKey))
			require.Nil(t, got.Status.Details)
			if test.err != nil {
				f := FailureOf(test.err)
				require.Equal(t, test.code, f.Code)
				require.Equal(t, test.message, f.Message)
				require.Equal(t, test.reason, f.Reason)
			}
		})
	}
}

// Details go to the client as the specification has them: with code and message.
func TestRefuseWithDetails(t *testing.T) {
	retry := &errdetails.ErrorInfo{Reason: "BUSY"}
	trailer := TrailerOf(Refuse(stream.RateLimited, stream.ResourceExhausted, "slow down", retry))
	var got spb.Status
	require.NoError(t, proto.Unmarshal(trailer.Status.Details, &got))
	require.Equal(t, int32(stream.ResourceExhausted), got.GetCode())
	require.Equal(t, "slow down", got.GetMessage())
	require.Len(t, got.GetDetails(), 1)
	m, err := got.GetDetails()[0].UnmarshalNew()
	require.NoError(t, err)
	require.True(t, proto.Equal(retry, m))
	require.Equal(t, string(stream.RateLimited), trailer.Metadata.Get(stream.ReasonKey))
}

// What grpc-go knows of a status with details gets through, and comes back out.
func TestDetailsOfStatuses(t *testing.T) {
	st, err := status.New(codes.NotFound, "none").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"})
	require.NoError(t, err)
	trailer := TrailerOf(st.Err())
	back := status.Convert(EndWith(trailer))
	require.True(t, proto.Equal(st.Proto(), back.Proto()), back)
	require.Nil(t, DetailsOf(status.New(codes.NotFound, "none").Proto()))

	trailer.Status.Details = []byte("nonsense")
	back = status.Convert(EndWith(trailer))
	require.Equal(t, codes.NotFound, back.Code())
	require.Equal(t, "none", back.Message())
}
