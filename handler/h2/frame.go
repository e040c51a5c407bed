package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// A frame is a header of frameHeaderLen bytes and a payload (RFC 9113 section 4.1).
const frameHeaderLen = 9

// maxFrameSize is the largest payload accepted, and sent: what every peer has
// to take (RFC 9113 section 6.5.2). Larger ones would hold up other streams.
const maxFrameSize = 16 << 10

// frame is a frame that has been read. The payload is valid until the next read.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	id      uint32
	payload []byte
}

func (f *frame) has(flag http2.Flags) bool { return f.flags&flag != 0 }

func parseFrameHeader(b []byte) (length int, f frame) {
	length = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return length, frame{
		kind:  http2.FrameType(b[3]),
		flags: http2.Flags(b[4]),
		id:    binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

// appendFrameHeader appends the header of a frame with a payload of n bytes.
func appendFrameHeader(b []byte, n int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(b,
		byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendRSTStream(b []byte, id uint32, code http2.ErrCode) []byte {
	b = appendFrameHeader(b, 4, http2.FrameRSTStream, 0, id)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, id, n uint32) []byte {
	b = appendFrameHeader(b, 4, http2.FrameWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(b, n)
}

func appendPing(b []byte, flags http2.Flags, data []byte) []byte {
	b = appendFrameHeader(b, 8, http2.FramePing, flags, 0)
	return append(b, data...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, debug string) []byte {
	b = appendFrameHeader(b, 8+len(debug), http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = appendFrameHeader(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// unpad returns the payload without its padding (RFC 9113 section 6.1). It
// reports false if the padding is longer than the payload.
func (f *frame) unpad() bool {
	if !f.has(flagPadded) {
		return true
	}
	if len(f.payload) == 0 {
		return false
	}
	pad := int(f.payload[0])
	rest := f.payload[1:]
	if pad > len(rest) {
		return false
	}
	f.payload = rest[:len(rest)-pad]
	return true
}

// The flags have the same value for all types of frames that have them.
const (
	flagEndStream  = http2.FlagDataEndStream
	flagAck        = http2.FlagPingAck
	flagEndHeaders = http2.FlagHeadersEndHeaders
	flagPadded     = http2.FlagDataPadded
	flagPriority   = http2.FlagHeadersPriority
)
