package filter

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cloudwego/prutal"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// decision is what a filter of FuzzChain decides about one message.
type decision struct {
	action        string // "forward", "changed", "drop", "reject", "answer", "panic" or "nonsense"
	before, after int    // how many messages it puts around that
}

var actions = []string{"forward", "changed", "drop", "forward", "changed", "forward", "reject", "answer", "panic", "nonsense"}

// script is what one filter decides about the messages that come to it, over
// and over.
type script []decision

func (s script) decide(nth int) decision {
	if len(s) == 0 {
		return decision{action: "forward"}
	}
	return s[nth%len(s)]
}

// scripts reads a script for each of a few filters from arbitrary bytes.
func scripts(b []byte) []script {
	if len(b) == 0 {
		return nil
	}
	all := make([]script, b[0]%5)
	for i, c := range b[1:] {
		if len(all) == 0 {
			break
		}
		s := &all[i%len(all)]
		d := decision{action: actions[int(c)%len(actions)]}
		if c >= 128 {
			d.before, d.after = int(c>>3&1), int(c>>4&3)
		}
		*s = append(*s, d)
	}
	return all
}

// item is a message, or the end of the call, somewhere between two filters.
type item struct {
	text   string
	came   int // with which of the messages that came, from 1
	intact bool
	end    string // what ends the call here, "" for nothing
}

// model is the reference: each filter is a stage that makes one list of messages
// out of another. It returns what arrives, and what the filters were asked.
func model(all []script, messages int) (arrives []item, asked []string) {
	for i := range messages {
		arrives = append(arrives, item{text: fmt.Sprint("m", i+1), came: i + 1, intact: true})
	}
	for f, s := range all {
		var next []item
		more := func(to int, position string, nth, n, came int) {
			for i := range n {
				next = append(next, item{text: fmt.Sprint(to, position, nth, "/", i), came: came})
			}
		}
		for nth, m := range arrives {
			if m.end != "" {
				next = append(next, m)
				break
			}
			asked = append(asked, fmt.Sprint(f, " ", m.came, " ", m.text))
			d := s.decide(nth)
			if d.action == "panic" || d.action == "nonsense" {
				next = append(next, item{end: "failed"})
				break
			}
			more(f, "<", nth, d.before, m.came)
			if d.action == "reject" || d.action == "answer" {
				next = append(next, item{end: d.action})
				break
			}
			if d.action == "changed" {
				m.text += fmt.Sprint("+", f)
				m.intact = false
			}
			if d.action != "drop" {
				next = append(next, m)
			}
			more(f, ">", nth, d.after, m.came)
		}
		arrives = next
	}
	return arrives, asked
}

// FuzzChain has filters that decide anything look at the messages of a stream,
// and compares what arrives, in which order, and what each filter was asked with
// a model.
func FuzzChain(f *testing.F) {
	f.Add([]byte{1, 0}, uint8(1), false)
	f.Add([]byte{3, 0, 1, 2, 129, 200, 250, 131, 4}, uint8(3), true)
	f.Add([]byte{2, 255, 254, 253, 252, 251, 250, 249, 6}, uint8(4), false)
	f.Add([]byte{4, 1, 1, 1, 1, 240, 241, 242, 243, 7, 8, 9}, uint8(2), true)
	f.Fuzz(func(t *testing.T, b []byte, messages uint8, response bool) {
		if len(b) > 64 {
			return
		}
		all, n, d := scripts(b), int(messages%6), Request
		if response {
			d = Response
		}
		var asked []string
		chain := NewChain(chatName, must(codecOf(typeFor[echo.EchoReply]())), must(codecOf(typeFor[echo.EchoReply]())), true, true)
		for i, s := range all {
			chain.Add(s.filter(i, d, func(c *Call, m *echo.EchoReply) {
				asked = append(asked, fmt.Sprint(i, " ", c.Number(), " ", m.Message))
			}))
		}

		arrives, wantAsked := model(all, n)
		r := begin(chain)
		got, ended := []item{}, ""
		for i := 0; i < n && ended == ""; i++ {
			came := fmt.Sprint("m", i+1)
			out, err := r.Messages(t.Context(), d, encoded(came), nil)
			for j, text := range texts(t, came, out) {
				if out[j].Original {
					text = came
				}
				got = append(got, item{text: text, intact: out[j].Original})
			}
			ended = endedBy(t, err)
		}
		want, wantEnd := []item{}, ""
		for _, m := range arrives {
			if wantEnd = m.end; wantEnd == "" {
				want = append(want, item{text: m.text, intact: m.intact})
			}
		}
		require.Equal(t, want, got)
		require.Equal(t, wantEnd, ended)
		require.Subset(t, append(wantAsked, "none"), append(asked, "none"), "a filter was asked what it should not be")
		if ended == "" {
			require.ElementsMatch(t, wantAsked, asked)
		}
	})
}

// filter returns the filter number i, which follows s.
func (s script) filter(i int, d Direction, see func(*Call, *echo.EchoReply)) *Filter {
	m := For[echo.EchoReply, echo.EchoReply](chatName)
	with := m.WithRequests
	if d == Response {
		with = m.WithResponses
	}
	other := m.WithResponses
	if d == Response {
		other = m.WithRequests
	}
	nth := -1
	decide := func(_ context.Context, c *Call, message *echo.EchoReply) Verdict {
		see(c, message)
		nth++
		do := s.decide(nth)
		more := func(position string, n int) (messages []*echo.EchoReply) {
			for j := range n {
				messages = append(messages, reply(fmt.Sprint(i, position, nth, "/", j)))
			}
			return messages
		}
		v := Forward
		switch do.action {
		case "changed":
			message.Message += fmt.Sprint("+", i)
			v = Changed
		case "drop":
			v = Drop
		case "reject":
			v = Reject(codes.Aborted, "")
		case "answer":
			v = m.Answer()
		case "panic":
			panic("as the script has it")
		case "nonsense":
			return other(nil, Forward, []*echo.EchoReply{reply("")})
		}
		return with(more("<", do.before), v, more(">", do.after))
	}
	if d == Response {
		return m.OnResponse(decide)
	}
	return m.OnRequest(decide)
}

// endedBy says what ended a call with err.
func endedBy(t *testing.T, err error) string {
	var ended *Ended
	var failure *stream.Failure
	switch {
	case err == nil:
		return ""
	case errors.As(err, &ended) && ended.Trailer.Status.Code == stream.OK:
		return "answer"
	case errors.As(err, &ended):
		return "reject"
	}
	require.ErrorAs(t, err, &failure)
	require.Equal(t, stream.FilterFailed, failure.Reason)
	return "failed"
}

// FuzzCodecs decodes arbitrary bytes: that gives a message or an error, and a
// message can be encoded, decoded again, and is as long then as before.
func FuzzCodecs(f *testing.F) {
	f.Add(encoded("text"))
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x07})
	f.Add([]byte{0x9a, 0x06, 3, 'a', 'b', 'c'}) // a field that is not known
	f.Add([]byte{0x9b, 0x9b, 0x9c, 0x9c})       // groups
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, codec := range []Codec{
			must(codecOf(typeFor[echo.EchoRequest]())),
			must(codecOf(typeFor[everything]())),
			must(codecOf(typeFor[testpb.SimpleRequest]())),
			must(codecOf(typeFor[testpb.StreamingOutputCallRequest]())),
		} {
			came := string(b)
			m, err := codec.Unmarshal(b)
			require.Equal(t, came, string(b), "decoding must not write")
			if err != nil {
				continue
			}
			once, err := codec.Marshal(nil, m)
			require.NoError(t, err, codec.Name())
			again, err := codec.Unmarshal(once)
			require.NoError(t, err, codec.Name())
			twice, err := codec.Marshal(nil, again)
			require.NoError(t, err, codec.Name())
			require.Len(t, twice, len(once), codec.Name()) // maps have no order
			behind, err := codec.Marshal([]byte("before"), again)
			require.NoError(t, err)
			require.Equal(t, "before", string(behind[:6]))
		}
	})
}

// everything has a field of each kind, as kitex generates them.
type everything struct {
	Text    string                `protobuf:"bytes,1,opt,name=text"`
	Bytes   []byte                `protobuf:"bytes,2,opt,name=bytes"`
	Number  int32                 `protobuf:"varint,3,opt,name=number"`
	Signed  int64                 `protobuf:"zigzag64,4,opt,name=signed"`
	Fixed   uint64                `protobuf:"fixed64,5,opt,name=fixed"`
	Flag    bool                  `protobuf:"varint,6,opt,name=flag"`
	Maybe   *uint32               `protobuf:"varint,7,opt,name=maybe"`
	Self    *everything           `protobuf:"bytes,8,opt,name=self"`
	Selves  []*everything         `protobuf:"bytes,9,rep,name=selves"`
	Packed  []int32               `protobuf:"varint,10,rep,packed,name=packed"`
	Texts   []string              `protobuf:"bytes,11,rep,name=texts"`
	Names   map[string]string     `protobuf:"bytes,12,rep,name=names" protobuf_key:"bytes,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	Numbers map[int32]*everything `protobuf:"bytes,13,rep,name=numbers" protobuf_key:"varint,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	Loose   []uint64              `protobuf:"varint,14,rep,name=loose"`
}

func (e *everything) Marshal(b []byte) ([]byte, error) { return prutal.MarshalAppend(b, e) }
func (e *everything) Unmarshal(b []byte) error         { return prutal.Unmarshal(b, e) }
