package kitexgrpc

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// script is a connection whose reads are given beforehand.
type script struct {
	net.Conn
	reads [][]byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.reads[0])
	s.reads = s.reads[1:]
	return n, nil
}

func (s *script) Close() error { return nil }

func settled(c *watchedConn) bool {
	select {
	case <-c.settled:
		return true
	default:
		return false
	}
}

func TestSettledOnceTheFirstFrameWasTakenIn(t *testing.T) {
	settings := append([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0}, 0, 3, 0, 0, 0, 1)
	for name, cut := range map[string]int{"whole": len(settings), "byte by byte": 1, "after the header": frameHeaderLen, "short of one byte": len(settings) - 1} {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			for rest := settings; len(rest) > 0; {
				n := min(cut, len(rest))
				s.reads, rest = append(s.reads, rest[:n]), rest[n:]
			}
			c := watch(s, 1<<20)
			for p := make([]byte, 64); len(s.reads) > 0; {
				_, err := c.Read(p)
				require.NoError(t, err)
				require.False(t, settled(c), "the frame is still being handled")
			}
			_, err := c.Read(make([]byte, 64))
			require.Equal(t, io.EOF, err)
			require.True(t, settled(c))
			require.EqualValues(t, 1, c.maxStreams())
		})
	}
}

func TestReaderGoneOnlyIfItStaysAway(t *testing.T) {
	c := watch(&script{reads: [][]byte{bytes.Repeat([]byte{0}, 9)}}, 1<<20)
	look := func(times int) (gone bool) {
		for range times {
			gone = c.readerGone()
		}
		return gone
	}
	require.False(t, look(2*readerGoneAfter), "before the first read")
	_, _ = c.Read(make([]byte, 9))
	require.False(t, look(readerGoneAfter), "the first look only notes the read")
	require.True(t, look(1))

	c.reading.Store(true)
	require.False(t, look(2*readerGoneAfter), "it waits in Read")
	c.reading.Store(false)
	c.writing.Store(true)
	require.False(t, look(2*readerGoneAfter), "it may wait for the writer")
}

// FuzzFirstFrame cuts arbitrary bytes into arbitrary reads: the connection is
// settled exactly when a read follows the end of the first frame.
func FuzzFirstFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}, uint8(9))
	f.Add([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 'x'}, uint8(1))
	f.Fuzz(func(t *testing.T, received []byte, cut uint8) {
		s := &script{}
		for rest := received; len(rest) > 0; {
			n := min(max(1, int(cut)), len(rest))
			s.reads, rest = append(s.reads, rest[:n]), rest[n:]
		}
		c, seen := watch(s, 1<<20), 0
		for {
			done := seen >= frameHeaderLen && seen >= frameHeaderLen+int(received[0])<<16+int(received[1])<<8+int(received[2])
			n, err := c.Read(make([]byte, 256))
			if settled(c) != done {
				t.Fatalf("settled is %v after %d bytes of %x", !done, seen, received)
			}
			if done && c.maxStreams() < 0 {
				t.Fatalf("a negative limit from %x", received)
			}
			if err != nil {
				return
			}
			seen += n
		}
	})
}
