package filter

import (
	"context"
	"io"
	"log/slog"
	"net"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// The methods of the echo service, one for each call kind.
const (
	unaryName   = "/kitexproxy.echo.v1.Echo/Unary"
	collectName = "/kitexproxy.echo.v1.Echo/Collect"
	expandName  = "/kitexproxy.echo.v1.Echo/Expand"
	chatName    = "/kitexproxy.echo.v1.Echo/Chat"
)

var (
	unary = For[echo.EchoRequest, echo.EchoReply](unaryName)
	chat  = For[echo.EchoRequest, echo.EchoReply](chatName)
)

var echoService = KitexService(echosvc.NewServiceInfo())

// chainOf returns the chain of a method of the echo service.
func chainOf(t testing.TB, method string, filters ...*Filter) *Chain {
	t.Helper()
	set, err := NewSet([]*Service{echoService}, filters)
	require.NoError(t, err)
	chain := set.Chain(method)
	require.NotNil(t, chain)
	return chain
}

// begin returns a call of a chain.
func begin(ch *Chain, metadata ...stream.Field) *Run {
	return ch.Begin(CallInfo{
		Request: &stream.Request{Method: ch.Method(), Authority: "authority", Metadata: metadata},
		Peer:    &net.TCPAddr{Port: 1}, Cluster: "cluster", Route: "routes[0]",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// runOf returns a call of a method with these filters.
func runOf(t testing.TB, method string, filters ...*Filter) *Run {
	t.Helper()
	return begin(chainOf(t, method, filters...))
}

func request(message string) *echo.EchoRequest { return &echo.EchoRequest{Message: message} }
func reply(message string) *echo.EchoReply     { return &echo.EchoReply{Message: message} }

// encoded returns the bytes of a request or reply.
func encoded(message string) []byte {
	b, err := request(message).Marshal(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// texts are what a message that filters let through says; "=" before it tells
// that it goes as it came.
func texts(t testing.TB, came string, out []Message) []string {
	t.Helper()
	all := []string{}
	for _, m := range out {
		if m.Original {
			require.Nil(t, m.Payload)
			all = append(all, "="+came)
			continue
		}
		var r echo.EchoReply
		require.NoError(t, r.Unmarshal(m.Payload))
		all = append(all, r.Message)
	}
	return all
}

// pass takes a message of a direction through the filters of r.
func passed(t testing.TB, r *Run, d Direction, came string) ([]string, error) {
	t.Helper()
	out, err := r.Messages(t.Context(), d, encoded(came), nil)
	return texts(t, came, out), err
}

// requireMistake checks that err ends a call with INTERNAL because a filter has
// done something of no sense.
func requireMistake(t testing.TB, err error, what string) {
	t.Helper()
	var f *stream.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, stream.FilterFailed, f.Reason)
	require.Equal(t, stream.Internal, f.Code)
	require.Contains(t, f.Message, what)
}

// requireEnded checks that err ends a call as a filter wants it.
func requireEnded(t testing.TB, err error) *Ended {
	t.Helper()
	var e *Ended
	require.ErrorAs(t, err, &e)
	return e
}

// deciding returns a filter of a method of the echo service that always decides
// the same.
func deciding(method string, at Point, v Verdict) *Filter {
	m := For[echo.EchoRequest, echo.EchoReply](method)
	switch at {
	case AtStart:
		return m.OnStart(func(context.Context, *Call) Verdict { return v })
	case AtRequest:
		return m.OnRequest(func(context.Context, *Call, *echo.EchoRequest) Verdict { return v })
	case AtHeader:
		return m.OnHeader(func(context.Context, *Call) Verdict { return v })
	default:
		return m.OnResponse(func(context.Context, *Call, *echo.EchoReply) Verdict { return v })
	}
}

func typeFor[T any]() reflect.Type { return reflect.TypeFor[T]() }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
