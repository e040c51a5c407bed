package h2grpc

import "strings"

// grpc-message is percent-encoded: bytes outside printable ASCII, and the
// percent sign, as %XX. The bytes need not be UTF-8: they are passed on.

const upperHex = "0123456789ABCDEF"

func isPlain(b byte) bool { return b >= ' ' && b <= '~' && b != '%' }

func encodeMessage(m string) string {
	special := 0
	for i := range len(m) {
		if !isPlain(m[i]) {
			special++
		}
	}
	if special == 0 {
		return m
	}
	var b strings.Builder
	b.Grow(len(m) + 2*special)
	for i := range len(m) {
		if isPlain(m[i]) {
			b.WriteByte(m[i])
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[m[i]>>4])
		b.WriteByte(upperHex[m[i]&15])
	}
	return b.String()
}

// decodeMessage leaves a percent sign that is followed by no two digits as it
// is, as the gRPC specification asks for.
func decodeMessage(v string) string {
	if !strings.Contains(v, "%") {
		return v
	}
	var b strings.Builder
	b.Grow(len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			hi, lo := unhex(v[i+1]), unhex(v[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
