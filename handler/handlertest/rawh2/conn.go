package rawh2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ErrClosed is why a connection is over that this side closed.
var ErrClosed = errors.New("closed by this side")

// Conn is one HTTP/2 connection, of a Server or made by Dial. All methods may
// be called from any goroutine; what two goroutines send is not interleaved
// within a frame or a header block.
type Conn struct {
	nc     net.Conn
	client bool
	opts   Options
	script func(*Stream) // a Server's, nil for none
	onNew  func(*Stream) // tells the Server of a stream
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // readLoop, replyLoop and the scripts

	openMu sync.Mutex // held while NewStream takes a number and uses it

	wmu  sync.Mutex // held while a frame or a header block is written
	fr   *http2.Framer
	henc *hpack.Encoder
	hbuf bytes.Buffer

	mu           sync.Mutex // guards what follows, and the Streams
	changed      signal     // fired at each connection event and window change
	streams      map[uint32]*Stream
	nextID       uint32
	events       []Event
	manualWindow bool
	sendWindow   int64
	peerWindow   int64 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	peerMaxFrame int
	settingsSent bool
	replies      []func() error // automatic replies not yet sent
	replyWake    *sync.Cond
	over         bool
	err          error // why it is over
}

func newConn(nc net.Conn, client bool, opts Options) *Conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Conn{
		nc: nc, client: client, opts: opts, ctx: ctx, cancel: cancel,
		streams: map[uint32]*Stream{}, nextID: 1,
		manualWindow: opts.ManualWindow,
		sendWindow:   65535, peerWindow: 65535, peerMaxFrame: 16384,
	}
	c.replyWake = sync.NewCond(&c.mu)
	c.fr = http2.NewFramer(nc, nil)
	c.fr.AllowIllegalWrites = true
	c.henc = hpack.NewEncoder(&c.hbuf)
	return c
}

// start sends what a connection begins with and starts its goroutines, which
// end when the connection does.
func (c *Conn) start() {
	c.wg.Add(2)
	go c.readLoop()
	go c.replyLoop()
	if c.client && !c.opts.NoPreface {
		_ = c.RawWrite([]byte(http2.ClientPreface)) // a failure shows as a connection that is over
	}
	if !c.opts.WithholdSettings && !c.opts.NoPreface {
		_ = c.SendSettings(c.opts.Settings...)
	}
}

// Context ends when the connection does.
func (c *Conn) Context() context.Context { return c.ctx }

// LocalAddr is this side's address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Close closes the TCP connection in good order and waits for the
// connection's goroutines, scripts included. A script may therefore not call
// it: Hangup and Abort are for scripts.
func (c *Conn) Close() {
	c.Hangup()
	c.wg.Wait()
}

// Hangup closes the TCP connection (FIN, or RST if something is unread).
func (c *Conn) Hangup() { c.finish(ErrClosed) }

// Abort closes the TCP connection with a RST, as a crash does.
func (c *Conn) Abort() {
	if tc, ok := c.nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	c.finish(ErrClosed)
}

// CloseWrite sends the FIN of this side's direction and goes on reading.
func (c *Conn) CloseWrite() error {
	tc, ok := c.nc.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("a %T cannot be closed in one direction", c.nc)
	}
	return tc.CloseWrite()
}

// finish ends the connection; err says why. Only the first call counts.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over, c.err = true, err
	_ = c.nc.Close()
	c.cancel()
	c.replyWake.Broadcast()
	c.changed.fire()
	for _, s := range c.streams {
		s.changed.fire()
	}
}

// replyLoop sends the automatic replies. It is not the reader that does,
// because two readers that each wait for the other to read would hang.
func (c *Conn) replyLoop() {
	defer c.wg.Done()
	for {
		c.mu.Lock()
		for !c.over && (len(c.replies) == 0 || !c.settingsSent) {
			c.replyWake.Wait()
		}
		replies, over := c.replies, c.over
		c.replies = nil
		c.mu.Unlock()
		if over {
			return
		}
		for _, reply := range replies {
			_ = reply() // a failure shows as a connection that is over
		}
	}
}

// reply queues an automatic reply. The caller holds c.mu.
func (c *Conn) reply(send func() error) {
	c.replies = append(c.replies, send)
	c.replyWake.Signal()
}

// write runs one write to the socket under the write lock. A peer that does
// not read cannot hold it for longer than SafetyTimeout.
func (c *Conn) write(what string, send func() error) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.nc.SetWriteDeadline(time.Now().Add(SafetyTimeout)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := send(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// RawWrite puts bytes on the wire that need not be HTTP/2.
func (c *Conn) RawWrite(b []byte) error {
	return c.write("raw bytes", func() error { _, err := c.nc.Write(b); return err })
}

// RawFrame sends a frame with any type, flags, stream and payload.
func (c *Conn) RawFrame(t http2.FrameType, flags http2.Flags, streamID uint32, payload []byte) error {
	return c.write("frame", func() error { return c.fr.WriteRawFrame(t, flags, streamID, payload) })
}

// SendSettings sends a SETTINGS frame.
func (c *Conn) SendSettings(settings ...http2.Setting) error {
	err := c.write("SETTINGS", func() error { return c.fr.WriteSettings(settings...) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settingsSent = true
	c.replyWake.Signal()
	return err
}

// Ping sends a PING.
func (c *Conn) Ping(data [8]byte) error {
	return c.write("PING", func() error { return c.fr.WritePing(false, data) })
}

// Pong answers a PING, for Options.ManualPong.
func (c *Conn) Pong(data [8]byte) error {
	return c.write("PING ack", func() error { return c.fr.WritePing(true, data) })
}

// GoAway sends a GOAWAY.
func (c *Conn) GoAway(last uint32, code http2.ErrCode, debug string) error {
	return c.write("GOAWAY", func() error { return c.fr.WriteGoAway(last, code, []byte(debug)) })
}

// WindowUpdate gives n bytes of window; stream 0 is the connection.
func (c *Conn) WindowUpdate(streamID, n uint32) error {
	return c.write("WINDOW_UPDATE", func() error { return c.fr.WriteWindowUpdate(streamID, n) })
}

// SetManualWindow turns automatic WINDOW_UPDATEs off or on again. What came
// while they were off is not made up for.
func (c *Conn) SetManualWindow(manual bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manualWindow = manual
}

// HeadersFrame sends a header block on any stream, cut into CONTINUATION
// frames where it is longer than the peer takes in one frame.
func (c *Conn) HeadersFrame(streamID uint32, fields Fields, endStream bool) error {
	c.mu.Lock()
	maxFrame := c.peerMaxFrame
	c.mu.Unlock()
	return c.write("HEADERS", func() error {
		block := c.encode(fields)
		first := block[:min(len(block), maxFrame)]
		block = block[len(first):]
		err := c.fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: streamID, BlockFragment: first, EndStream: endStream, EndHeaders: len(block) == 0,
		})
		for err == nil && len(block) > 0 {
			next := block[:min(len(block), maxFrame)]
			block = block[len(next):]
			err = c.fr.WriteContinuation(streamID, len(block) == 0, next)
		}
		return err
	})
}

// PushPromise sends a PUSH_PROMISE on a stream.
func (c *Conn) PushPromise(streamID, promised uint32, fields Fields) error {
	return c.write("PUSH_PROMISE", func() error {
		return c.fr.WritePushPromise(http2.PushPromiseParam{
			StreamID: streamID, PromiseID: promised, BlockFragment: c.encode(fields), EndHeaders: true,
		})
	})
}

// encode compresses a header block; the result is valid until the next call.
// The caller holds c.wmu: blocks must go out in the order they are encoded.
func (c *Conn) encode(fields Fields) []byte {
	c.hbuf.Reset()
	for _, f := range fields {
		_ = c.henc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}) // a bytes.Buffer takes all
	}
	return c.hbuf.Bytes()
}

// NewStream opens a client's stream with a header block.
func (c *Conn) NewStream(fields Fields, endStream bool) (*Stream, error) {
	// Stream numbers must reach the wire in order, hence a lock around both.
	c.openMu.Lock()
	defer c.openMu.Unlock()
	c.mu.Lock()
	s := c.streamLocked(c.nextID)
	c.nextID += 2
	c.mu.Unlock()
	return s, s.Headers(fields, endStream)
}

// Events returns the connection-level events so far.
func (c *Conn) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Event(nil), c.events...)
}

// AwaitEvent returns the first connection-level event that match accepts.
func (c *Conn) AwaitEvent(ctx context.Context, what string, match func(Event) bool) (Event, error) {
	var found Event
	err := c.await(ctx, &c.changed, what, func() (bool, error) {
		for _, e := range c.events {
			if match(e) {
				found = e
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

// AwaitSettings returns the peer's first SETTINGS.
func (c *Conn) AwaitSettings(ctx context.Context) ([]http2.Setting, error) {
	e, err := c.AwaitEvent(ctx, "SETTINGS", func(e Event) bool { return e.Kind == SettingsEvent })
	return e.Settings, err
}

// AwaitSettingsAck waits until the peer has acknowledged n SETTINGS.
func (c *Conn) AwaitSettingsAck(ctx context.Context, n int) error {
	return c.await(ctx, &c.changed, "SETTINGS ack", func() (bool, error) {
		return c.countLocked(SettingsAckEvent) >= n, nil
	})
}

// AwaitGoAway returns the peer's first GOAWAY.
func (c *Conn) AwaitGoAway(ctx context.Context) (Event, error) {
	return c.AwaitEvent(ctx, "GOAWAY", func(e Event) bool { return e.Kind == GoAwayEvent })
}

// AwaitPongs waits until the peer has answered n PINGs.
func (c *Conn) AwaitPongs(ctx context.Context, n int) error {
	return c.await(ctx, &c.changed, "PING ack", func() (bool, error) {
		return c.countLocked(PongEvent) >= n, nil
	})
}

func (c *Conn) countLocked(kind EventKind) (n int) {
	for _, e := range c.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// AwaitClosed waits until the connection is over.
func (c *Conn) AwaitClosed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, SafetyTimeout)
	defer cancel()
	select {
	case <-c.ctx.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the connection's end: %w", ctx.Err())
	}
}

// Err says why the connection is over: io.EOF when the peer closed it,
// ErrClosed when this side did, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// await blocks until done, which runs under c.mu each time the signal fires,
// returns true or an error.
func (c *Conn) await(ctx context.Context, on *signal, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, SafetyTimeout)
	defer cancel()
	for {
		c.mu.Lock()
		ok, err := done()
		over, why := c.over, c.err
		changed := on.wait()
		c.mu.Unlock()
		switch {
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case ok:
			return nil
		case over:
			return fmt.Errorf("waiting for %s: connection over: %w", what, why)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// signal wakes everyone who waits for a change. Its methods need the lock
// that guards what changes.
type signal struct{ ch chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
