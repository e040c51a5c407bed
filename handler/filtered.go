package handler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/compress"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// filtered are the messages of one direction that its filters let through, each
// a piece. It holds one message that has come at a time.
type filtered struct {
	frames
	call      *call
	toward    filter.Direction
	encoding  string // grpc-encoding, "" for none
	opaque    string // why no message can be decoded, "" if they can
	come      int    // messages
	passed    int
	out       []filter.Message
	queue     [][]byte
	afterward error       // what is behind the queue, nil for more messages
	patience  *time.Timer // see ask; nil before the first message
}

// newFiltered filters the messages of from. encoding and contentType are the
// direction's.
func newFiltered(c *call, from frames, toward filter.Direction, encoding, contentType string) *filtered {
	if from.limit == 0 {
		from.limit = DefaultMaxMessage
	}
	return &filtered{frames: from, call: c, toward: toward, encoding: encoding, opaque: opaque(contentType)}
}

func (f *filtered) next() ([]byte, error) {
	for len(f.queue) == 0 {
		if f.afterward != nil {
			return nil, f.afterward
		}
		f.afterward = f.take()
	}
	b := f.queue[0]
	f.queue[0] = nil
	f.queue = f.queue[1:]
	return b, nil
}

// take reads a message and queues what the filters make of it. The error is what
// follows behind that.
func (f *filtered) take() error {
	f.queue = f.queue[:0:0]
	frame, err := f.message()
	one := !f.call.chain.Streams(f.toward)
	if err == io.EOF && one && f.come > 0 && f.passed == 0 && !f.failed() {
		return f.dropped()
	}
	if err != nil {
		return err
	}
	if f.come++; one && f.come > 1 {
		return f.fails(f.direction.malformed, stream.Internal, "the method has only one message")
	}
	if !one && f.toward == filter.Request && (f.come > 1 || !f.call.chain.AwaitsFirst()) {
		f.call.run.Settle() // the backend may be asked by now or not: that is chance
	}
	payload, err := f.payload(frame)
	if err != nil {
		f.call.run.Skip(f.toward)
		return f.undecodable(frame, err)
	}
	f.out, err = f.ask(payload)
	defer clear(f.out) // a stream may wait for long
	var not *filter.Undecodable
	switch {
	case errors.As(err, &not):
		return f.undecodable(frame, err)
	case errors.Is(err, filter.ErrOver):
		return &writeError{err} // nobody wants more
	case one && err != nil:
		return err // one message is nothing to put before that
	case one && len(f.out) > 1:
		return f.fails(stream.FilterFailed, stream.Internal, "filters make several messages of the one that the method has")
	}
	for i := range f.out {
		if encodeErr := f.send(frame, &f.out[i]); encodeErr != nil {
			return encodeErr
		}
	}
	return err
}

// patience is how long filters may look at a message of a stream before what has
// been sent on, and is to be written together with it, no longer waits for them.
const patience = time.Millisecond

// ask has the filters look at a message.
func (f *filtered) ask(payload []byte) ([]filter.Message, error) {
	switch {
	case !f.call.chain.Streams(f.toward):
	case f.patience == nil:
		f.patience = time.AfterFunc(patience, f.onWait.Flush)
		defer f.patience.Stop()
	default:
		f.patience.Reset(patience)
		defer f.patience.Stop()
	}
	return f.call.run.Messages(f.call.ctx, f.toward, payload, f.out[:0])
}

// message reads a whole message with its prefix. What the prefix claims is
// reserved only as far as bytes come.
func (f *filtered) message() ([]byte, error) {
	length, err := f.begin()
	if err != nil {
		return nil, err
	}
	b := newPiece(stream.PrefixLen + int(min(length, firstReserved)))
	copy(b, f.prefix[:])
	have := stream.PrefixLen
	for {
		if have < len(b) {
			if err := f.fill(b[have:]); err != nil {
				return nil, err
			}
			have = len(b)
		}
		if f.left == 0 {
			return b, nil
		}
		more := newPiece(have + int(min(f.left, uint32(have))))
		copy(more, b)
		b = more
	}
}

// firstReserved is how many bytes of a message are reserved before any of them
// has come.
const firstReserved = 64 << 10

// payload returns the uncompressed message of a frame.
func (f *filtered) payload(frame []byte) ([]byte, error) {
	payload := frame[stream.PrefixLen:]
	switch {
	case f.opaque != "":
		return nil, errors.New(f.opaque)
	case frame[0] == 0:
		return payload, nil
	case frame[0] != 1:
		return nil, fmt.Errorf("the compressed flag is %d", frame[0])
	}
	encoding := compress.Find(f.encoding)
	if encoding == nil {
		return nil, fmt.Errorf("it is compressed with %q, which this proxy does not know", f.encoding)
	}
	payload, err := encoding.Decompress(payload, int(f.limit))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", f.encoding, err)
	}
	return payload, nil
}

// send queues a message that the filters have let through. The one that came
// goes as it came; what they have made of it is compressed if it was.
func (f *filtered) send(frame []byte, m *filter.Message) error {
	f.passed++
	if m.Original {
		f.queue = append(f.queue, frame)
		return nil
	}
	payload, flag := m.Payload, byte(0)
	if frame[0] == 1 {
		var err error
		if payload, err = compress.Find(f.encoding).Compress(nil, payload); err != nil {
			return f.fails(stream.FilterFailed, stream.Internal, "compress "+f.encoding+": "+err.Error())
		}
		flag = 1
	}
	f.queue = append(f.queue, newFrame(flag, payload))
	return nil
}

// newFrame returns a message with its prefix.
func newFrame(flag byte, payload []byte) []byte {
	b := newPiece(stream.PrefixLen + len(payload))
	b[0] = flag
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	copy(b[stream.PrefixLen:], payload)
	return b
}

// undecodable passes on a message that cannot be decoded, or ends the call, as the
// route has it.
func (f *filtered) undecodable(frame []byte, err error) error {
	switch {
	case errors.Is(err, compress.ErrTooLong):
		return f.fails(stream.MessageTooLarge, stream.ResourceExhausted, err.Error())
	case f.call.target.ForwardUndecodable:
		return f.send(frame, &filter.Message{Original: true})
	}
	return f.fails(stream.Undecodable, stream.Internal, err.Error())
}

// failed reports whether a response that has ended is one of a call that the
// backend has failed, and so needs no message.
func (f *filtered) failed() bool {
	out, ok := f.src.(interface{ Trailer() *stream.Trailer })
	return ok && out.Trailer().Status.Code != stream.OK
}

func (f *filtered) dropped() error {
	return f.fails(stream.MessageDropped, stream.Internal, "a filter dropped the only message that the method has")
}

func (f *filtered) fails(reason stream.Reason, code stream.Code, what string) error {
	return &stream.Failure{
		Reason: reason, Code: code,
		Message: fmt.Sprintf("%s: %s message %d: %s", f.call.in.Request().Method, f.toward, f.come, what),
	}
}

// opaque says why messages of a content type are nothing that filters can look
// at; "" for those that are.
func opaque(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.TrimSpace(kind) {
	case "", "application/grpc", "application/grpc+proto":
		return ""
	}
	return fmt.Sprintf("messages of content-type %q are no protobuf", contentType)
}
