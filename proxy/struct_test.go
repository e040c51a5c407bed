package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// structDecisions are what filters may decide about a message.
var structDecisions = []string{"forward", "changed", "drop", "before", "behind", "answer", "reject", "panic"}

// structDeciders are filters of the messages of all methods that do with those
// whose text begins with "do:" what comes then, if the call asks them to.
func structDeciders() (all []*filter.Filter) {
	asked := func(c *filter.Call, text string) string {
		what, isOne := strings.CutPrefix(text, "do:")
		if !isOne || c.Incoming().Get("direction") != c.Direction().String() {
			return "forward"
		}
		return what
	}
	rejection := filter.Reject(codes.Aborted, "not %s", "this").
		WithDetails(&errdetails.ErrorInfo{Reason: "because"}).WithTrailer("x-why", "so").WithTrailer("x-why-bin", "\x00\xff")
	for _, k := range structKinds {
		m := k.method()
		decide := func(text *string, around func(before, behind []string, v filter.Verdict) filter.Verdict, what string) filter.Verdict {
			switch what {
			case "changed":
				*text = "changed"
				return filter.Changed
			case "drop":
				return filter.Drop
			case "before":
				return around([]string{"<", "<<"}, nil, filter.Forward)
			case "behind":
				return around(nil, []string{">", ">>"}, filter.Forward)
			case "answer":
				if k.serverStreams {
					return m.Answer(&echo.EchoReply{Message: "x"}, &echo.EchoReply{Message: "y"}).WithTrailer("x-by", "filter")
				}
				return m.Answer(&echo.EchoReply{Message: "x"}).WithTrailer("x-by", "filter")
			case "reject":
				return rejection
			case "panic":
				panic("secret")
			}
			return filter.Forward
		}
		all = append(
			all,
			m.OnRequest(func(_ context.Context, c *filter.Call, r *echo.EchoRequest) filter.Verdict {
				return decide(&r.Message, func(before, behind []string, v filter.Verdict) filter.Verdict {
					return m.WithRequests(structRequests(before), v, structRequests(behind))
				}, asked(c, r.Message))
			}),
			m.OnResponse(func(_ context.Context, c *filter.Call, r *echo.EchoReply) filter.Verdict {
				return decide(&r.Message, func(before, behind []string, v filter.Verdict) filter.Verdict {
					return m.WithResponses(structReplies(before), v, structReplies(behind))
				}, asked(c, r.Message))
			}),
		)
	}
	return all
}

func structRequests(texts []string) (all []*echo.EchoRequest) {
	for _, text := range texts {
		all = append(all, &echo.EchoRequest{Message: text})
	}
	return all
}

func structReplies(texts []string) (all []*echo.EchoReply) {
	for _, text := range texts {
		all = append(all, &echo.EchoReply{Message: text})
	}
	return all
}

// structDecided says, simply, what becomes of messages when the one whose text is
// what was decided on: what goes on, and whether the call ends then.
func structDecided(texts []string, what, decision string) (on []string, ends bool) {
	on = []string{}
	for _, text := range texts {
		if text != what {
			on = append(on, text)
			continue
		}
		switch decision {
		case "forward":
			on = append(on, text)
		case "changed":
			on = append(on, "changed")
		case "drop":
		case "before":
			on = append(on, "<", "<<", text)
		case "behind":
			on = append(on, text, ">", ">>")
		default:
			return on, true
		}
	}
	return on, false
}

// TestStructDecisions: every decision, in every kind of call, in both directions
// and through every door.
func TestStructDecisions(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(t, d, nil, structDeciders()...)
			for _, kind := range structKinds {
				for _, direction := range []filter.Direction{filter.Request, filter.Response} {
					for _, decision := range structDecisions {
						t.Run(fmt.Sprint(kind.name, "/", direction, "/", decision), func(t *testing.T) {
							s.decides(t, kind, direction, decision)
						})
					}
				}
			}
			s.settles()
		})
	}
}

// decides makes a call for a decision and compares what got to both ends with what
// should have.
func (s *structProxy) decides(t *testing.T, kind structKind, direction filter.Direction, decision string) {
	what := "do:" + decision
	requests := []string{what}
	if kind.clientStreams {
		requests = []string{"a", what, "b"}
	}
	if kind.name == "Collect" && direction == filter.Response {
		requests = []string{"do:", decision} // which it joins
	}
	id := s.newID()
	s.backend.does(func(ss grpc.ServerStream) error {
		if kind.name == "Expand" { // with numbers behind them, the texts would be others
			return s.backend.expandAround(ss)
		}
		return s.backend.echo(ss)
	})
	call := structCall{t, s.open(s.safe("direction", direction.String(), "call-id", id), kind).ClientStream}
	var first []string
	for i, text := range requests {
		call.say(text)
		if kind.name == "Chat" && i == 0 {
			first = append(first, call.hear()) // has come before anything is decided
		}
	}
	end := call.end()
	end.texts = append(first, end.texts...)

	// What should have happened.
	sent, endsByRequest := requests, false
	if direction == filter.Request {
		sent, endsByRequest = structDecided(requests, what, decision)
	}
	var replies []string
	switch kind.name {
	case "Unary", "Collect":
		replies = []string{strings.Join(sent, "")}
	case "Expand":
		replies = []string{"a", strings.Join(sent, ""), "b"}
	default:
		replies = sent
	}
	endsByResponse := false
	if direction == filter.Response {
		replies, endsByResponse = structDecided(replies, what, decision)
	}
	code, reason := codes.OK, stream.Reason("")
	one := direction == filter.Request && !kind.clientStreams || direction == filter.Response && !kind.serverStreams
	switch {
	case decision == "panic":
		code, reason = codes.Internal, stream.FilterFailed
	case decision == "reject":
		code, reason = codes.Aborted, stream.Rejected
	case one && decision == "drop":
		code, reason = codes.Internal, stream.MessageDropped
	case one && (decision == "before" || decision == "behind"):
		code, reason = codes.Internal, stream.FilterFailed
	}
	failed := code != codes.OK

	require.Equal(t, code, end.code, "%s", end.message)
	require.Equal(t, reason, end.reason)
	require.NotContains(t, end.message, "secret")
	if failed || endsByRequest {
		// A call that is cut off may have got less far. What comes of a message
		// that may not be alone does, or not: the call has failed.
		if decision == "answer" {
			want := []string{"x"}
			if kind.serverStreams {
				want = []string{"x", "y"}
			}
			require.Equal(t, append(first, want...), end.texts)
		} else if kind.serverStreams && direction == filter.Response {
			require.Equal(t, replies, end.texts, "what was let through before arrives before the status")
		} else if kind.name != "Chat" && !one {
			require.Empty(t, end.texts)
		}
	} else {
		if endsByResponse {
			replies = append(replies, "x")
			if kind.serverStreams {
				replies = append(replies, "y")
			}
		}
		require.Equal(t, replies, end.texts)
	}
	if decision == "answer" {
		require.Equal(t, []string{"filter"}, end.trailer.Get("x-by"))
	}
	if decision == "reject" {
		require.Equal(t, "not this", end.message)
		require.Equal(t, []string{"so"}, end.trailer.Get("x-why"))
		require.Equal(t, []string{"\x00\xff"}, end.trailer.Get("x-why-bin"))
		require.Len(t, end.status.Details(), 1)
		require.True(t, proto.Equal(&errdetails.ErrorInfo{Reason: "because"}, end.status.Details()[0].(proto.Message)))
	}

	s.settles()
	got := s.backend.got(id)
	switch {
	case direction == filter.Request && !kind.clientStreams && (failed || endsByRequest):
		require.Zero(t, got.calls, "the backend has no use for it")
	case endsByRequest || endsByResponse || failed:
		require.LessOrEqual(t, len(got.texts), len(sent))
		require.True(t, slices.Equal(sent[:len(got.texts)], got.texts), "%v", got.texts)
	default:
		require.Equal(t, 1, got.calls)
		require.Equal(t, sent, got.texts)
	}
}

// TestStructFiltersOfOtherMethodsAreNotAsked: filters are those of a method, and a
// call without any crosses as in frame mode.
func TestStructFiltersOfOtherMethodsAreNotAsked(t *testing.T) {
	s := startStruct(t, structUnary.OnRequest(func(context.Context, *filter.Call, *echo.EchoRequest) filter.Verdict {
		return filter.Reject(codes.Aborted, "")
	}))
	require.Equal(t, codes.Aborted, s.exchange(s.safe(), structKinds[0], "a").code)
	for _, kind := range structKinds[1:] {
		require.Equal(t, codes.OK, s.exchange(s.safe(), kind, "a").code, kind.name)
	}
	// A method that nobody has types for, of the same service.
	end := s.exchange(s.safe(), structKind{name: "Unheard"}, "a")
	require.Equal(t, codes.OK, end.code, end.message)
}

// TestStructUndecodable: what is no message of the method's type ends its call, and
// says what it is and where.
func TestStructUndecodable(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(t, d, nil, structDeciders()...)
			for _, kind := range structKinds {
				call := s.open(s.safe(), kind)
				bad := []byte{0xff}
				require.NoError(t, call.SendMsg(&bad))
				end := call.end()
				require.Equal(t, codes.Internal, end.code)
				require.Equal(t, stream.Undecodable, end.reason)
				require.Contains(t, end.message, kind.full()+": request message 1: it is no echo.EchoRequest")

				s.backend.does(func(ss grpc.ServerStream) error { return ss.SendMsg(&bad) })
				end = s.exchange(s.safe(), kind, "a")
				require.Equal(t, codes.Internal, end.code)
				require.Equal(t, stream.Undecodable, end.reason)
				require.Contains(t, end.message, kind.full()+": response message 1: it is no echo.EchoReply")
				s.backend.does(nil)
			}
			s.settles()
		})
	}
}

// TestStructMetadata: filters see and change what goes to the backend and what
// comes back, apart from what came.
func TestStructMetadata(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			var filters []*filter.Filter
			for _, k := range structKinds {
				m := k.method()
				change := func(md *filter.Metadata, from string) error {
					if md.Get("X-"+from) != from || md.Get("x-"+from+"-bin") != "\x00"+from {
						return fmt.Errorf("filters see %v", md.Values("x-"+from))
					}
					_ = md.Remove("x-gone")
					_ = md.Add("x-list", "3")
					_ = md.Set("x-added-bin", "\xff\x00")
					return md.Set("X-"+from, "changed")
				}
				filters = append(
					filters,
					m.OnStart(func(_ context.Context, c *filter.Call) filter.Verdict {
						if err := change(c.RequestHeader(), "client"); err != nil {
							return filter.Reject(codes.Internal, "%v", err)
						}
						if c.Incoming().Get("x-client") != "client" || c.Incoming().Get("x-gone") != "soon" {
							return filter.Reject(codes.Internal, "what came has changed")
						}
						return filter.Forward
					}),
					m.OnHeader(func(_ context.Context, c *filter.Call) filter.Verdict {
						if err := change(c.ResponseHeader(), "backend"); err != nil {
							return filter.Reject(codes.Internal, "%v", err)
						}
						return filter.Forward
					}),
					m.OnEnd(func(_ context.Context, c *filter.Call, end *filter.End) {
						if err := change(c.ResponseTrailer(), "trailer"); err != nil {
							end.Code, end.Message = codes.Internal, err.Error()
						}
					}),
				)
			}
			s := startStructAt(t, d, nil, filters...)
			s.backend.does(func(ss grpc.ServerStream) error {
				from := func(name string) metadata.MD {
					return metadata.Pairs("x-"+name, name, "x-"+name+"-bin", "\x00"+name, "x-gone", "soon", "x-list", "1", "x-list", "2")
				}
				_ = ss.SetHeader(from("backend"))
				ss.SetTrailer(from("trailer"))
				return s.backend.echo(ss)
			})
			for _, kind := range structKinds {
				t.Run(kind.name, func(t *testing.T) {
					end := s.exchange(s.safe("call-id", kind.name, "x-client", "client", "x-client-bin", "\x00client", "x-gone", "soon", "x-list", "1", "x-list", "2"), kind, "a")
					require.Equal(t, codes.OK, end.code, end.message)
					for from, md := range map[string]metadata.MD{"client": s.backend.got(kind.name).head, "backend": end.header, "trailer": end.trailer} {
						require.Equal(t, []string{"changed"}, md.Get("x-"+from))
						require.Equal(t, []string{"\x00" + from}, md.Get("x-"+from+"-bin"))
						require.Equal(t, []string{"\xff\x00"}, md.Get("x-added-bin"))
						require.Equal(t, []string{"1", "2", "3"}, md.Get("x-list"))
						require.Empty(t, md.Get("x-gone"))
					}
				})
			}
		})
	}
}
