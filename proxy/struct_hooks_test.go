package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// TestStructCallsEndedAtTheStart never reach a backend.
func TestStructCallsEndedAtTheStart(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			var filters []*filter.Filter
			for _, k := range structKinds {
				m := k.method()
				filters = append(filters, m.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict {
					switch c.Incoming().Get("what") {
					case "answer":
						return m.Answer(&echo.EchoReply{Message: "here"}).WithHeader("x-header", "1", "2").WithTrailer("x-trailer", "3")
					case "reject":
						return filter.Reject(codes.PermissionDenied, "you may not: ä\n%%").WithTrailer("x-trailer", "3")
					case "panic":
						panic("secret")
					}
					return filter.Forward
				}), m.OnRequest(func(_ context.Context, c *filter.Call, _ *echo.EchoRequest) filter.Verdict {
					return filter.Reject(codes.Unknown, "the call went on")
				}))
			}
			s := startStructAt(t, d, nil, filters...)
			for _, kind := range structKinds {
				for what, want := range map[string]struct {
					code    codes.Code
					message string
					reason  stream.Reason
					texts   []string
				}{
					"answer": {codes.OK, "", "", []string{"here"}},
					"reject": {codes.PermissionDenied, "you may not: ä\n%", stream.Rejected, []string{}},
					"panic":  {codes.Internal, "it panicked", stream.FilterFailed, []string{}},
				} {
					t.Run(kind.name+"/"+what, func(t *testing.T) {
						id := s.newID()
						end := s.exchange(s.safe("what", what, "call-id", id), kind, "a")
						require.Equal(t, want.code, end.code)
						require.Contains(t, end.message, want.message)
						require.NotContains(t, end.message, "secret")
						require.Equal(t, want.reason, end.reason)
						require.Equal(t, want.texts, end.texts)
						if what == "answer" {
							require.Equal(t, []string{"1", "2"}, end.header.Get("x-header"))
						}
						if what != "panic" {
							require.Equal(t, []string{"3"}, end.trailer.Get("x-trailer"))
						}
						require.Zero(t, s.backend.got(id).calls)
					})
				}
			}
			s.settles()
		})
	}
}

// TestStructCallsEndedAtTheHeader end instead of the response, with headers of the
// filter's own.
func TestStructCallsEndedAtTheHeader(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			var filters []*filter.Filter
			for _, k := range structKinds {
				m := k.method()
				filters = append(filters, m.OnHeader(func(_ context.Context, c *filter.Call) filter.Verdict {
					if c.Incoming().Get("what") == "reject" {
						return filter.Reject(codes.Aborted, "no")
					}
					return m.Answer(&echo.EchoReply{Message: "instead"}).WithHeader("x-header", "filter")
				}))
			}
			s := startStructAt(t, d, nil, filters...)
			s.backend.does(func(ss grpc.ServerStream) error {
				_ = ss.SendHeader(metadata.Pairs("x-header", "backend"))
				return s.backend.echo(ss)
			})
			for _, kind := range structKinds {
				t.Run(kind.name, func(t *testing.T) {
					end := s.exchange(s.safe("what", "answer"), kind, "a")
					require.Equal(t, codes.OK, end.code, end.message)
					require.Equal(t, []string{"instead"}, end.texts)
					require.Equal(t, []string{"filter"}, end.header.Get("x-header"))

					end = s.exchange(s.safe("what", "reject"), kind, "a")
					require.Equal(t, codes.Aborted, end.code)
					require.Empty(t, end.texts)
					require.Empty(t, end.header.Get("x-header"))
				})
			}
			s.settles()
		})
	}
}

// ends notes how calls end, by their id.
type ends struct {
	mu  sync.Mutex
	all map[string][]filter.End
}

// filters returns filters of the end of all kinds that note it, and change it as
// the call asks for.
func (e *ends) filters() (all []*filter.Filter) {
	for _, k := range structKinds {
		all = append(all, k.method().OnEnd(func(_ context.Context, c *filter.Call, end *filter.End) {
			e.mu.Lock()
			defer e.mu.Unlock()
			id := c.Incoming().Get("call-id")
			e.all[id] = append(e.all[id], *end)
			if c.Incoming().Get("change") != "" {
				end.Code, end.Message = codes.DataLoss, "changed"
				_ = c.ResponseTrailer().Set("x-end", "changed")
			}
		}))
	}
	return all
}

func (e *ends) of(id string) []filter.End {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[id]
}

// TestStructEnds: however a call ends, its filters of the end are asked exactly
// once, learn how, and may change that unless it has been aborted.
func TestStructEnds(t *testing.T) {
	detailed := status.New(codes.FailedPrecondition, "the backend's")
	detailed, err := detailed.WithDetails(&errdetails.ErrorInfo{Reason: "because"})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		backend func(ss grpc.ServerStream) error
		first   string // the first message, "a" if it is ""
		cancel  bool   // once the backend has been asked
		code    codes.Code
		message string
		reason  stream.Reason
		aborted bool // it has been ended before the filters learn of it
		// chance says that it may have been, or not.
		chance bool
	}{
		"well": {code: codes.OK},
		"the backend fails": {
			backend: func(grpc.ServerStream) error { return detailed.Err() }, code: codes.FailedPrecondition, message: "the backend's",
		},
		"the backend fails later": {
			backend: func(ss grpc.ServerStream) error { return errors.Join(structSend(ss, "a"), detailed.Err()) },
			code:    codes.FailedPrecondition, message: "the backend's",
		},
		"cancelled": {
			backend: structHang, aborted: true, code: codes.Canceled, message: "cancelled by the client", reason: stream.ClientCanceled,
			cancel: true,
		},
		"a request rejected":        {first: "reject request", code: codes.Aborted, message: "no", reason: stream.Rejected},
		"a response rejected":       {first: "reject response", code: codes.Aborted, message: "no", reason: stream.Rejected},
		"answered":                  {first: "answer", code: codes.OK},
		"a filter panics":           {first: "panic", code: codes.Internal, message: "it panicked", reason: stream.FilterFailed, chance: true},
		"a message of another type": {first: "\xff", code: codes.Internal, message: "it is no echo.EchoRequest", reason: stream.Undecodable, chance: true},
	} {
		for door, d := range structDoors {
			t.Run(name+"/"+door, func(t *testing.T) {
				e := &ends{all: make(map[string][]filter.End)}
				filters := e.filters()
				for _, k := range structKinds {
					m := k.method()
					filters = append(filters, m.OnRequest(func(_ context.Context, _ *filter.Call, r *echo.EchoRequest) filter.Verdict {
						switch r.Message {
						case "reject request":
							return filter.Reject(codes.Aborted, "no")
						case "answer":
							return m.Answer(&echo.EchoReply{})
						case "panic":
							panic("secret")
						}
						return filter.Forward
					}), m.OnResponse(func(_ context.Context, _ *filter.Call, r *echo.EchoReply) filter.Verdict {
						if strings.HasPrefix(r.Message, "reject response") {
							return filter.Reject(codes.Aborted, "no")
						}
						return filter.Forward
					}))
				}
				s := startStructAt(t, d, nil, filters...)
				s.backend.does(test.backend)
				for _, kind := range structKinds {
					for _, change := range []string{"", "yes"} {
						id := s.newID()
						ctx, cancel := context.WithCancel(s.safe("call-id", id, "change", change))
						defer cancel()
						call := s.open(ctx, kind)
						b := structText(test.first)
						switch test.first {
						case "":
							b = structText("a")
						case "\xff":
							b = []byte("\xff")
						}
						if err := call.SendMsg(&b); err != nil {
							require.ErrorContains(t, err, "EOF") // it has ended already
						}
						if test.cancel {
							require.Eventually(t, func() bool { return s.backend.got(id).calls > 0 }, faultSafety, time.Millisecond)
							cancel()
						}
						end := call.end()
						s.settles()
						got := e.of(id)
						require.Len(t, got, 1, "%s", kind.name)
						require.Equal(t, test.code, got[0].Code, "%s: %v", kind.name, got[0])
						require.Contains(t, got[0].Message, test.message)
						require.Equal(t, string(test.reason), got[0].Reason)
						if change == "" || test.aborted || test.chance && end.code == test.code {
							require.Equal(t, test.code, end.code, end.message)
							require.Empty(t, end.trailer.Get("x-end"))
							continue
						}
						require.Equal(t, codes.DataLoss, end.code, end.message)
						require.Equal(t, "changed", end.message)
						require.Equal(t, []string{"changed"}, end.trailer.Get("x-end"))
						if test.backend != nil {
							require.Len(t, end.status.Details(), 1, "details stay, and say the new code")
							require.True(t, proto.Equal(&errdetails.ErrorInfo{Reason: "because"}, end.status.Details()[0].(proto.Message)))
						}
					}
				}
			})
		}
	}
}

func structHang(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return ss.Context().Err()
}

// TestStructEndOfADeadline is asked of a client that does not cancel its call when
// its deadline passes.
func TestStructEndOfADeadline(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			e := &ends{all: make(map[string][]filter.End)}
			// Not grpc-go's, which ends the call at the deadline by itself.
			backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) { _, _ = s.AwaitReset(s.Context()) })
			s := startStructAt(t, d, to(backend), e.filters()...)
			client, err := rawh2.Dial(s.safe(), s.addr, rawh2.Options{})
			require.NoError(t, err)
			t.Cleanup(client.Close)
			for _, kind := range structKinds {
				id := s.newID()
				fields := append(rawh2.RequestFields(kind.full(), s.addr), rawh2.F("grpc-timeout", "20m"), rawh2.F("call-id", id))
				call, err := client.NewStream(fields, false)
				require.NoError(t, err)
				require.NoError(t, call.Data(rawh2.Frame(0, structText("a")), true))
				reply, err := call.AwaitReply(s.safe())
				require.NoError(t, err)
				require.Equal(t, "4", reply.Trailer.Get("grpc-status"))
				s.settles()
				require.Len(t, e.of(id), 1)
				require.Equal(t, codes.DeadlineExceeded, e.of(id)[0].Code)
				require.Equal(t, string(stream.DeadlinePassed), e.of(id)[0].Reason)
			}
		})
	}
}

// TestStructEndOfAnUnreachableBackend is one, too.
func TestStructEndOfAnUnreachableBackend(t *testing.T) {
	e := &ends{all: make(map[string][]filter.End)}
	s := startStructAt(t, structDoor{transport: faultConfig("").Transport}, func(cfg *conf.Config) {
		cfg.Clusters["default"].Instances = []string{loopback.Free(t)}
	}, e.filters()...)
	for _, kind := range structKinds {
		id := s.newID()
		end := s.exchange(s.safe("call-id", id), kind, "a")
		require.Equal(t, codes.Unavailable, end.code)
		require.Len(t, e.of(id), 1)
		require.Equal(t, codes.Unavailable, e.of(id)[0].Code)
		require.Equal(t, string(stream.BackendUnreachable), e.of(id)[0].Reason)
	}
}

// TestStructEndIsBehindTheMessages: status and half-close keep their place behind
// what filters let through and add.
func TestStructEndIsBehindTheMessages(t *testing.T) {
	const n = 200
	twice := func(text string) []string { return []string{text + "+"} }
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(
				t, d, nil,
				structChat.OnRequest(func(_ context.Context, _ *filter.Call, m *echo.EchoRequest) filter.Verdict {
					return structChat.WithRequests(nil, filter.Forward, structRequests(twice(m.Message)))
				}),
				structChat.OnResponse(func(_ context.Context, _ *filter.Call, m *echo.EchoReply) filter.Verdict {
					return structChat.WithResponses(structReplies(twice(m.Message)), filter.Drop, nil)
				}),
			)
			s.backend.does(func(ss grpc.ServerStream) error {
				if err := s.backend.echo(ss); err != nil {
					return err
				}
				return status.Error(codes.NotFound, "behind them all")
			})
			var sent, got, want []string
			for i := range n {
				text := fmt.Sprint(i)
				sent = append(sent, text)
				got = append(got, text, text+"+")
				want = append(want, text+"+", text+"++")
			}
			id := s.newID()
			end := s.exchange(s.safe("call-id", id), structKinds[3], sent...)
			require.Equal(t, codes.NotFound, end.code)
			require.Equal(t, "behind them all", end.message)
			require.Equal(t, want, end.texts)
			require.Equal(t, got, s.backend.got(id).texts)
		})
	}
}

// TestStructClusters: filters may choose the cluster until the backend is asked.
func TestStructClusters(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			var filters []*filter.Filter
			choose := func(c *filter.Call, where string) filter.Verdict {
				to := c.Incoming().Get(where)
				if to == "" {
					return filter.Forward
				}
				if err := c.SetCluster(to); err != nil {
					return filter.Reject(codes.Unavailable, "%v", err)
				}
				if err := c.RequestHeader().Set("x-chosen", where); err != nil {
					return filter.Reject(codes.Unavailable, "%v", err)
				}
				return filter.Forward
			}
			for _, k := range structKinds {
				m := k.method()
				filters = append(
					filters,
					m.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict { return choose(c, "start") }),
					m.OnRequest(func(_ context.Context, c *filter.Call, _ *echo.EchoRequest) filter.Verdict {
						return choose(c, "request")
					}),
					m.OnResponse(func(_ context.Context, c *filter.Call, _ *echo.EchoReply) filter.Verdict {
						return choose(c, "response")
					}),
				)
			}
			s := startStructAt(t, d, nil, filters...)
			for _, kind := range structKinds {
				for _, where := range []string{"start", "request", "response"} {
					t.Run(kind.name+"/"+where, func(t *testing.T) {
						id := s.newID()
						end := s.exchange(s.safe("call-id", id, where, "other"), kind, "a")
						if where == "response" || where == "request" && kind.clientStreams {
							require.Equal(t, codes.Unavailable, end.code)
							require.Contains(t, end.message, filter.ErrSent.Error())
							require.Zero(t, s.other.got(id).calls)
							return
						}
						require.Equal(t, codes.OK, end.code, end.message)
						require.Equal(t, 1, s.other.got(id).calls)
						require.Equal(t, []string{where}, s.other.got(id).head.Get("x-chosen"))
						require.Zero(t, s.backend.got(id).calls)

						id = s.newID()
						end = s.exchange(s.safe("call-id", id, where, "nowhere"), kind, "a")
						require.Equal(t, codes.Internal, end.code)
						require.Equal(t, stream.FilterFailed, end.reason)
						require.Contains(t, end.message, kind.full()+`: a filter has chosen cluster "nowhere", which is not configured`)
						require.Zero(t, s.backend.got(id).calls)
					})
				}
			}
			s.settles()
		})
	}
}

// TestStructStateOfACall: what a filter keeps for its call is there at its other
// points, and nowhere else.
func TestStructStateOfACall(t *testing.T) {
	key := filter.NewKey[*strings.Builder]("log")
	note := func(c *filter.Call, what string) filter.Verdict {
		log, ok := key.Get(c)
		if !ok {
			log = new(strings.Builder)
			key.Set(c, log)
		}
		log.WriteString(what)
		return filter.Forward
	}
	s := startStruct(
		t,
		structUnary.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict { return note(c, "start ") }),
		structUnary.OnRequest(func(_ context.Context, c *filter.Call, m *echo.EchoRequest) filter.Verdict {
			return note(c, m.Message+" ")
		}),
		structUnary.OnHeader(func(_ context.Context, c *filter.Call) filter.Verdict { return note(c, "header ") }),
		structUnary.OnResponse(func(_ context.Context, c *filter.Call, _ *echo.EchoReply) filter.Verdict { return note(c, "response") }),
		structUnary.OnEnd(func(_ context.Context, c *filter.Call, _ *filter.End) {
			log, _ := key.Get(c)
			_ = c.ResponseTrailer().Set("x-log", log.String())
		}),
	)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := fmt.Sprint("call", i)
			call, err := s.client.NewStream(s.safe(), &grpc.StreamDesc{}, structKinds[0].full())
			b := structText(text)
			if err == nil {
				err = errors.Join(call.SendMsg(&b), call.CloseSend(), call.RecvMsg(&b))
			}
			if err != nil {
				t.Error(err)
				return
			}
			if got := call.Trailer().Get("x-log"); len(got) != 1 || got[0] != "start "+text+" header response" {
				t.Errorf("%s: %q", text, got)
			}
		})
	}
	all.Wait()
}
