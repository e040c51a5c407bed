package compress

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzRoundTrip compresses arbitrary bytes and decompresses them again.
func FuzzRoundTrip(f *testing.F) {
	for i := range names {
		f.Add([]byte("text"), uint8(i))
		f.Add(bytes.Repeat([]byte{0}, 500), uint8(i))
	}
	f.Fuzz(func(t *testing.T, src []byte, which uint8) {
		if len(src) > 16<<10 {
			return // the time goes into the compressing
		}
		e := Find(names[int(which)%len(names)])
		c, err := e.Compress(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Decompress(c, len(src))
		if err != nil || !bytes.Equal(src, got) {
			t.Fatalf("%x, %v", got, err)
		}
		if len(src) == 0 {
			return
		}
		if _, err := e.Decompress(c, len(src)-1); !errors.Is(err, ErrTooLong) {
			t.Fatalf("the limit is not kept: %v", err)
		}
	})
}

// FuzzDecompress decompresses arbitrary bytes. That gives no more than the limit
// and never a panic, and what comes next is not harmed.
func FuzzDecompress(f *testing.F) {
	for _, name := range names {
		f.Add(compressed(f, name, "some text to begin with"), uint16(100))
		f.Add(compressed(f, name, ""), uint16(0))
	}
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\xff\x03\x00\x00x"), uint16(1000))
	f.Fuzz(func(t *testing.T, src []byte, limit uint16) {
		before := bytes.Clone(src)
		for _, name := range names {
			got, err := Find(name).Decompress(src, int(limit))
			if err == nil && len(got) > int(limit) {
				t.Fatalf("%s: %d bytes of %d", name, len(got), limit)
			}
			if err != nil && got != nil {
				t.Fatalf("%s: bytes with an error", name)
			}
			if !bytes.Equal(before, src) {
				t.Fatalf("%s has written to its source", name)
			}
			next, err := Find(name).Decompress(compressed(t, name, "next"), 4)
			if err != nil || string(next) != "next" {
				t.Fatalf("%s: %q, %v after this", name, next, err)
			}
		}
	})
}
