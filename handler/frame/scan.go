package frame

import (
	"encoding/binary"
	"fmt"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// scanner follows the messages in one direction of a call, of which it looks at
// the prefixes only: to keep a limit, and to notice a call that ends inside a
// message.
type scanner struct {
	left   uint32 // bytes of the present message still to come
	have   int    // bytes of prefix that have come, while it is not complete
	prefix [stream.PrefixLen]byte
}

// scan takes in the next bytes. If a message begins in them, or before, that is
// longer than limit (0: none is), it returns the message's length and how many
// of the bytes come before it; else 0 and all of them.
func (s *scanner) scan(b []byte, limit uint32) (tooLong uint32, before int) {
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
		if s.have += n; s.have < len(s.prefix) {
			break
		}
		s.have = 0
		s.left = binary.BigEndian.Uint32(s.prefix[1:])
		if limit > 0 && s.left > limit {
			return s.left, before
		}
	}
	return 0, len(b)
}

// inside reports whether a message has begun and not ended.
func (s *scanner) inside() bool { return s.left > 0 || s.have > 0 }

func messageTooLarge(name string, length, limit uint32) *stream.Failure {
	return &stream.Failure{
		Reason: stream.MessageTooLarge, Code: stream.ResourceExhausted,
		Message: fmt.Sprintf("%s: a message of %d bytes exceeds the proxy's limit of %d bytes (limits.message, or message_limit of the route)", name, length, limit),
	}
}
