// Package filter is what a Go developer writes against to look into calls:
// functions on the generated types of a method's messages, and hooks for the
// call's start, its response headers and its end.
//
// Functions are made into Filters by the Method they are for, which has the
// types of its messages:
//
//	var unary = filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Unary")
//
//	unary.OnRequest(func(ctx context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
//		m.Message = strings.ToUpper(m.Message)
//		return filter.Changed
//	})
//
// A message may be of a type that `go tool kitex` generates, or a proto.Message
// of google.golang.org/protobuf. The filters of a method run in the order in
// which they were given; each sees what the ones before it let through. A Set
// holds the filters of a proxy and the services they are checked against.
//
// In each direction of a call one function runs at a time; the two directions
// of a stream run beside each other. A function that takes its time holds up
// its own stream, and one that panics, or ends its goroutine (runtime.Goexit, as
// require.FailNow does in a test), ends its own call with INTERNAL.
package filter
