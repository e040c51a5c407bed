package inproc

import (
	"io"
	"math"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// response is a call's direction to the client: what it is answered with.
type response struct {
	mu      sync.Mutex
	arrived sync.Cond
	left    sync.Cond
	buf     []byte // written and not taken
	limit   int    // bytes in buf beyond which a write is
	refused bool   // rather than waiting
	header  *stream.Header
	trailer *stream.Trailer // once the call has ended
	err     error           // why the client takes no more, nil while it does
}

func (r *response) init() {
	r.arrived.L = &r.mu
	r.left.L = &r.mu
	r.limit = maxWaiting
}

// collect has the response kept for who takes it when the call has ended: one
// message of up to limit bytes. One that is longer, or more of them, is refused
// after the first bytes too many.
func (r *response) collect(limit int) {
	r.limit, r.refused = min(max(limit, 0), math.MaxInt32)+stream.PrefixLen+1, true
}

func (r *response) writeHeader(h *stream.Header) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over() {
		return errFinished
	}
	if r.header == nil {
		r.header = h
		r.arrived.Broadcast()
	}
	return nil
}

// write queues b; see stream.Inbound.
func (r *response) write(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.over() && !r.refused && len(r.buf) >= r.limit {
		r.left.Wait()
	}
	if r.over() || len(r.buf) >= r.limit {
		return errFinished // the client has no use for b
	}
	r.buf = join(r.buf, b)
	r.arrived.Broadcast()
	return nil
}

// finish ends the call behind what has been written. It reports false if it has
// ended before.
func (r *response) finish(t *stream.Trailer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trailer != nil {
		return false
	}
	r.trailer = t
	r.arrived.Broadcast()
	r.left.Signal()
	return true
}

// fail has the client take nothing more, for err. Only the first call has an
// effect.
func (r *response) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err, r.buf = err, nil
	r.arrived.Broadcast()
	r.left.Signal()
}

func (r *response) over() bool { return r.trailer != nil || r.err != nil }

// awaitHeader returns the head of the response, nil if there is none.
func (r *response) awaitHeader() *stream.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.header == nil && !r.over() {
		r.arrived.Wait()
	}
	return r.header
}

// take waits until there is something, and takes out all of it. The error is
// io.EOF when the call has ended; how is end's to say.
func (r *response) take() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.err != nil:
			return nil, r.err
		case len(r.buf) > 0:
			b := r.buf
			r.buf = nil
			r.left.Signal()
			return b, nil
		case r.trailer != nil:
			return nil, io.EOF
		}
		r.arrived.Wait()
	}
}

// end returns how the call has ended: nil for OK.
func (r *response) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return statusOf(r.trailer)
}

// encoding is how messages are compressed.
func (r *response) encoding() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.header == nil {
		return ""
	}
	return r.header.Encoding
}

// metadata returns that of headers and trailers as far as they have come, nil for
// what has not.
func (r *response) metadata() (header, trailer metadata.MD) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.header != nil {
		header = incoming(r.header.Metadata)
	}
	if r.trailer != nil {
		trailer = incoming(r.trailer.Metadata)
	}
	return header, trailer
}

// only reads into reply the one message of a unary call that has ended.
func (r *response) only(reply any, limit int) error {
	m, ok := reply.(proto.Message)
	if !ok {
		return errNoMessage(reply)
	}
	buf, err := r.take()
	if err != nil && err != io.EOF {
		return err
	}
	f, rest, err := cut(buf, limit)
	switch end := r.end(); {
	case err != nil:
		return err
	case f != nil && len(rest) > 0:
		return errSecondMessage
	case end != nil:
		return end
	case f == nil && len(rest) > 0:
		return errTruncated
	case f == nil:
		return errNoMessageCame
	}
	return f.decode(m, r.encoding(), limit)
}
