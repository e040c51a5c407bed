package handler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/compress"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// FuzzFiltered carries arbitrary bytes in both directions through filters that
// change nothing, or say that they have. Whatever the bytes are, the call ends;
// what arrives is what was sent up to the first message that cannot pass, and
// nothing of that one; and OK is answered only if all of it has passed.
func FuzzFiltered(f *testing.F) {
	f.Add(texts("a", "bc"), texts("d"), uint8(3), uint8(0), uint16(0), false, false, true)
	f.Add(texts("a"), texts("d"), uint8(0), uint8(1), uint16(9), true, false, false)
	f.Add(texts("a", "bc")[:9], texts("d", "e"), uint8(1), uint8(2), uint16(0), false, true, true)
	f.Add(message("\xff"), flagged(1, "no gzip"), uint8(2), uint8(1), uint16(0), true, true, false)
	for i, encoding := range encodings[1:4] {
		f.Add(append(packed(f, encoding, text("packed")), texts("plain")...), packed(f, encoding, text("x")), uint8(3), uint8(i+1), uint16(40), i > 0, false, i > 1)
	}
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 'x'}, []byte{1, 0, 0, 0, 0, 0}, uint8(3), uint8(3), uint16(4), false, false, false)
	f.Fuzz(func(t *testing.T, request, response []byte, kind, encoding uint8, limit uint16, changed, undecodable, complete bool) {
		verdict := filter.Forward
		if changed {
			verdict = filter.Changed
		}
		ref := reference{
			encoding: encodings[int(encoding)%len(encodings)], limit: DefaultMaxMessage,
			changed: changed, passOn: undecodable, message: func() codec { return new(echo.EchoRequest) },
		}
		action := conf.Action{Undecodable: conf.UndecodableReject, MessageLimit: conf.Size(limit)}
		if limit > 0 {
			ref.limit = int(limit)
		}
		if undecodable {
			action.Undecodable = conf.UndecodableForward
		}
		name := kinds[int(kind)%len(kinds)]
		c := filteredCall{
			t: t, method: name, filters: both(name, verdict), action: action, in: request, out: response, complete: complete,
			request: stream.Request{Encoding: ref.encoding}, header: &stream.Header{Encoding: ref.encoding},
			prepare: func(_ *client, a *answer) { a.awaitRequest = true },
		}
		code := c.end().Status.Code

		sent, requestPasses := ref.passes(request, name == unary || name == expand)
		got := ref.read(t, c.backend.received())
		switch {
		case requestPasses:
			require.Equal(t, sent, got)
			require.True(t, c.backend.isHalfClosed())
		case complete || name == unary || name == expand:
			require.LessOrEqual(t, len(got), len(sent))
			require.True(t, slices.Equal(sent[:len(got)], got), "got %v of %v", got, sent)
		default:
			require.Equal(t, sent, got)
		}
		if !requestPasses {
			require.NotEqual(t, stream.OK, code)
			require.False(t, c.backend.isHalfClosed())
			require.Empty(t, c.client.got)
			return
		}
		ref.message = func() codec { return new(echo.EchoReply) }
		answered, responsePasses := ref.passes(response, name == unary || name == collect)
		require.Equal(t, answered, ref.read(t, c.client.got))
		require.Equal(t, responsePasses, code == stream.OK)
	})
}

var (
	kinds     = []string{unary, collect, expand, chat}
	encodings = []string{"", "gzip", "deflate", "zstd", "unknown"}
)

// passing is a message that may pass.
type passing struct {
	flag byte
	text string // its bytes; what they decompress to if it has been changed
}

// reference says, simply, what filters let through.
type reference struct {
	encoding        string
	limit           int
	changed, passOn bool
	message         func() codec // a new one
}

type codec interface {
	Marshal([]byte) ([]byte, error)
	Unmarshal([]byte) error
}

// passes returns the messages of b up to the first that cannot pass, and whether
// that is all of b.
func (r reference) passes(b []byte, one bool) (all []passing, whole bool) {
	for len(b) > 0 {
		if len(b) < stream.PrefixLen {
			return all, false
		}
		n := uint64(binary.BigEndian.Uint32(b[1:]))
		if n > uint64(r.limit) || uint64(len(b)-stream.PrefixLen) < n || one && len(all) == 1 {
			return all, false
		}
		m, ok := r.pass(b[0], b[stream.PrefixLen:][:n])
		if !ok {
			return all, false
		}
		all = append(all, m)
		b = b[stream.PrefixLen+n:]
	}
	return all, true
}

// pass returns what becomes of one message, false if it ends the call.
func (r reference) pass(flag byte, payload []byte) (passing, bool) {
	asCame := passing{flag, string(payload)}
	plain, ok := payload, flag == 0
	if e := compress.Find(r.encoding); flag == 1 && e != nil {
		b, err := e.Decompress(payload, r.limit)
		if errors.Is(err, compress.ErrTooLong) {
			return asCame, false
		}
		plain, ok = b, err == nil
	}
	m := r.message()
	if !ok || m.Unmarshal(plain) != nil {
		return asCame, r.passOn
	}
	if !r.changed {
		return asCame, true
	}
	b, err := m.Marshal(nil)
	return passing{flag, string(b)}, err == nil
}

// read returns the messages of what has arrived, which are whole.
func (r reference) read(t *testing.T, b []byte) (all []passing) {
	for len(b) > 0 {
		n := stream.PrefixLen + int(binary.BigEndian.Uint32(b[1:]))
		require.LessOrEqual(t, n, len(b), "half a message has arrived")
		m := passing{b[0], string(b[stream.PrefixLen:n])}
		if e := compress.Find(r.encoding); r.changed && m.flag == 1 && e != nil {
			if plain, err := e.Decompress(b[stream.PrefixLen:n], 64<<20); err == nil {
				m.text = string(plain)
			}
		}
		all = append(all, m)
		b = b[n:]
	}
	return all
}

// The reference of FuzzFiltered is no better than what it says of these.
func TestReference(t *testing.T) {
	r := reference{encoding: "gzip", limit: 20, message: func() codec { return new(echo.EchoRequest) }}
	all := bytes.Join([][]byte{texts("a"), message("\xff"), texts("b")}, nil)
	got, whole := r.passes(all, false)
	require.Equal(t, []passing{{0, text("a")}}, got)
	require.False(t, whole)
	r.passOn = true
	got, whole = r.passes(all, false)
	require.Len(t, got, 3)
	require.True(t, whole)
	got, whole = r.passes(texts("a", "b"), true)
	require.Len(t, got, 1)
	require.False(t, whole)
	require.True(t, slices.Equal(r.read(t, all), []passing{{0, text("a")}, {0, "\xff"}, {0, text("b")}}))
}
