package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	stampSize = 8
	// headMax bounds the tag and the length in front of a payload's bytes.
	headMax = 1 + binary.MaxVarintLen64
)

// MinPayload is the size of the smallest payload: a tag, a length and two stamps.
const MinPayload = 2 + 2*stampSize

// Payload is a message of a fixed size that carries a stamp at both ends, so that a reply which is cut, swapped with
// another call's or stale is told from the right one by looking at a few bytes.
//
// It is valid protobuf (one bytes field), because mwitkow/grpc-proxy decodes what it forwards.
type Payload struct {
	bytes []byte
	head  int // length of tag and length prefix
}

// NewPayload builds a payload of exactly size bytes on the wire. It panics for the few sizes no such message has
// (below 18, and where the length prefix grows); sizes are constants of this module.
func NewPayload(size int) Payload {
	for head := 2; head < headMax; head++ {
		body := size - head
		if body >= 2*stampSize && 1+protowire.SizeVarint(uint64(body)) == head {
			return Payload{bytes: fill(size, body), head: head}
		}
	}
	panic(fmt.Sprintf("no protobuf message with one bytes field is %d bytes long", size))
}

// fill encodes a bytes field of body bytes that compress badly enough to be no special case for anyone.
func fill(size, body int) []byte {
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(body))
	x := uint32(2463534242)
	for len(b) < size {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = append(b, byte(x))
	}
	return b
}

// Stamp writes the stamp at both ends and returns the whole message.
func (p Payload) Stamp(stamp uint64) Raw {
	binary.BigEndian.PutUint64(p.bytes[p.head:], stamp)
	binary.BigEndian.PutUint64(p.bytes[len(p.bytes)-stampSize:], stamp)
	return Raw(p.bytes)
}

// Check says what is wrong with a reply that should be this payload with the given stamp: its length, or its ends.
func (p Payload) Check(got mem.BufferSlice, stamp uint64) error {
	if n := got.Len(); n != len(p.bytes) {
		return fmt.Errorf("reply of %d bytes, want %d", n, len(p.bytes))
	}
	var buf [headMax + stampSize]byte
	head := buf[:p.head+stampSize]
	copyHead(head, got)
	if string(head[:p.head]) != string(p.bytes[:p.head]) {
		return errors.New("reply's prefix differs")
	}
	if first := binary.BigEndian.Uint64(head[p.head:]); first != stamp {
		return fmt.Errorf("reply starts with stamp %#x, want %#x", first, stamp)
	}
	tail := buf[:stampSize]
	copyTail(tail, got)
	if last := binary.BigEndian.Uint64(tail); last != stamp {
		return fmt.Errorf("reply ends with stamp %#x, want %#x", last, stamp)
	}
	return nil
}

// copyHead fills dst with the first bytes of src, however many buffers they lie in.
func copyHead(dst []byte, src mem.BufferSlice) {
	for i := 0; i < len(src) && len(dst) > 0; i++ {
		n := copy(dst, src[i].ReadOnlyData())
		dst = dst[n:]
	}
}

// copyTail fills dst with the last bytes of src.
func copyTail(dst []byte, src mem.BufferSlice) {
	for i := len(src) - 1; i >= 0 && len(dst) > 0; i-- {
		b := src[i].ReadOnlyData()
		n := min(len(b), len(dst))
		copy(dst[len(dst)-n:], b[len(b)-n:])
		dst = dst[:len(dst)-n]
	}
}

// StreamRequest asks the Stream method for Count payloads of Size bytes, stamped 0 to Count-1.
type StreamRequest struct {
	Count, Size int
}

// Encode writes the request as protobuf, for the reason given at Payload.
func (r StreamRequest) Encode() Raw {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(r.Count))
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(r.Size))
}

// DecodeStreamRequest reads what Encode wrote and refuses anything that would keep the backend busy for long.
func DecodeStreamRequest(b []byte) (StreamRequest, error) {
	var fields [2]uint64
	for i := range fields {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || int(num) != i+1 || typ != protowire.VarintType {
			return StreamRequest{}, fmt.Errorf("stream request: field %d missing", i+1)
		}
		v, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			return StreamRequest{}, fmt.Errorf("stream request: field %d: %w", i+1, protowire.ParseError(m))
		}
		fields[i], b = v, b[n+m:]
	}
	if fields[0] > 1_000_000 || fields[1] > MaxMessage {
		return StreamRequest{}, fmt.Errorf("stream request: %d messages of %d bytes are too many", fields[0], fields[1])
	}
	return StreamRequest{Count: int(fields[0]), Size: int(fields[1])}, nil
}
