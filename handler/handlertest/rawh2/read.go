package rawh2

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readLoop records what arrives until the connection is over.
func (c *Conn) readLoop() {
	defer c.wg.Done()
	c.finish(c.read())
}

func (c *Conn) read() error {
	r := bufio.NewReader(c.nc)
	if !c.client {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(r, preface); err != nil {
			return fmt.Errorf("preface: %w", err)
		}
		if string(preface) != http2.ClientPreface {
			return fmt.Errorf("preface is %q", preface)
		}
	}
	in := reader{conn: c, hpack: hpack.NewDecoder(4096, nil)}
	fr := http2.NewFramer(io.Discard, r)
	fr.AllowIllegalReads = true     // tests judge what came, not the framer
	fr.SetMaxReadFrameSize(1 << 20) // far above what is asked for, yet less than an HTTP/1.1 reply seems to claim
	for {
		f, err := fr.ReadFrame()
		var illegal http2.StreamError
		if errors.As(err, &illegal) {
			continue
		}
		if err != nil {
			return err
		}
		if err := in.frame(f); err != nil {
			return err
		}
	}
}

// reader is what the read loop remembers from frame to frame.
type reader struct {
	conn  *Conn
	hpack *hpack.Decoder
	block bytes.Buffer // a header block whose end has not come
	open  Event        // the event that the block belongs to
}

func (r *reader) frame(f http2.Frame) error {
	e := Event{StreamID: f.Header().StreamID}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		e.Kind, e.EndStream = HeadersEvent, f.StreamEnded()
		return r.headers(e, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.PushPromiseFrame:
		e.Kind, e.LastID = PushPromiseEvent, f.PromiseID
		return r.headers(e, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return r.headers(r.open, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		e.Kind, e.EndStream, e.Data = DataEvent, f.StreamEnded(), bytes.Clone(f.Data())
		r.conn.recordData(e, f.Length)
		return nil
	case *http2.RSTStreamFrame:
		e.Kind, e.Code = ResetEvent, f.ErrCode
		r.conn.recordStream(e)
		return nil
	case *http2.GoAwayFrame:
		e.Kind, e.LastID, e.Code, e.Data = GoAwayEvent, f.LastStreamID, f.ErrCode, bytes.Clone(f.DebugData())
	case *http2.SettingsFrame:
		if f.IsAck() {
			e.Kind = SettingsAckEvent
			break
		}
		e.Kind = SettingsEvent
		for i := range f.NumSettings() {
			e.Settings = append(e.Settings, f.Setting(i))
		}
		r.conn.applySettings(e.Settings)
	case *http2.PingFrame:
		e.Kind, e.Data = PingEvent, bytes.Clone(f.Data[:])
		if f.IsAck() {
			e.Kind = PongEvent
		} else {
			r.conn.replyPong(f.Data)
		}
	case *http2.WindowUpdateFrame:
		e.Kind, e.Increment = WindowUpdateEvent, f.Increment
		r.conn.addWindow(f.StreamID, f.Increment)
	default:
		return nil // PRIORITY and unknown frames mean nothing to anyone here
	}
	r.conn.recordConn(e)
	return nil
}

// headers collects a header block and records it once it is complete. Every
// block is decoded, wanted or not: the decoder's table depends on it.
func (r *reader) headers(e Event, fragment []byte, ended bool) error {
	r.open = e
	r.block.Write(fragment)
	if !ended {
		return nil
	}
	decoded, err := r.hpack.DecodeFull(r.block.Bytes())
	if err != nil {
		return fmt.Errorf("header block of stream %d: %w", e.StreamID, err)
	}
	r.block.Reset()
	for _, f := range decoded {
		e.Fields = append(e.Fields, Field{Name: f.Name, Value: f.Value})
	}
	r.conn.recordStream(e)
	return nil
}

func (c *Conn) recordConn(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	c.changed.fire()
}

// recordStream files an event with its stream. A Server's first sight of a
// stream starts the script.
func (c *Conn) recordStream(e Event) {
	c.mu.Lock()
	s, known := c.streams[e.StreamID]
	if !known {
		s = c.streamLocked(e.StreamID)
	}
	s.events = append(s.events, e)
	s.changed.fire()
	if e.Kind == ResetEvent {
		c.changed.fire() // who waits for window on this stream waits there
	}
	c.mu.Unlock()
	if known || c.client || e.Kind != HeadersEvent {
		return
	}
	if c.onNew != nil {
		c.onNew(s)
	}
	if c.script != nil {
		c.wg.Go(func() { c.script(s) })
	}
}

// recordData files a DATA frame and gives its window back. length is the
// frame's, padding included, which is what flow control counts.
func (c *Conn) recordData(e Event, length uint32) {
	c.recordStream(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manualWindow || length == 0 {
		return
	}
	c.reply(func() error { return c.WindowUpdate(0, length) })
	if !e.EndStream {
		c.reply(func() error { return c.WindowUpdate(e.StreamID, length) })
	}
}

func (c *Conn) replyPong(data [8]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opts.ManualPong {
		c.reply(func() error { return c.Pong(data) })
	}
}

// applySettings makes this side's sending follow the peer's SETTINGS.
func (c *Conn) applySettings(settings []http2.Setting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range settings {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			delta := int64(s.Val) - c.peerWindow
			c.peerWindow += delta
			for _, st := range c.streams {
				st.sendWindow += delta
			}
		case http2.SettingMaxFrameSize:
			c.peerMaxFrame = int(s.Val)
		}
	}
	tableSize, sized := uint32(0), false
	for _, s := range settings {
		if s.ID == http2.SettingHeaderTableSize {
			tableSize, sized = s.Val, true
		}
	}
	c.reply(func() error {
		return c.write("SETTINGS ack", func() error {
			if sized {
				c.henc.SetMaxDynamicTableSizeLimit(tableSize)
			}
			return c.fr.WriteSettingsAck()
		})
	})
}

// addWindow takes a WINDOW_UPDATE into account.
func (c *Conn) addWindow(streamID, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if streamID == 0 {
		c.sendWindow += int64(n)
	} else if s := c.streams[streamID]; s != nil {
		s.sendWindow += int64(n)
	}
}
