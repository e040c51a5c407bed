package filter

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// appends returns a filter of the requests of a stream that appends s to each.
func appends(s string) *Filter {
	return chat.OnRequest(func(_ context.Context, _ *Call, m *echo.EchoRequest) Verdict {
		m.Message += s
		return Changed
	})
}

// inserts returns a filter that puts "<" before and ">" behind what v is about.
func inserts(v Verdict) *Filter {
	return chat.OnRequest(func(context.Context, *Call, *echo.EchoRequest) Verdict {
		return chat.WithRequests([]*echo.EchoRequest{request("<"), request("<<")}, v, []*echo.EchoRequest{request(">"), request(">>")})
	})
}

func TestFiltersOfAMessage(t *testing.T) {
	type filters []*Filter
	reads := deciding(chatName, AtRequest, Forward)
	for name, test := range map[string]struct {
		filters filters
		want    []string
	}{
		"forward":                               {filters{reads, reads}, []string{"=m"}},
		"changed":                               {filters{appends("1"), reads}, []string{"m1"}},
		"in the order in which they were given": {filters{appends("1"), appends("2"), appends("3")}, []string{"m123"}},
		"changed without a change":              {filters{deciding(chatName, AtRequest, Changed)}, []string{"m"}},
		"drop":                                  {filters{deciding(chatName, AtRequest, Drop), panics(AtRequest)}, []string{}},
		"drop of what was changed":              {filters{appends("1"), deciding(chatName, AtRequest, Drop)}, []string{}},
		"more around one that goes as it came":  {filters{inserts(Forward)}, []string{"<", "<<", "=m", ">", ">>"}},
		"more around one that is changed":       {filters{inserts(Changed)}, []string{"<", "<<", "m", ">", ">>"}},
		"more instead of one":                   {filters{inserts(Drop)}, []string{"<", "<<", ">", ">>"}},
		"more is seen by those behind only":     {filters{appends("1"), inserts(Forward), appends("2")}, []string{"<2", "<<2", "m12", ">2", ">>2"}},
		"more of more":                          {filters{inserts(Drop), inserts(Drop), appends("2")}, strings.Fields(strings.Repeat("<2 <<2 >2 >>2 ", 4))},
		"more and then dropped":                 {filters{inserts(Forward), deciding(chatName, AtRequest, Drop)}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := passed(t, runOf(t, chatName, test.filters...), Request, "m")
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

// panics returns a filter that panics, with a text that no client may read.
func panics(at Point) *Filter {
	switch at {
	case AtStart:
		return chat.OnStart(func(context.Context, *Call) Verdict { panic("secret") })
	case AtRequest:
		return chat.OnRequest(func(context.Context, *Call, *echo.EchoRequest) Verdict { panic("secret") })
	case AtHeader:
		return chat.OnHeader(func(context.Context, *Call) Verdict { panic("secret") })
	case AtResponse:
		return chat.OnResponse(func(context.Context, *Call, *echo.EchoReply) Verdict { panic("secret") })
	default:
		return chat.OnEnd(func(context.Context, *Call, *End) { panic("secret") })
	}
}

// What ends a call ends it behind the messages that were let through before.
func TestEndsStandBehindWhatWasLetThrough(t *testing.T) {
	rejects := deciding(chatName, AtRequest, Reject(codes.Aborted, "enough"))
	for name, test := range map[string]struct {
		filters []*Filter
		want    []string
	}{
		"at once":                     {[]*Filter{rejects, panics(AtRequest)}, []string{}},
		"with messages before":        {[]*Filter{inserts(Reject(codes.Aborted, "enough")), appends("1")}, []string{"<1", "<<1"}},
		"behind one that adds more":   {[]*Filter{inserts(Forward), rejects}, []string{}},
		"only for what comes last":    {[]*Filter{inserts(Forward), rejectsAt(">")}, []string{"<", "<<", "=m"}},
		"for one of those put before": {[]*Filter{inserts(Forward), rejectsAt("<<")}, []string{"<"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := passed(t, runOf(t, chatName, test.filters...), Request, "m")
			require.Equal(t, stream.Code(codes.Aborted), requireEnded(t, err).Trailer.Status.Code)
			require.Equal(t, test.want, got)
		})
	}
}

// rejectsAt returns a filter that rejects the call for this message.
func rejectsAt(text string) *Filter {
	return chat.OnRequest(func(_ context.Context, _ *Call, m *echo.EchoRequest) Verdict {
		if m.Message == text {
			return Reject(codes.Aborted, "enough")
		}
		return Forward
	})
}

func TestFiltersOfAResponse(t *testing.T) {
	r := runOf(t, chatName, chat.OnResponse(func(_ context.Context, c *Call, m *echo.EchoReply) Verdict {
		require.Equal(t, Response, c.Direction())
		switch m.Message {
		case "drop":
			return Drop
		case "change":
			m.Message = "changed"
			return Changed
		case "more":
			return chat.WithResponses([]*echo.EchoReply{reply("<")}, Forward, []*echo.EchoReply{reply(">")})
		case "answer":
			return chat.Answer(reply("the"), reply("end"))
		}
		return Forward
	}))
	for came, want := range map[string][]string{"drop": {}, "change": {"changed"}, "more": {"<", "=more", ">"}, "other": {"=other"}} {
		got, err := passed(t, r, Response, came)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := passed(t, r, Response, "answer")
	require.Empty(t, got)
	require.Equal(t, [][]byte{encoded("the"), encoded("end")}, requireEnded(t, err).Messages)
}

// What a filter adds may not be of the other direction.
func TestFiltersAddMessagesOfTheirDirection(t *testing.T) {
	_, err := passed(t, runOf(t, chatName, deciding(chatName, AtResponse, chat.WithRequests(nil, Forward, []*echo.EchoRequest{request("")}))), Response, "m")
	requireMistake(t, err, "it adds messages of the other direction")
}

func TestPanicsEndTheirCall(t *testing.T) {
	for at := AtStart; at <= AtResponse; at++ {
		t.Run(at.String(), func(t *testing.T) {
			var log strings.Builder
			chain := chainOf(t, chatName, panics(at))
			r := chain.Begin(CallInfo{Request: &stream.Request{Method: chatName}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			var err error
			switch at {
			case AtStart:
				err = r.Start(t.Context())
			case AtHeader:
				_, err = r.Header(t.Context(), &stream.Header{})
			case AtRequest:
				_, err = r.Messages(t.Context(), Request, nil, nil)
			default:
				_, err = r.Messages(t.Context(), Response, nil, nil)
			}
			requireMistake(t, err, "it panicked")
			requireMistake(t, err, "filter.panics.func")
			require.NotContains(t, err.Error(), "secret")
			require.Contains(t, log.String(), "secret", "those who run the proxy may read it")
			require.Contains(t, log.String(), chatName)
			require.Contains(t, log.String(), "chain_test.go", "and where it was")
		})
	}
}

func TestBytesThatAreNoMessage(t *testing.T) {
	r := runOf(t, chatName, panics(AtRequest), panics(AtResponse))
	for d, kind := range map[Direction]string{Request: "echo.EchoRequest", Response: "echo.EchoReply"} {
		out, err := r.Messages(t.Context(), d, []byte{0xff}, nil)
		var not *Undecodable
		require.ErrorAs(t, err, &not)
		require.ErrorContains(t, err, "it is no "+kind)
		require.Empty(t, out)
	}
}

// hostile is a message whose code panics, as generated code may that is given
// what its author did not think of, or a message that its filter still changes.
type hostile struct{}

func (*hostile) Marshal([]byte) ([]byte, error) { panic("marshal") }
func (*hostile) Unmarshal([]byte) error         { panic("unmarshal") }

func TestCodecsThatPanic(t *testing.T) {
	codec := must(codecOf(typeFor[hostile]()))
	_, err := codec.Unmarshal(nil)
	require.ErrorContains(t, err, "panic: unmarshal")
	_, err = codec.Marshal(nil, &hostile{})
	require.ErrorContains(t, err, "panic: marshal")
	_, err = protoCodec{typeFor[echo.EchoReply]()}.Unmarshal(nil)
	require.ErrorContains(t, err, "panic: ")
	_, err = protoCodec{typeFor[echo.EchoReply]()}.Marshal(nil, reply(""))
	require.ErrorContains(t, err, "panic: ")
}

// stubborn is a message that can be read, but not written.
type stubborn struct{}

func (*stubborn) Marshal([]byte) ([]byte, error) { return nil, context.Canceled }
func (*stubborn) Unmarshal([]byte) error         { return nil }

func TestMessagesThatCannotBeEncoded(t *testing.T) {
	codec := must(codecOf(typeFor[stubborn]()))
	m := For[stubborn, stubborn]("/p.S/M")
	for name, v := range map[string]Verdict{"changed": Changed, "added": m.WithRequests(nil, Drop, []*stubborn{{}}), "answer": m.Answer(&stubborn{})} {
		t.Run(name, func(t *testing.T) {
			chain := NewChain("/p.S/M", codec, codec, false, false)
			chain.Add(m.OnRequest(func(context.Context, *Call, *stubborn) Verdict { return v }))
			_, err := begin(chain).Messages(t.Context(), Request, nil, nil)
			requireMistake(t, err, "a message of type filter.stubborn cannot be encoded: context canceled")
		})
	}
}

// out is appended to: the caller may use one slice for all messages.
func TestMessagesAreAppended(t *testing.T) {
	r := runOf(t, chatName, appends("1"))
	out, err := r.Messages(t.Context(), Request, encoded("a"), nil)
	require.NoError(t, err)
	out, err = r.Messages(t.Context(), Request, encoded("b"), out)
	require.NoError(t, err)
	require.Equal(t, []string{"a1", "b1"}, texts(t, "", out))
}

// A message does not refer to the bytes that it came as: those are sent on, and
// the filter may do with it what it wants.
func TestMessagesAreNotTheirBytes(t *testing.T) {
	payload := must((&echo.EchoRequest{Message: "text", Payload: []byte("bytes")}).Marshal(nil))
	before := string(payload)
	r := runOf(t, chatName, chat.OnRequest(func(_ context.Context, _ *Call, m *echo.EchoRequest) Verdict {
		copy(m.Payload, "?????")
		return Forward
	}))
	_, err := r.Messages(t.Context(), Request, payload, nil)
	require.NoError(t, err)
	require.Equal(t, before, string(payload))
}

// New's filters are for types that are known at run time only.
func TestUntypedFilters(t *testing.T) {
	codec := must(codecOf(typeFor[echo.EchoRequest]()))
	var seen []any
	see := func(_ context.Context, _ *Call, m any) Verdict {
		seen = append(seen, m)
		return Forward
	}
	chain := NewChain("/p.S/M", codec, codec, true, true)
	for _, at := range []Point{AtStart, AtRequest, AtHeader, AtResponse} {
		chain.Add(New("/p.S/M", at, "name", see))
	}
	ends := 0
	chain.Add(NewEnd("/p.S/M", "name", func(context.Context, *Call, *End) { ends++ }))
	r := begin(chain)
	require.NoError(t, r.Start(t.Context()))
	_, err := passed(t, r, Request, "a")
	require.NoError(t, err)
	_, err = r.Header(t.Context(), &stream.Header{})
	require.NoError(t, err)
	_, err = passed(t, r, Response, "b")
	require.NoError(t, err)
	r.End(t.Context(), &stream.Trailer{})
	require.Equal(t, []any{nil, request("a"), nil, request("b")}, seen)
	require.Equal(t, 1, ends)
}
