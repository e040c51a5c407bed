package rawh2

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// Stream is one stream of a Conn, seen from either side. What arrives is kept
// in order, so that awaiting something never loses what came before it; only
// ReadFrame and NextData consume, each event once.
type Stream struct {
	conn *Conn
	id   uint32

	// Guarded by conn.mu.
	changed    signal
	events     []Event
	read       int // events that ReadFrame has returned
	sendWindow int64
}

// streamLocked makes the stream of that number. The caller holds c.mu.
func (c *Conn) streamLocked(id uint32) *Stream {
	s := &Stream{conn: c, id: id, sendWindow: c.peerWindow}
	c.streams[id] = s
	return s
}

// ID is the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Conn is the connection that the stream is on.
func (s *Stream) Conn() *Conn { return s.conn }

// Context ends when the connection does. It is what a script waits with.
func (s *Stream) Context() context.Context { return s.conn.ctx }

// Request is the header block that opened a Server's stream.
func (s *Stream) Request() Fields {
	for _, e := range s.Events() {
		if e.Kind == HeadersEvent {
			return e.Fields
		}
	}
	return nil
}

// Events returns all that has arrived so far.
func (s *Stream) Events() []Event {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return append([]Event(nil), s.events...)
}

// Headers sends a header block.
func (s *Stream) Headers(fields Fields, endStream bool) error {
	return s.conn.HeadersFrame(s.id, fields, endStream)
}

// Trailers sends a header block that ends the stream.
func (s *Stream) Trailers(fields ...Field) error { return s.Headers(fields, true) }

// Data sends bytes in DATA frames as flow control and the peer's maximal
// frame size allow, blocking for window as needed.
func (s *Stream) Data(b []byte, endStream bool) error {
	for {
		n, err := s.takeWindow(len(b))
		if err != nil {
			return err
		}
		part := b[:n]
		b = b[n:]
		last := len(b) == 0
		if err := s.DataFrame(part, endStream && last); err != nil || last {
			return err
		}
	}
}

// DataFrame sends one DATA frame whatever its size and the window.
func (s *Stream) DataFrame(b []byte, endStream bool) error {
	return s.conn.write("DATA", func() error { return s.conn.fr.WriteData(s.id, endStream, b) })
}

// takeWindow blocks until some of n bytes may be sent, and says how many.
func (s *Stream) takeWindow(n int) (granted int, err error) {
	if n == 0 {
		return 0, nil
	}
	c := s.conn
	err = c.await(c.ctx, &c.changed, fmt.Sprintf("window on stream %d", s.id), func() (bool, error) {
		if err := s.resetLocked(); err != nil {
			return false, err
		}
		granted = int(min(int64(n), int64(c.peerMaxFrame), c.sendWindow, s.sendWindow))
		if granted <= 0 {
			return false, nil
		}
		c.sendWindow -= int64(granted)
		s.sendWindow -= int64(granted)
		return true, nil
	})
	return granted, err
}

// Message sends one gRPC message.
func (s *Stream) Message(compressed byte, payload []byte) error {
	return s.Data(Frame(compressed, payload), false)
}

// Reset sends RST_STREAM.
func (s *Stream) Reset(code http2.ErrCode) error {
	return s.conn.write("RST_STREAM", func() error { return s.conn.fr.WriteRSTStream(s.id, code) })
}

// OK answers as a healthy unary method does: headers, one message, OK.
func (s *Stream) OK(message []byte) error {
	if err := s.Headers(ResponseFields(), false); err != nil {
		return err
	}
	if err := s.Message(0, message); err != nil {
		return err
	}
	return s.Trailers(F("grpc-status", "0"))
}

// Status answers trailers-only.
func (s *Stream) Status(code int, message string, extra ...Field) error {
	fields := ResponseFields(F("grpc-status", fmt.Sprint(code)), F("grpc-message", message))
	return s.Trailers(append(fields, extra...)...)
}

// ReadFrame returns the next event that no call has returned yet.
func (s *Stream) ReadFrame(ctx context.Context) (Event, error) {
	var e Event
	err := s.await(ctx, "a frame", func() (bool, error) {
		if s.read == len(s.events) {
			return false, nil
		}
		e = s.events[s.read]
		s.read++
		return true, nil
	})
	return e, err
}

// NextData is ReadFrame for the next DATA frame; header blocks before it are
// passed over, a RST_STREAM is a *ResetError.
func (s *Stream) NextData(ctx context.Context) (data []byte, endStream bool, err error) {
	for {
		e, err := s.ReadFrame(ctx)
		switch {
		case err != nil:
			return nil, false, err
		case e.Kind == ResetEvent:
			return nil, false, &ResetError{StreamID: s.id, Code: e.Code}
		case e.Kind == DataEvent:
			return e.Data, e.EndStream, nil
		}
	}
}

// AwaitHeaders returns the first header block.
func (s *Stream) AwaitHeaders(ctx context.Context) (Fields, error) {
	var fields Fields
	err := s.awaitOrReset(ctx, "headers", func() bool {
		for _, e := range s.events {
			if e.Kind == HeadersEvent {
				fields = e.Fields
				return true
			}
		}
		return false
	})
	return fields, err
}

// AwaitBody returns all DATA so far once it is at least n bytes.
func (s *Stream) AwaitBody(ctx context.Context, n int) ([]byte, error) {
	var body []byte
	err := s.awaitOrReset(ctx, fmt.Sprintf("%d bytes", n), func() bool {
		size := 0
		for _, e := range s.events {
			size += len(e.Data)
		}
		if size < n {
			return false
		}
		body = bodyOf(s.events)
		return true
	})
	return body, err
}

// AwaitMessages returns the gRPC payloads so far once there are n.
func (s *Stream) AwaitMessages(ctx context.Context, n int) ([][]byte, error) {
	var payloads [][]byte
	err := s.awaitOrReset(ctx, fmt.Sprintf("%d messages", n), func() bool {
		payloads, _ = Messages(bodyOf(s.events))
		return len(payloads) >= n
	})
	return payloads, err
}

// AwaitEndStream returns all DATA once END_STREAM has come.
func (s *Stream) AwaitEndStream(ctx context.Context) ([]byte, error) {
	var body []byte
	err := s.awaitOrReset(ctx, "END_STREAM", func() bool {
		for _, e := range s.events {
			if e.EndStream {
				body = bodyOf(s.events)
				return true
			}
		}
		return false
	})
	return body, err
}

// AwaitReset returns the code of the first RST_STREAM.
func (s *Stream) AwaitReset(ctx context.Context) (http2.ErrCode, error) {
	var reset *ResetError
	err := s.await(ctx, "RST_STREAM", func() (bool, error) {
		return errors.As(s.resetLocked(), &reset), nil
	})
	if err != nil {
		return 0, err
	}
	return reset.Code, nil
}

// Reply is how a stream went, from a client's point of view.
type Reply struct {
	Header       Fields // the first header block; nil when trailers-only or reset before it
	Trailer      Fields // the header block with END_STREAM; nil when there was none
	TrailersOnly bool
	Body         []byte
	Reset        *ResetError // a RST_STREAM that came before END_STREAM
}

// AwaitReply waits until the stream has ended in whichever way.
func (s *Stream) AwaitReply(ctx context.Context) (Reply, error) {
	var reply Reply
	err := s.await(ctx, "a reply", func() (bool, error) {
		reply = Reply{Body: bodyOf(s.events)}
		for _, e := range s.events {
			switch {
			case e.Kind == ResetEvent:
				reply.Reset = &ResetError{StreamID: s.id, Code: e.Code}
				return true, nil
			case e.Kind == HeadersEvent && e.EndStream:
				reply.Trailer, reply.TrailersOnly = e.Fields, reply.Header == nil
				return true, nil
			case e.EndStream:
				return true, nil
			case e.Kind == HeadersEvent && reply.Header == nil:
				reply.Header = e.Fields
			}
		}
		return false, nil
	})
	return reply, err
}

func (s *Stream) await(ctx context.Context, what string, done func() (bool, error)) error {
	return s.conn.await(ctx, &s.changed, fmt.Sprintf("%s on stream %d", what, s.id), done)
}

// awaitOrReset is await for what a RST_STREAM puts an end to.
func (s *Stream) awaitOrReset(ctx context.Context, what string, done func() bool) error {
	return s.await(ctx, what, func() (bool, error) {
		if done() {
			return true, nil
		}
		return false, s.resetLocked()
	})
}

// resetLocked returns a *ResetError if the peer reset the stream.
func (s *Stream) resetLocked() error {
	for _, e := range s.events {
		if e.Kind == ResetEvent {
			return &ResetError{StreamID: s.id, Code: e.Code}
		}
	}
	return nil
}

// bodyOf joins the DATA of events.
func bodyOf(events []Event) []byte {
	var parts [][]byte
	for _, e := range events {
		if e.Kind == DataEvent {
			parts = append(parts, e.Data)
		}
	}
	return bytes.Join(parts, nil)
}
