package h2

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// maxGrowth is how much memory an attacker may make a process hold.
const maxGrowth = 16 << 20

func heap() int64 {
	runtime.GC()
	runtime.GC() // the pools' second generation
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// attack is what a client does to a server that echoes, beside a healthy one.
type attack struct {
	name  string
	with  rawh2.Options
	do    func(c *rawh2.Conn)
	ended bool // the connection is, with ENHANCE_YOUR_CALM
	large int  // the server answers each request with so many bytes
}

// until sends until the connection is over; what fails then is no matter.
func until(c *rawh2.Conn, n int, send func(i int) error) {
	for i := 0; i < n && c.Context().Err() == nil; i++ {
		if send(i) != nil {
			return
		}
	}
}

const forEver = 1 << 17

var attacks = []attack{
	{name: "rapid reset", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(i int) error {
			_ = c.HeadersFrame(uint32(2*i+1), rawRequest(), true)
			return c.RawFrame(http2.FrameRSTStream, 0, uint32(2*i+1), []byte{0, 0, 0, 8})
		})
	}},
	{name: "streams that the server has to reset", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(i int) error {
			_ = c.HeadersFrame(uint32(2*i+1), rawRequest(), true)
			return c.RawFrame(http2.FrameData, 0, uint32(2*i+1), []byte("x")) // after END_STREAM
		})
	}},
	{name: "windows that the server has to refuse", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(i int) error {
			_ = c.HeadersFrame(uint32(2*i+1), rawRequest(), false)
			return c.WindowUpdate(uint32(2*i+1), 0)
		})
	}},
	{name: "more streams than allowed", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(i int) error { return c.HeadersFrame(uint32(2*i+1), rawRequest(), false) })
	}},
	{name: "CONTINUATION without end", ended: true, with: rawh2.Options{WithholdSettings: true}, do: func(c *rawh2.Conn) {
		_ = c.RawFrame(http2.FrameSettings, 0, 0, nil) // and no acknowledgement, which would be a fault of its own
		_ = c.RawFrame(http2.FrameHeaders, 0, 1, []byte{0x88})
		until(c, forEver, func(int) error { return c.RawFrame(http2.FrameContinuation, 0, 1, []byte{0x88}) })
	}},
	{name: "SETTINGS", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(int) error { return c.RawFrame(http2.FrameSettings, 0, 0, nil) })
	}},
	{name: "PING", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(int) error { return c.Ping([8]byte{}) })
	}},
	{name: "PRIORITY", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(int) error { return c.RawFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 0, 1}) })
	}},
	{name: "unknown frames", ended: true, do: func(c *rawh2.Conn) {
		until(c, forEver, func(int) error { return c.RawFrame(200, 0, 0, nil) })
	}},
	{name: "empty DATA", ended: true, do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), false)
		until(c, forEver, func(int) error { return c.RawFrame(http2.FrameData, 0, 1, nil) })
	}},
	{name: "DATA of nothing but padding", do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), false)
		padding := append([]byte{255}, make([]byte, 255)...)
		until(c, 1<<12, func(int) error { return c.RawFrame(http2.FrameData, http2.FlagDataPadded, 1, padding) })
	}, ended: true},
	{name: "RST_STREAM", ended: true, do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), true)
		until(c, forEver, func(int) error { return c.RawFrame(http2.FrameRSTStream, 0, 1, []byte{0, 0, 0, 8}) })
	}},
	{name: "DATA of one byte", ended: true, do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), false)
		until(c, 1<<15, func(int) error { return c.RawFrame(http2.FrameData, 0, 1, []byte{0}) })
	}},
	{name: "WINDOW_UPDATE of 1", large: 1 << 20, ended: true, do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), true)
		until(c, forEver, func(int) error { _ = c.WindowUpdate(1, 1); return c.WindowUpdate(0, 1) })
	}, with: rawh2.Options{ManualWindow: true, Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}}},
	{name: "a header list that expands", ended: true, do: func(c *rawh2.Conn) {
		long := rawh2.F("a", string(make([]byte, 4000)))
		until(c, 1, func(int) error { return c.HeadersFrame(1, rawRequest(long), true) })
		block := make([]byte, maxFrameSize)
		for i := range block {
			block[i] = 0x80 | 62 // the last entry of the table
		}
		until(c, forEver, func(i int) error {
			return c.RawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, uint32(2*i+3), block)
		})
	}},
	{name: "large answers that nobody takes", large: 1 << 20, do: func(c *rawh2.Conn) {
		until(c, 90, func(i int) error { return c.HeadersFrame(uint32(2*i+1), rawRequest(), true) })
	}, with: takesNothing},
	{name: "more of an answer than may wait", large: 9 << 20, ended: true, do: func(c *rawh2.Conn) {
		_ = c.HeadersFrame(1, rawRequest(), true)
	}, with: takesNothing},
}

// takesNothing is a client that closes its window.
var takesNothing = rawh2.Options{
	ManualWindow: true, Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}},
}

func attackConfig() *Config {
	cfg := testConfig()
	cfg.Begin = func(s *Stream, fields []hpack.HeaderField, last bool) { beginEcho(s, fields, false) }
	return cfg
}

// TestAttacks runs one attack at a time: they are about memory.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			cfg := attackConfig()
			if a.large > 0 {
				answer := make([]byte, a.large)
				cfg.Begin = func(s *Stream, fields []hpack.HeaderField, last bool) {
					if last {
						_ = s.WriteHeaders(okHead, false)
						s.WriteData(answer, true)
						return
					}
					beginEcho(s, fields, last)
				}
			} else if a.name == "rapid reset" {
				cfg.Begin = func(*Stream, []hpack.HeaderField, bool) {} // as if the answer took its time
			}
			addr := serveConns(t, cfg)
			check := healthy(t, cfg)
			before := heap()
			c, err := rawh2.Dial(context.Background(), addr, a.with)
			require.NoError(t, err)
			a.do(c)
			check()
			if a.ended {
				requireGoAway(t, c, http2.ErrCodeEnhanceYourCalm)
			} else {
				require.NoError(t, c.Ping([8]byte{}))
				require.NoError(t, c.AwaitPongs(context.Background(), 1))
			}
			require.Less(t, heap()-before, int64(maxGrowth), "the attacker's own memory counts, too")
			c.Close()
			check()
		})
	}
}

// healthy returns a check of a stream on a connection of its own: that all it
// sends comes back.
func healthy(t *testing.T, attacked *Config) func() {
	cfg := *attacked
	cfg.Begin = beginEcho
	client, _ := pair(t, testConfig(), &cfg)
	s, e := open(t, client, false)
	e.s = s
	total := 0
	return func() {
		t.Helper()
		s.WriteData(pattern(100<<10), false)
		client.Flush()
		total += 100 << 10
		e.await(t, "the echo", func() bool { return len(e.body) == total })
	}
}

// A client that makes the server answer and never reads is cut off when its
// answers exceed their limit, and what streams hold theirs.
func TestNeverReading(t *testing.T) {
	for _, what := range []string{"answers", "data"} {
		t.Run(what, func(t *testing.T) {
			cfg := attackConfig()
			cfg.MaxQueued = 4 << 20
			cfg.MaxStreams = 1 << 20
			check := healthy(t, cfg)
			before := heap()
			near, far := net.Pipe() // which holds nothing by itself
			c := NewServer(near, cfg)
			ended := serving(t, c)
			fr := http2.NewFramer(far, nil)
			_, err := far.Write([]byte(http2.ClientPreface))
			require.NoError(t, err)
			require.NoError(t, fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
			require.NoError(t, fr.WriteWindowUpdate(0, 1<<30))
			id := uint32(1)
			for what == "answers" {
				block := []byte{0x83, 0x86, 0x84} // POST, http, /
				if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil {
					break
				}
				id += 2
				if fr.WriteData(id-2, true, make([]byte, 100)) != nil {
					break
				}
			}
			for block := []byte{0x83, 0x86, 0x84}; what == "data"; {
				if id == 1 {
					require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}))
					id++
				}
				// Echoed, and never taken: its window is never credited.
				if fr.WriteData(1, false, make([]byte, 1000)) != nil {
					break
				}
				c.mu.Lock()
				full := c.streams[1] != nil && c.streams[1].recvWindow < 1000
				c.mu.Unlock()
				if full {
					break
				}
			}
			check()
			require.Less(t, heap()-before, int64(maxGrowth))
			if what == "answers" {
				var fault *ConnError
				require.ErrorAs(t, await(t, ended, "Serve"), &fault)
				require.Equal(t, http2.ErrCodeEnhanceYourCalm, fault.Code)
			}
			require.NoError(t, far.Close())
			check()
		})
	}
}

// Half of anything, and then silence.
func TestSilence(t *testing.T) {
	settings := frames(func(fr *http2.Framer, _ func(...hpack.HeaderField) []byte) { _ = fr.WriteSettings() })
	for name, b := range map[string]string{
		"nothing":         "",
		"half a preface":  http2.ClientPreface[:10],
		"no SETTINGS":     http2.ClientPreface,
		"half SETTINGS":   http2.ClientPreface + string(settings[:5]),
		"SETTINGS":        http2.ClientPreface + string(settings),
		"half a frame":    http2.ClientPreface + string(settings) + "\x00\x00\x08\x06\x00\x00\x00\x00\x00abc",
		"half of headers": http2.ClientPreface + string(settings) + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := attackConfig()
			cfg.HandshakeTimeout, cfg.Keepalive = 20*time.Millisecond, 20*time.Millisecond
			client, err := rawh2.Dial(context.Background(), serveConns(t, cfg), rawh2.Options{NoPreface: true, ManualPong: true})
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, client.RawWrite([]byte(b)))
			require.NoError(t, client.AwaitClosed(context.Background()))
		})
	}
}
