package limit

import (
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

const method = "/echo.Echo/Say"

// call is one of a client that nobody knows.
func call(from string, fields ...stream.Field) *intercept.Call {
	return callOf(method, from, fields...)
}

func callOf(method, from string, fields ...stream.Field) *intercept.Call {
	addr, err := net.ResolveTCPAddr("tcp", from)
	if err != nil {
		panic(err)
	}
	return intercept.Begin(nil, intercept.Info{
		Request: &stream.Request{Method: method, Metadata: fields}, Peer: addr, Logger: slog.New(slog.DiscardHandler),
	})
}

func identified(kind, name string) *intercept.Call {
	c := call("192.0.2.1:1")
	c.SetIdentity(intercept.Identity{Kind: kind, Name: name})
	return c
}

func tenant(name string) *intercept.Call {
	return call("192.0.2.1:1", stream.Field{Key: "x-tenant", Value: name})
}

// end ends calls, as their clients see it with OK.
func end(calls ...*intercept.Call) {
	for _, c := range calls {
		c.End(&stream.Trailer{})
	}
}

func request(c *intercept.Call) error {
	return c.Message(intercept.Message{Direction: filter.Request, Length: 1})
}

// limited asks that a call has been ended by a limit.
func limited(t testing.TB, err error) *stream.Failure {
	t.Helper()
	var f *stream.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, stream.ResourceExhausted, f.Code)
	require.Equal(t, stream.RateLimited, f.Reason)
	return f
}

// retryInfo returns what the details of a status say.
func retryInfo(t testing.TB, f *stream.Failure) *errdetails.RetryInfo {
	t.Helper()
	var status spb.Status
	require.NoError(t, proto.Unmarshal(f.Details, &status))
	require.Equal(t, int32(f.Code), status.GetCode())
	require.Equal(t, f.Message, status.GetMessage())
	require.Len(t, status.GetDetails(), 1)
	info := &errdetails.RetryInfo{}
	require.NoError(t, status.GetDetails()[0].UnmarshalTo(info))
	return info
}
