package stream

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// TestScanAtEveryCut: it makes no difference where the bytes are cut.
func TestScanAtEveryCut(t *testing.T) {
	var b []byte
	for _, n := range []int{0, 1, 4, 5, 6, 0, 10} {
		b = append(b, rawh2.Frame(1, make([]byte, n))...)
	}
	for size := 1; size <= len(b); size++ {
		var s Scanner
		for rest := b; len(rest) > 0; {
			n := min(size, len(rest))
			tooLong, before := s.Scan(rest[:n], 10)
			require.Zero(t, tooLong)
			require.Equal(t, n, before)
			rest = rest[n:]
			require.Equal(t, isInside(b[:len(b)-len(rest)]), s.Inside())
		}
	}
}

// isInside is the reference: it has all the bytes.
func isInside(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 5 {
			return true
		}
		n := uint64(binary.BigEndian.Uint32(b[1:])) + 5
		if n > uint64(len(b)) {
			return true
		}
		b = b[n:]
	}
	return false
}

// tooLong is the reference: the length of the first message that is too long,
// and where it begins.
func tooLong(b []byte, limit uint32) (length uint32, at int) {
	for at+5 <= len(b) {
		n := binary.BigEndian.Uint32(b[at+1:])
		if limit > 0 && n > limit {
			return n, at
		}
		if uint64(n)+5 > uint64(len(b)-at) {
			break
		}
		at += int(n) + 5
	}
	return 0, len(b)
}

func FuzzScan(f *testing.F) {
	f.Add(rawh2.Frame(0, []byte("message")), uint32(3), uint8(2))
	f.Add(append(rawh2.Frame(0, nil), rawh2.Frame(1, make([]byte, 300))...), uint32(299), uint8(7))
	f.Add(rawh2.Prefix(0, 1<<32-1), uint32(0), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, limit uint32, size uint8) {
		length, at := tooLong(b, limit)
		var s Scanner
		for done := 0; done < len(b); {
			n := min(int(size)+1, len(b)-done)
			got, before := s.Scan(b[done:done+n], limit)
			if got > 0 {
				require.Equal(t, length, got)
				require.Equal(t, max(at-done, 0), before, "a prefix that has begun earlier has been passed on")
				return
			}
			require.Equal(t, n, before)
			done += n
			require.Equal(t, isInside(b[:done]), s.Inside())
		}
		require.Zero(t, length, "not noticed")
	})
}
