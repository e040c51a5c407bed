package kitexgrpc

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func frame(kind, flags byte, length int) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(length)<<8|uint32(kind))
	f = append(f, flags, 0, 0, 0, 1)
	return append(f, make([]byte, length)...)
}

func TestHeaderGuard(t *testing.T) {
	join := func(frames ...[]byte) (all []byte) {
		for _, f := range frames {
			all = append(all, f...)
		}
		return all
	}
	for name, test := range map[string]struct {
		sent []byte
		ok   bool
	}{
		"one block":                    {join(frame(1, 4, 100)), true},
		"too long at once":             {join(frame(1, 4, 101)), false},
		"blocks do not add up":         {join(frame(1, 4, 60), frame(1, 4, 60)), true},
		"continued, and within":        {join(frame(1, 0, 50), frame(9, 0, 25), frame(9, 4, 25), frame(1, 4, 90)), true},
		"continued for too long":       {join(frame(1, 0, 50), frame(9, 0, 25), frame(9, 0, 26)), false},
		"data is not counted":          {join(frame(1, 0, 50), frame(0, 0, 16384), frame(9, 4, 50)), true},
		"empty continuations are free": {join(frame(1, 0, 100), frame(9, 0, 0), frame(9, 4, 0)), true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 9, 10, 1 << 20} {
				g, ok := headerGuard{limit: 100, skip: clientPrefaceLen}, true
				for rest := append(make([]byte, clientPrefaceLen), test.sent...); ok && len(rest) > 0; {
					n := min(piece, len(rest))
					ok, rest = g.accepts(rest[:n]), rest[n:]
				}
				require.Equal(t, test.ok, ok, "in pieces of %d", piece)
			}
		})
	}
}

// FuzzHeaderGuard: the verdict does not depend on how the bytes are cut.
func FuzzHeaderGuard(f *testing.F) {
	f.Add(append(frame(1, 0, 3), frame(9, 4, 5)...), uint8(3))
	f.Add(frame(0, 1, 12), uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, cut uint8) {
		whole, cutUp := headerGuard{limit: 16}, headerGuard{limit: 16}
		want, got := whole.accepts(sent), true
		for rest := sent; got && len(rest) > 0; {
			n := min(max(1, int(cut)), len(rest))
			got, rest = cutUp.accepts(rest[:n]), rest[n:]
		}
		if got != want {
			t.Fatalf("%v at once, %v in pieces of %d: %x", want, got, cut, sent)
		}
	})
}
