// Package rawh2 holds parties that speak HTTP/2 frame by frame over real
// loopback sockets, for tests of what a well-behaved library cannot express:
// trailers that come twice, a message that ends early, a REFUSED_STREAM, a
// header block that no decoder accepts.
//
// A Server hands each stream to a script; Dial makes a client. Both sides
// share Conn and Stream: everything that arrives is recorded in order and
// nothing is judged, and everything can be sent, legal or not. Only what a
// test seldom wants to think about happens by itself: acknowledging SETTINGS
// and PING, giving flow-control window back (unless Options.ManualWindow), and
// waiting for window before DATA.
//
// Nothing sleeps. Each wait takes a context and ends after SafetyTimeout at
// the latest, with an error that says what was waited for.
package rawh2

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// SafetyTimeout ends every wait and every write, so that a party that does not
// do what a test expects fails the test instead of hanging it.
const SafetyTimeout = 20 * time.Second

// Field is one field of a header block, as it crosses the wire.
type Field struct {
	Name, Value string
}

// F makes a Field.
func F(name, value string) Field { return Field{Name: name, Value: value} }

// Fields is a header block: order and repetition are kept.
type Fields []Field

// Get returns the first value of name, "" when there is none.
func (fs Fields) Get(name string) string {
	for _, f := range fs {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Has reports whether a field of that name is present, empty or not.
func (fs Fields) Has(name string) bool { return len(fs.Values(name)) > 0 }

// Values returns every value of name in order.
func (fs Fields) Values(name string) []string {
	var values []string
	for _, f := range fs {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// String lists the fields for a test's failure message.
func (fs Fields) String() string {
	parts := make([]string, len(fs))
	for i, f := range fs {
		parts[i] = fmt.Sprintf("%s=%q", f.Name, f.Value)
	}
	return strings.Join(parts, " ")
}

// RequestFields is the header block of an ordinary gRPC request. method is
// the :path, authority the :authority; extra fields follow in order.
func RequestFields(method, authority string, extra ...Field) Fields {
	return append(Fields{
		F(":method", "POST"), F(":scheme", "http"), F(":path", method), F(":authority", authority),
		F("content-type", "application/grpc"), F("te", "trailers"),
	}, extra...)
}

// ResponseFields is the header block that begins an ordinary gRPC response.
func ResponseFields(extra ...Field) Fields {
	return append(Fields{F(":status", "200"), F("content-type", "application/grpc")}, extra...)
}

// Frame puts the 5-byte prefix before a gRPC message.
func Frame(compressed byte, payload []byte) []byte {
	return append(Prefix(compressed, uint32(len(payload))), payload...)
}

// Prefix is a message's 5-byte prefix alone: it may claim any length.
func Prefix(compressed byte, length uint32) []byte {
	p := make([]byte, 5, 5+min(length, 1<<20))
	p[0] = compressed
	binary.BigEndian.PutUint32(p[1:], length)
	return p
}

// Messages cuts a stream's bytes into gRPC payloads. rest is what remains
// when the last message is not complete.
func Messages(body []byte) (payloads [][]byte, rest []byte) {
	for len(body) >= 5 {
		n := int(binary.BigEndian.Uint32(body[1:5]))
		if len(body)-5 < n {
			break
		}
		payloads = append(payloads, body[5:5+n])
		body = body[5+n:]
	}
	return payloads, body
}

// Options is how a party behaves by itself. The zero value is a polite peer
// with HTTP/2's default settings.
type Options struct {
	// Settings are sent in the first SETTINGS frame.
	Settings []http2.Setting
	// WithholdSettings leaves the first SETTINGS frame to the test, which
	// calls Conn.SendSettings. Automatic replies wait for it, since nothing
	// may precede it.
	WithholdSettings bool
	// ManualWindow turns automatic WINDOW_UPDATEs off, from the start.
	ManualWindow bool
	// ManualPong leaves PINGs unanswered, for a test that holds up a peer that
	// waits for the answer, as a graceful GOAWAY does; see Conn.Pong.
	ManualPong bool
	// NoPreface makes a client that sends nothing by itself, not even the
	// preface: everything on the wire is what RawWrite sends.
	NoPreface bool
}

// Setting makes an entry of Options.Settings.
func Setting(id http2.SettingID, value uint32) http2.Setting {
	return http2.Setting{ID: id, Val: value}
}

// EventKind is what an Event tells of.
type EventKind int

// The kinds of events.
const (
	HeadersEvent EventKind = iota + 1
	DataEvent
	ResetEvent
	GoAwayEvent
	SettingsEvent
	SettingsAckEvent
	PingEvent
	PongEvent
	WindowUpdateEvent
	PushPromiseEvent
)

// String returns the frame type's name.
func (k EventKind) String() string {
	names := [...]string{
		"", "HEADERS", "DATA", "RST_STREAM", "GOAWAY", "SETTINGS", "SETTINGS ack", "PING", "PING ack",
		"WINDOW_UPDATE", "PUSH_PROMISE",
	}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return "event"
}

// Event is one frame that arrived; a header block with its continuations is
// one event.
type Event struct {
	Kind      EventKind
	StreamID  uint32
	Fields    Fields          // HEADERS, PUSH_PROMISE
	Data      []byte          // DATA; the debug data of GOAWAY; the 8 bytes of PING
	EndStream bool            // HEADERS, DATA
	Code      http2.ErrCode   // RST_STREAM, GOAWAY
	LastID    uint32          // GOAWAY: the last stream processed; PUSH_PROMISE: the promised one
	Increment uint32          // WINDOW_UPDATE
	Settings  []http2.Setting // SETTINGS
}

// String describes the event in a line.
func (e Event) String() string {
	s := fmt.Sprintf("%s(stream %d", e.Kind, e.StreamID)
	switch e.Kind {
	case HeadersEvent, PushPromiseEvent:
		s += " " + e.Fields.String()
	case DataEvent:
		s += fmt.Sprintf(" %d bytes", len(e.Data))
	case ResetEvent:
		s += " " + e.Code.String()
	case GoAwayEvent:
		s += fmt.Sprintf(" last=%d %s %q", e.LastID, e.Code, e.Data)
	}
	if e.EndStream {
		s += " END_STREAM"
	}
	return s + ")"
}

// ResetError is what a wait returns when the peer reset the stream instead.
type ResetError struct {
	StreamID uint32
	Code     http2.ErrCode
}

// Error names stream and code.
func (e *ResetError) Error() string {
	return fmt.Sprintf("stream %d was reset with %s", e.StreamID, e.Code)
}
