package inproc

import (
	"io"
	"sync"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// request is a call's direction to who carries it: frames that wait to be read.
type request struct {
	mu         sync.Mutex
	arrived    sync.Cond
	left       sync.Cond
	buf        *[]byte // (*buf)[start:] has not been read; nil for nothing
	start      int
	halfClosed bool
	err        error // why nothing is read any more, nil while it is
}

func (r *request) init() {
	r.arrived.L = &r.mu
	r.left.L = &r.mu
}

// fill has frame be all that the request consists of, before anybody reads it.
func (r *request) fill(frame *[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		release(frame)
		return
	}
	r.buf, r.halfClosed = frame, true
}

// put adds a frame, and takes it over. It blocks while too much waits, and returns
// io.EOF once the call has ended.
func (r *request) put(frame *[]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && r.waiting() > 0 && r.waiting()+len(*frame) > maxWaiting {
		r.left.Wait()
	}
	switch {
	case r.err != nil:
		release(frame)
		return io.EOF
	case r.buf == nil:
		r.buf = frame
	default:
		r.compact()
		*r.buf = append(*r.buf, *frame...)
		release(frame)
	}
	r.arrived.Signal()
	return nil
}

// compact makes room for what comes, which would else grow by all that has been
// read if the reader is always a little behind.
func (r *request) compact() {
	if r.start > len(*r.buf)/2 {
		*r.buf = (*r.buf)[:copy(*r.buf, (*r.buf)[r.start:])]
		r.start = 0
	}
}

// halfClose ends the request behind what has been put.
func (r *request) halfClose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.halfClosed = true
	r.arrived.Signal()
}

// fail ends reading and writing at once. Only the first call has an effect.
func (r *request) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err = err
	r.clear()
	r.arrived.Signal()
	r.left.Signal()
}

// read fills p; see stream.Inbound.
func (r *request) read(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for filled := 0; filled < len(p); {
		switch {
		case r.err != nil:
			return r.err
		case r.waiting() > 0:
			filled += r.take(p[filled:])
		case r.halfClosed && filled > 0:
			return io.ErrUnexpectedEOF
		case r.halfClosed:
			return io.EOF
		default:
			r.arrived.Wait()
		}
	}
	return nil
}

func (r *request) take(p []byte) int {
	n := copy(p, (*r.buf)[r.start:])
	r.start += n
	if r.start == len(*r.buf) {
		r.clear()
	}
	r.left.Signal()
	return n
}

func (r *request) clear() {
	if r.buf != nil {
		release(r.buf)
	}
	r.buf, r.start = nil, 0
}

// ready reports whether a read of n bytes would not wait.
func (r *request) ready(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting() >= n || r.halfClosed || r.err != nil
}

// complete reports whether all there will ever be has come.
func (r *request) complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halfClosed || r.err != nil
}

func (r *request) waiting() int {
	if r.buf == nil {
		return 0
	}
	return len(*r.buf) - r.start
}

// release gives back what encode returned.
func release(frame *[]byte) {
	if cap(*frame) > maxWaiting+stream.PrefixLen {
		return // it would be kept for messages of the usual size
	}
	*frame = (*frame)[:0]
	frames.Put(frame)
}

// frames are for the requests of calls to come.
var frames = sync.Pool{New: func() any {
	b := make([]byte, 0, 1<<10)
	return &b
}}
