package stream

import "encoding/binary"

// Scanner follows the messages in one direction of a call, of which it looks at
// the prefixes only: to keep a limit, to count them, and to notice a call that ends
// inside a message. The zero value is at the beginning. It is for one goroutine at a
// time.
type Scanner struct {
	// Each is told of each message that has begun, once its prefix is complete: its
	// compressed flag and its length in bytes, as it crosses the wire. nil for nobody.
	Each func(flag byte, length uint32)

	messages uint32
	left     uint32 // bytes of the present message still to come
	have     uint8  // bytes of prefix that have come, while it is not complete
	prefix   [PrefixLen]byte
}

// Scan takes in the next bytes. If a message begins in them, or before, that is
// longer than limit (0: none is), it returns the message's length and how many
// of the bytes come before it; else 0 and all of them.
func (s *Scanner) Scan(b []byte, limit uint32) (tooLong uint32, before int) {
	for rest := b; len(rest) > 0; {
		if s.left > 0 {
			n := min(s.left, uint32(len(rest)))
			s.left -= n
			rest = rest[n:]
			continue
		}
		if s.have == 0 {
			before = len(b) - len(rest)
		}
		n := copy(s.prefix[s.have:], rest)
		rest = rest[n:]
		if s.have += uint8(n); s.have < PrefixLen {
			break
		}
		s.have = 0
		s.left = binary.BigEndian.Uint32(s.prefix[1:])
		if limit > 0 && s.left > limit {
			return s.left, before
		}
		s.messages++
		if s.Each != nil {
			s.Each(s.prefix[0], s.left)
		}
	}
	return 0, len(b)
}

// Inside reports whether a message has begun and not ended.
func (s *Scanner) Inside() bool { return s.left > 0 || s.have > 0 }

// Messages returns how many have begun, modulo 2^32: those whose prefix is complete.
func (s *Scanner) Messages() uint32 { return s.messages }
