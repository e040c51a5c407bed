package proxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// gate is a filter that is held up where its message says so, until it is opened
// or its call ends.
type gate struct {
	reached chan struct{} // one for each call that is held up
	opened  chan struct{} // close it
	ended   chan error    // why the call ended instead
}

func newGate() *gate {
	return &gate{reached: make(chan struct{}, 10), opened: make(chan struct{}), ended: make(chan error, 10)}
}

func (g *gate) pass(ctx context.Context, text string) filter.Verdict {
	if text != "wait" {
		return filter.Forward
	}
	g.reached <- struct{}{}
	select {
	case <-g.opened:
	case <-ctx.Done():
		g.ended <- ctx.Err()
	}
	return filter.Forward
}

// filter returns the filter for a direction of a kind of calls.
func (g *gate) filter(k structKind, d filter.Direction) *filter.Filter {
	if d == filter.Request {
		return k.method().OnRequest(func(ctx context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
			return g.pass(ctx, m.Message)
		})
	}
	return k.method().OnResponse(func(ctx context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
		return g.pass(ctx, m.Message)
	})
}

// structAwait waits for an event of a test.
func structAwait[T any](t testing.TB, events <-chan T, what string) (event T) {
	t.Helper()
	select {
	case event = <-events:
	case <-time.After(faultSafety):
		require.Fail(t, "waited in vain", what)
	}
	return event
}

var structDirections = []filter.Direction{filter.Request, filter.Response}

// TestStructSlowFilterHoldsUpItsOwnStream: another stream on the same connection
// goes on, in both directions.
func TestStructSlowFilterHoldsUpItsOwnStream(t *testing.T) {
	for door, d := range structDoors {
		for _, direction := range structDirections {
			t.Run(fmt.Sprint(door, "/", direction), func(t *testing.T) {
				g := newGate()
				s := startStructAt(t, d, nil, g.filter(structKinds[3], direction))
				slow, other := s.open(s.safe(), structKinds[3]), s.open(s.safe(), structKinds[3])
				slow.say("a")
				require.Equal(t, "a", slow.hear())
				slow.say("wait", "b")
				structAwait(t, g.reached, "the filter is asked")
				for i := range 100 {
					other.say(fmt.Sprint(i))
					require.Equal(t, fmt.Sprint(i), other.hear())
				}
				require.Equal(t, codes.OK, other.end().code)
				require.Equal(t, codes.OK, s.exchange(s.safe(), structKinds[0], "a").code)
				close(g.opened)
				end := slow.end()
				require.Equal(t, codes.OK, end.code, end.message)
				require.Equal(t, []string{"wait", "b"}, end.texts)
				s.settles()
			})
		}
	}
}

// TestStructSlowFilterHoldsUpNothingBeforeIt: what it has let through, and the head
// of the response, arrive while it looks at the next message, even if all came at
// once.
func TestStructSlowFilterHoldsUpNothingBeforeIt(t *testing.T) {
	both := append(rawh2.Frame(0, structText("a")), rawh2.Frame(0, structText("wait"))...)
	t.Run("response", func(t *testing.T) {
		g := newGate()
		backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
			if _, err := s.AwaitEndStream(s.Context()); err == nil {
				_ = s.Headers(rawh2.ResponseFields(), false)
				_ = s.Data(both, false)
				_ = s.Trailers(rawh2.F("grpc-status", "0"))
			}
		})
		s := startStructAt(t, structDoor{transport: faultConfig("").Transport}, to(backend), g.filter(structKinds[3], filter.Response))
		call := s.open(s.safe(), structKinds[3])
		require.NoError(t, call.CloseSend())
		structAwait(t, g.reached, "the filter is asked")
		require.Equal(t, "a", call.hear())
		close(g.opened)
		require.Equal(t, []string{"wait"}, call.rest().texts)
	})
	t.Run("head of the response", func(t *testing.T) {
		g := newGate()
		backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
			if _, err := s.AwaitEndStream(s.Context()); err == nil {
				_ = s.Headers(append(rawh2.ResponseFields(), rawh2.F("x-head", "here")), false)
				_ = s.Data(rawh2.Frame(0, structText("wait")), false)
				_ = s.Trailers(rawh2.F("grpc-status", "0"))
			}
		})
		s := startStructAt(t, structDoor{transport: faultConfig("").Transport}, to(backend), g.filter(structKinds[2], filter.Response))
		call := s.open(s.safe(), structKinds[2])
		require.NoError(t, call.CloseSend())
		structAwait(t, g.reached, "the filter is asked")
		head, err := call.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"here"}, head.Get("x-head"))
		close(g.opened)
		require.Equal(t, []string{"wait"}, call.rest().texts)
	})
	t.Run("request", func(t *testing.T) {
		g := newGate()
		arrived := make(chan []byte, 1)
		backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
			data, _, err := s.NextData(s.Context())
			if err == nil {
				arrived <- data
				_, _ = s.AwaitEndStream(s.Context())
				_ = s.OK(nil)
			}
		})
		s := startStructAt(t, structDoor{transport: faultConfig("").Transport}, to(backend), g.filter(structKinds[3], filter.Request))
		client, err := rawh2.Dial(s.safe(), s.addr, rawh2.Options{})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		call, err := client.NewStream(rawh2.RequestFields(structKinds[3].full(), s.addr), false)
		require.NoError(t, err)
		require.NoError(t, call.Data(both, false))
		structAwait(t, g.reached, "the filter is asked")
		require.Equal(t, rawh2.Frame(0, structText("a")), structAwait(t, arrived, "the message before"))
		close(g.opened)
		require.NoError(t, call.Data(nil, true))
		reply, err := call.AwaitReply(s.safe())
		require.NoError(t, err)
		require.Equal(t, "0", reply.Trailer.Get("grpc-status"))
	})
}

// to sends calls to a backend that is no server of grpc-go.
func to(backend *rawh2.Server) func(*conf.Config) {
	return func(cfg *conf.Config) { cfg.Clusters["default"].Instances = []string{backend.Addr()} }
}

// TestStructFilterOfACallThatIsOver: a filter that waits learns from its context
// that the call has ended, however that was.
func TestStructFilterOfACallThatIsOver(t *testing.T) {
	for door, d := range structDoors {
		for _, direction := range structDirections {
			for name, test := range map[string]struct {
				end  func(s *structProxy, cancel func()) // ends the call
				code codes.Code
			}{
				"cancelled":     {func(_ *structProxy, cancel func()) { cancel() }, codes.Canceled},
				"shut down":     {func(s *structProxy, _ func()) { s.stop() }, codes.Unavailable},
				"route timeout": {func(*structProxy, func()) {}, codes.DeadlineExceeded},
			} {
				t.Run(fmt.Sprint(door, "/", direction, "/", name), func(t *testing.T) {
					g, ends := newGate(), make(chan filter.End, 1)
					s := startStructAt(t, d, func(cfg *conf.Config) {
						cfg.Timeouts.Shutdown = conf.Duration(time.Millisecond)
						if name == "route timeout" {
							cfg.Routes[0].Timeout = conf.Duration(arrivalTime / 2) // of many
						}
					}, g.filter(structKinds[3], direction), structChat.OnEnd(func(_ context.Context, _ *filter.Call, end *filter.End) { ends <- *end }))
					ctx, cancel := context.WithCancel(s.safe())
					defer cancel()
					call := s.open(ctx, structKinds[3])
					call.say("wait")
					structAwait(t, g.reached, "the filter is asked")
					test.end(s, cancel)
					structAwait(t, g.ended, "the filter's context ends")
					learned := structAwait(t, ends, "the call's end")
					require.Equal(t, test.code, learned.Code, "%v", learned)
					end := call.rest()
					require.Equal(t, test.code, end.code, "%s: %s", end.reason, end.message)
					s.settles()
				})
			}
		}
	}
}

// TestStructFilterSeesTheDeadline of the client.
func TestStructFilterSeesTheDeadline(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			seen := make(chan time.Time, 10)
			see := func(ctx context.Context) filter.Verdict {
				at, _ := ctx.Deadline()
				seen <- at
				return filter.Forward
			}
			s := startStructAt(t, d, nil,
				structChat.OnStart(func(ctx context.Context, _ *filter.Call) filter.Verdict { return see(ctx) }),
				structChat.OnRequest(func(ctx context.Context, _ *filter.Call, _ *echo.EchoRequest) filter.Verdict { return see(ctx) }),
				structChat.OnHeader(func(ctx context.Context, _ *filter.Call) filter.Verdict { return see(ctx) }),
				structChat.OnResponse(func(ctx context.Context, _ *filter.Call, _ *echo.EchoReply) filter.Verdict { return see(ctx) }),
				structChat.OnEnd(func(ctx context.Context, _ *filter.Call, _ *filter.End) { see(ctx) }),
			)
			ctx, cancel := context.WithTimeout(s.safe(), time.Hour)
			defer cancel()
			want, _ := ctx.Deadline()
			require.Equal(t, codes.OK, s.exchange(ctx, structKinds[3], "a").code)
			require.Len(t, seen, 5)
			for range 5 {
				require.WithinDuration(t, want, <-seen, faultSafety) // less what it was under way
			}
		})
	}
}

// TestStructRejectionReachesTheBackend at once, even if the client does not read
// what has been written for it; the client gets all that, and then the status.
func TestStructRejectionReachesTheBackend(t *testing.T) {
	for door, d := range structDoors {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprint(door, "/answered: ", answered), func(t *testing.T) {
				s := startStructAt(t, d, nil, structChat.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
					switch {
					case m.Message != "stop":
						return filter.Forward
					case answered:
						return structChat.Answer(&echo.EchoReply{Message: "last"})
					}
					return filter.Reject(codes.Aborted, "stop")
				}))
				full := make(chan struct{})
				s.backend.does(func(ss grpc.ServerStream) error { return structFlood(ss, full) })
				call := s.open(s.safe(), structKinds[3])
				call.say("go")
				structAwait(t, full, "nobody takes any more")
				call.say("stop")
				require.Error(t, structAwait(t, s.backend.ended, "the backend's call ends"))
				end := call.rest()
				if answered {
					require.Equal(t, codes.OK, end.code, end.message)
					last := len(end.texts) - 1
					require.Equal(t, "last", end.texts[last])
					end.texts = end.texts[:last]
				} else {
					require.Equal(t, codes.Aborted, end.code, end.message)
					require.Equal(t, stream.Rejected, end.reason)
				}
				for i, text := range end.texts {
					require.Equal(t, structFloodText(i), text)
				}
				s.settles()
			})
		}
	}
}

// structFlood sends until the stream ends, and closes full once that takes time.
func structFlood(ss grpc.ServerStream, full chan<- struct{}) error {
	sent := make(chan struct{}, 1)
	go func() { // ends when nothing has been sent for a while, or the stream ends
		for {
			select {
			case <-sent:
			case <-time.After(100 * time.Millisecond): // nothing tells of a window that is used up
				close(full)
				return
			}
		}
	}()
	for i := 0; ; i++ {
		if err := structSend(ss, structFloodText(i)); err != nil {
			return err
		}
		select {
		case sent <- struct{}{}:
		default:
		}
	}
}

func structFloodText(i int) string { return fmt.Sprintf("%08d%01000d", i, 0) }
