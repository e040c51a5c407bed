package attack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	fullBatch   = 64                     // frames in a write at full speed
	batchBytes  = 64 << 10               // in a write, and a frame
	batchPerSec = 200                    // writes a second at a given rate
	idleTime    = time.Millisecond       // between two looks at what a silent attacker waits for
	lastWords   = 100 * time.Millisecond // for the server's GOAWAY and end to arrive once writing has failed
	stallTime   = 200 * time.Millisecond // a write that takes longer is one that the server does not read
	initWindow  = 65535
)

// conn is the attacker's connection. One goroutine writes and, unless the attacker is deaf, another one reads.
type conn struct {
	ctx    context.Context
	net    net.Conn
	pace   *pacer
	closed func() bool // undoes the closing at the context's end

	out     frameBuffer // not yet written
	framer  *http2.Framer
	block   bytes.Buffer
	hpack   *hpack.Encoder
	stream  uint32 // the last one opened
	frames  uint64
	bytes   uint64
	stalled bool // the last write was not taken for a while
	silent  bool // replies are kept back

	done    chan struct{} // closed when reading has come to its end
	readErr error         // of that end

	mu         sync.Mutex
	replies    bytes.Buffer // what the protocol wants answered; goes out with the next write
	replier    *http2.Framer
	window     int // that the connection may send
	credit     int // that its first stream may send
	peerWindow int
	maxStreams uint32
	settled    bool // the server's SETTINGS are here
	inFlight   int  // for attackers that wait for answers
	goAway     string
	resets     map[string]int
}

// frameBuffer counts frames: a framer writes each with one Write.
type frameBuffer struct {
	bytes.Buffer
	frames int
}

func (b *frameBuffer) Write(p []byte) (int, error) {
	b.frames++
	return b.Buffer.Write(p)
}

func dial(ctx context.Context, addr string, pace *pacer) (*conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{
		ctx: ctx, net: nc, pace: pace,
		done:   make(chan struct{}),
		window: initWindow, credit: initWindow, peerWindow: initWindow, maxStreams: 100,
		resets: map[string]int{},
	}
	c.closed = context.AfterFunc(ctx, func() { nc.Close() })
	c.framer = http2.NewFramer(&c.out, nc)
	c.framer.AllowIllegalWrites = true
	c.framer.SetReuseFrames()
	c.replier = http2.NewFramer(&c.replies, nil)
	c.hpack = hpack.NewEncoder(&c.block)
	return c, nil
}

// close also waits for who reads.
func (c *conn) close(reading bool) {
	c.closed()
	c.net.Close()
	if reading {
		<-c.done
	}
}

// forever queues frames with send and writes them, a batch at a time.
func (c *conn) forever(send func() error) error {
	for {
		for n := c.pace.batch(); n > 0 && c.out.Len() < batchBytes; n-- {
			if err := send(); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

// flush writes what is queued, no sooner than the rate allows.
func (c *conn) flush() error {
	n := c.out.frames
	c.pace.wait(c.ctx, n)
	select {
	case <-c.done:
		return errCut
	case <-c.ctx.Done():
		return c.ctx.Err()
	default:
	}
	if !c.silent {
		c.mu.Lock()
		c.out.Buffer.Write(c.replies.Bytes())
		c.replies.Reset()
		c.mu.Unlock()
	}

	start := time.Now()
	written, err := c.net.Write(c.out.Bytes())
	c.stalled = err != nil && time.Since(start) > stallTime
	c.frames += uint64(n)
	c.bytes += uint64(written)
	c.out.Reset()
	c.out.frames = 0
	return err
}

// idle lets a little time pass and answers what has to be answered.
func (c *conn) idle() error {
	pause(c.ctx, idleTime)
	return c.flush()
}

// hold stays until the server or the attack ends the connection.
func (c *conn) hold() error {
	for {
		if err := c.idle(); err != nil {
			return err
		}
	}
}

// until idles until holds does, which may look at what is read.
func (c *conn) until(holds func() bool) error {
	for {
		c.mu.Lock()
		ok := holds()
		c.mu.Unlock()
		if ok {
			return nil
		}
		if err := c.idle(); err != nil {
			return err
		}
	}
}

// ending says how the server ended the connection, where writing failed with err.
func (c *conn) ending(err error) string {
	select {
	case <-c.done:
		err = c.readErr
	case <-time.After(lastWords):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.goAway != "":
		return c.goAway
	case errors.Is(err, io.EOF), errors.Is(err, errCut):
		return "closed"
	default:
		return "reset"
	}
}

// open queues the HEADERS of a request on a new stream.
func (c *conn) open(path string, flags http2.Flags) error {
	if err := c.encode(path); err != nil {
		return err
	}
	return c.headers(flags)
}

// encode makes a request's header block. Fields beside those of every request get the table for themselves.
func (c *conn) encode(path string, fields ...hpack.HeaderField) error {
	alone := len(fields) > 0
	c.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path, Sensitive: alone},
		{Name: ":authority", Value: "bench", Sensitive: alone},
		{Name: "content-type", Value: "application/grpc", Sensitive: alone},
		{Name: "te", Value: "trailers", Sensitive: alone},
	}, fields...) {
		if err := c.hpack.WriteField(f); err != nil {
			return err
		}
	}
	return nil
}

// headers queues the header block on a new stream.
func (c *conn) headers(flags http2.Flags) error {
	c.nextStream()
	return c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.stream, BlockFragment: c.block.Bytes(),
		EndHeaders: flags.Has(http2.FlagHeadersEndHeaders), EndStream: flags.Has(http2.FlagHeadersEndStream),
	})
}

func (c *conn) nextStream() {
	if c.stream == 0 {
		c.stream = 1
		return
	}
	c.stream += 2
}

// message queues a gRPC message as the last DATA of the newest stream.
func (c *conn) message(body []byte) error {
	c.mu.Lock()
	c.window -= len(body) + 5
	c.mu.Unlock()
	return c.framer.WriteData(c.stream, true, append(prefix(len(body)), body...))
}

// prefix is what comes before a gRPC message of n bytes.
func prefix(n int) []byte { return []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// read takes in what the server sends, until the connection is over.
func (c *conn) read() {
	defer close(c.done)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			c.readErr = err
			return
		}
		c.mu.Lock()
		c.take(f)
		c.mu.Unlock()
	}
}

// take is called with mu held. Errors of the replier are none: it writes to a buffer.
func (c *conn) take(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		c.takeSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.replier.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		switch f.StreamID {
		case 0:
			c.window += int(f.Increment)
		case 1:
			c.credit += int(f.Increment)
		}
	case *http2.DataFrame:
		if n := f.Length; n > 0 {
			_ = c.replier.WriteWindowUpdate(0, n)
		}
		c.takeEnd(f.StreamEnded())
	case *http2.HeadersFrame:
		c.takeEnd(f.StreamEnded())
	case *http2.RSTStreamFrame:
		c.resets[f.ErrCode.String()]++
		c.takeEnd(true)
	case *http2.GoAwayFrame:
		c.goAway = "GOAWAY " + f.ErrCode.String()
	}
}

func (c *conn) takeEnd(ended bool) {
	if ended {
		c.inFlight--
	}
}

func (c *conn) takeSettings(f *http2.SettingsFrame) {
	if f.IsAck() {
		return
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		c.credit += int(v) - c.peerWindow
		c.peerWindow = int(v)
	}
	if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
		c.maxStreams = v
	}
	c.settled = true
	_ = c.replier.WriteSettingsAck()
}

// pacer holds an attacker to a rate, over all its connections.
type pacer struct {
	rate int // frames a second; 0 is no limit
	next time.Time
}

func newPacer(rate int) *pacer { return &pacer{rate: rate, next: time.Now()} }

// batch is how many frames go into a write.
func (p *pacer) batch() int {
	if p.rate == 0 {
		return fullBatch
	}
	return max(1, p.rate/batchPerSec)
}

// wait returns when n more frames may be sent. What was not used is not saved up.
func (p *pacer) wait(ctx context.Context, n int) {
	if p.rate == 0 || n == 0 {
		return
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	pause(ctx, p.next.Sub(now))
}
