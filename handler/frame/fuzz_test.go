package frame

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// FuzzBackend has a backend answer with frames of any kind on the call's stream:
// the call ends, with one status or a reset, and nothing is left of it.
func FuzzBackend(f *testing.F) {
	f.Add([]byte("h0d5\x00\x00\x00\x00\x00t0"), true)
	f.Add([]byte("hd\x06\x00\x00\x00\x00\x09xt"), false)
	f.Add([]byte("sr"), true)
	var mu sync.Mutex
	var script []byte
	shared, _ := to(f, options{maxMessage: 1000}, rawh2.Options{}, func(s *rawh2.Stream) {
		mu.Lock()
		b := script
		mu.Unlock()
		play(s, b)
	})
	f.Fuzz(func(t *testing.T, b []byte, last bool) {
		p := *shared
		p.t = t
		mu.Lock()
		script = b
		mu.Unlock()
		c, err := rawh2.Dial(t.Context(), p.addr, rawh2.Options{})
		require.NoError(t, err)
		defer c.Close()
		s, err := c.NewStream(rawh2.RequestFields(method, "test"), false)
		require.NoError(t, err)
		_ = s.Data(message, last)
		r, err := s.AwaitReply(p.safe())
		require.NoError(t, err)
		if r.Reset == nil {
			require.Len(t, r.Trailer.Values("grpc-status"), 1)
		}
		_ = s.Reset(http2.ErrCodeCancel)
		p.settles()
	})
}

// play sends a frame for each byte that stands for one, and the bytes that
// follow a d as DATA. Then it goes, so that something ends the call.
func play(s *rawh2.Stream, b []byte) {
	for len(b) > 0 {
		kind := b[0]
		b = b[1:]
		switch kind {
		case 'h':
			_ = s.Headers(rawh2.ResponseFields(), false)
		case 'd':
			n := 0
			if len(b) > 0 {
				n = min(int(b[0]), len(b))
			}
			_ = s.DataFrame(b[:n], false)
			b = b[n:]
		case 'e':
			_ = s.DataFrame(nil, true)
		case 't':
			_ = s.Trailers(rawh2.F("grpc-status", "0"))
		case 'T':
			_ = s.Headers(rawh2.Fields{rawh2.F("grpc-status", string(b))}, true)
		case 's':
			_ = s.Status(3, "no")
		case 'r':
			_ = s.Reset(http2.ErrCode(len(b)))
		case 'g':
			_ = s.Conn().GoAway(0, http2.ErrCodeNo, "")
		case 'w':
			_ = s.Conn().WindowUpdate(s.ID(), uint32(len(b)))
		}
	}
	s.Conn().Hangup()
}
