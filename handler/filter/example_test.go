package filter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

var (
	unaryCalls = filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Unary")
	chats      = filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Chat")
)

// The verdicts that need no more than the message.
func ExampleMethod_OnRequest() {
	tidy := chats.OnRequest(func(_ context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
		switch {
		case m.Message == "":
			return filter.Drop
		case len(m.Message) > 10:
			return filter.Reject(codes.InvalidArgument, "message %d is too long", c.Number())
		case m.Count != 0:
			m.Count = 0
			return filter.Changed
		}
		return filter.Forward
	})

	playRequests(tidy, &echo.EchoRequest{Message: "hello"}, &echo.EchoRequest{},
		&echo.EchoRequest{Message: "again", Count: 3}, &echo.EchoRequest{Message: "too much of it"})
	// Output:
	// hello: as it came
	// : nothing goes on
	// again: "again" with count 0
	// too much of it: the call ends with InvalidArgument "message 4 is too long" and messages: 0
}

// A status may have details, and trailers beside it.
func ExampleReject() {
	quota := &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "tenant 7"}}}
	limit := unaryCalls.OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict {
		return filter.Reject(codes.ResourceExhausted, "no calls left").
			WithDetails(quota).
			WithTrailer("retry-after", "60")
	})

	playRequests(limit, &echo.EchoRequest{Message: "hello"})
	// Output: hello: the call ends with ResourceExhausted "no calls left" and messages: 0
}

// The proxy answers by itself, and the backend is not asked.
func ExampleMethod_Answer() {
	known := map[string]string{"capital of France": "Paris"}
	cache := unaryCalls.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
		if text, ok := known[m.Message]; ok {
			return unaryCalls.Answer(&echo.EchoReply{Message: text, Sequence: 1}).WithHeader("x-cache", "hit")
		}
		return filter.Forward
	})

	playRequests(cache, &echo.EchoRequest{Message: "capital of Peru"}, &echo.EchoRequest{Message: "capital of France"})
	// Output:
	// capital of Peru: as it came
	// capital of France: the call ends with OK "" and messages: 1
}

// Further messages go before and after the one that came.
func ExampleMethod_WithRequests() {
	greet := chats.OnRequest(func(_ context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
		if c.Number() > 1 {
			return filter.Forward
		}
		greeting := []*echo.EchoRequest{{Message: "good morning"}}
		return chats.WithRequests(greeting, filter.Forward, nil)
	})

	playRequests(greet, &echo.EchoRequest{Message: "hello"}, &echo.EchoRequest{Message: "bye"})
	// Output:
	// hello: "good morning" with count 0, then as it came
	// bye: as it came
}

// The filters of a call share what they keep under a key.
func ExampleNewKey() {
	seen := filter.NewKey[map[string]bool]("texts that have come")
	once := chats.OnRequest(func(_ context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
		texts, ok := seen.Get(c)
		if !ok {
			texts = make(map[string]bool)
			seen.Set(c, texts)
		}
		if texts[m.Message] {
			return filter.Drop
		}
		texts[m.Message] = true
		return filter.Forward
	})

	playRequests(once, &echo.EchoRequest{Message: "hello"}, &echo.EchoRequest{Message: "hello"})
	// Output:
	// hello: as it came
	// hello: nothing goes on
}

// What a program gets wrong is told when it starts.
func ExampleNewSet() {
	services := []*filter.Service{filter.KitexService(echoservice.NewServiceInfo())}
	misspelled := filter.For[echo.EchoRequest, echo.EchoReply]("/kitexproxy.echo.v1.Echo/Unray")
	_, err := filter.NewSet(services, []*filter.Filter{misspelled.OnRequest(forwardAll)})
	fmt.Println(err)
	// Output:
	// filter github.com/kitexproxy/kitexproxy/handler/filter_test.forwardAll: no registered service has the method /kitexproxy.echo.v1.Echo/Unray that it is for; the service's methods are Chat, Collect, Expand, Unary
}

func forwardAll(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict {
	return filter.Forward
}

// playRequests takes the messages of one call through a filter, as a proxy does,
// and prints what it makes of each.
func playRequests(f *filter.Filter, messages ...*echo.EchoRequest) {
	set, err := filter.NewSet([]*filter.Service{filter.KitexService(echoservice.NewServiceInfo())}, []*filter.Filter{f})
	check(err)
	call := set.Chain(f.Method()).Begin(filter.CallInfo{Request: &stream.Request{Method: f.Method()}, Logger: slog.Default()})
	for _, m := range messages {
		b, err := m.Marshal(nil)
		check(err)
		out, err := call.Messages(context.Background(), filter.Request, b, nil)
		fmt.Printf("%s: %s\n", m.Message, outcome(out, err))
	}
}

// outcome says what goes on, or how the call ends.
func outcome(out []filter.Message, err error) string {
	var ended *filter.Ended
	if errors.As(err, &ended) {
		status := ended.Trailer.Status
		return fmt.Sprintf("the call ends with %v %q and messages: %d", codes.Code(status.Code), status.Message, len(ended.Messages))
	}
	check(err)
	if len(out) == 0 {
		return "nothing goes on"
	}
	var all []string
	for _, m := range out {
		all = append(all, describe(m))
	}
	return strings.Join(all, ", then ")
}

func describe(m filter.Message) string {
	if m.Original {
		return "as it came"
	}
	var changed echo.EchoRequest
	check(changed.Unmarshal(m.Payload))
	return fmt.Sprintf("%q with count %d", changed.Message, changed.Count)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
