package wire

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestPayloadHasItsSizeAndIsProtobuf(t *testing.T) {
	for _, size := range []int{18, 64, 1 << 10, 64 << 10, 4 << 20} {
		raw := NewPayload(size).Stamp(7)
		if len(raw) != size {
			t.Errorf("payload of %d bytes, want %d", len(raw), size)
		}
		if err := proto.Unmarshal(raw, &emptypb.Empty{}); err != nil {
			t.Errorf("payload of %d bytes is not protobuf: %v", size, err)
		}
	}
}

func TestCheckFindsWrongReplies(t *testing.T) {
	p := NewPayload(64)
	good := append([]byte(nil), p.Stamp(42)...)
	edit := func(i int) []byte {
		b := append([]byte(nil), good...)
		b[i] ^= 1
		return b
	}
	for _, c := range []struct {
		name  string
		reply []byte
		ok    bool
	}{
		{"right", good, true},
		{"cut", good[:63], false},
		{"empty", nil, false},
		{"prefix changed", edit(0), false},
		{"another call's start", edit(9), false},
		{"another call's end", edit(63), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 64} {
				if err := p.Check(split(c.reply, piece), 42); (err == nil) != c.ok {
					t.Errorf("in pieces of %d: got %v, want ok=%v", piece, err, c.ok)
				}
			}
		})
	}
}

// split lays b out over several buffers, as DATA frames would.
func split(b []byte, piece int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(b) > 0 {
		n := min(piece, len(b))
		out = append(out, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return out
}

func TestStreamRequestSurvivesTheWire(t *testing.T) {
	want := StreamRequest{Count: 2000, Size: 1024}
	got, err := DecodeStreamRequest(want.Encode())
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := DecodeStreamRequest(want.Encode()[:3]); err == nil {
		t.Error("a cut request was taken")
	}
	if _, err := DecodeStreamRequest(StreamRequest{Count: 1 << 40}.Encode()); err == nil {
		t.Error("an endless request was taken")
	}
}
