package handler

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// FuzzRelay carries arbitrary bytes in both directions. Whatever they are, the
// call ends; what arrives is what was sent, cut at a message that breaks off or
// is too long; and OK is answered only if the backend said so after whole
// messages.
func FuzzRelay(f *testing.F) {
	f.Add(messages("a", "bc"), messages("d"), uint32(0), true, false)
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 'x'}, message(""), uint32(4), false, false)
	f.Add(message("cut")[:6], messages("a", "b")[:7], uint32(0), true, true)
	f.Fuzz(func(t *testing.T, request, response []byte, limit uint32, complete, refuse bool) {
		c, a := newClient(request, io.EOF), newAnswer(response, stream.OK)
		c.complete = complete
		b := &backends{answers: []*answer{a}}
		if refuse {
			b.answers = append([]*answer{refusal()}, b.answers...)
		}
		New(Options{Resolver: routes("one"), Backends: b, MaxMessage: limit}).Serve(c)

		if c.end == nil {
			t.Fatal("the call did not end")
		}
		wantSent, sentWhole := passes(request, limit)
		if got := a.received(); !bytes.HasPrefix(wantSent, got) {
			t.Fatalf("the backend got %x, the client sent %x", got, request)
		}
		wantGot, gotWhole := passes(response, limit)
		if !bytes.HasPrefix(wantGot, c.got) {
			t.Fatalf("the client got %x, the backend sent %x", c.got, response)
		}
		if c.end.Status.Code == stream.OK && (!gotWhole || !bytes.Equal(c.got, wantGot)) {
			t.Fatalf("OK after %x of %x", c.got, response)
		}
		if complete && !sentWhole && len(request) < takeLimit && c.end.Status.Code == stream.OK {
			t.Fatalf("OK for a request that breaks off: %x", request)
		}
	})
}

// passes is the reference: the part of b that a relay with the given limit may
// let through, and whether b is whole messages within the limit.
func passes(b []byte, limit uint32) ([]byte, bool) {
	var n int
	for {
		rest := b[n:]
		if len(rest) == 0 {
			return b, true
		}
		if len(rest) < stream.PrefixLen {
			return b[:n], false
		}
		length := binary.BigEndian.Uint32(rest[1:])
		if limit > 0 && length > limit {
			return b[:n], false
		}
		if uint64(len(rest)) < stream.PrefixLen+uint64(length) {
			return b, false
		}
		n += stream.PrefixLen + int(length)
	}
}
