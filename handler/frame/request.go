package frame

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
)

// request is what a client has sent of its call, for as long as it may have to
// be sent, once more or at all. It is part of a call and guarded by its mu.
type request struct {
	head     []hpack.HeaderField
	kept     []byte // all of the body so far, until dropped
	ended    bool   // END_STREAM has come
	trailers []hpack.HeaderField
	dropped  bool // the call cannot be sent again

	timeout  int       // index of grpc-timeout in head, -1 for none
	arrived  time.Time // of the head, when it has a timeout
	deadline time.Time
}

// replayLimit is how many bytes of a request are kept for sending it again.
const replayLimit = 48 << 10

// heads and bodies are reused: most calls are over with them at once.
var (
	heads  = sync.Pool{New: func() any { s := make([]hpack.HeaderField, 0, 32); return &s }}
	bodies = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
)

// maxPooled is the largest body that is reused.
const maxPooled = replayLimit

func (r *request) takeHead(fields []hpack.HeaderField) {
	r.head = append((*heads.Get().(*[]hpack.HeaderField))[:0], fields...)
	r.timeout = slices.IndexFunc(r.head, func(f hpack.HeaderField) bool { return f.Name == "grpc-timeout" })
}

// keep adds to the body. Without must it does so only while the request may be
// sent again.
func (r *request) keep(b []byte, must bool) {
	if r.dropped || len(b) == 0 {
		return
	}
	if !must && len(r.kept)+len(b) > replayLimit {
		r.drop()
		return
	}
	if r.kept == nil {
		r.kept = (*bodies.Get().(*[]byte))[:0]
	}
	r.kept = append(r.kept, b...)
}

// drop lets go of what is kept: the call will not be sent again.
func (r *request) drop() {
	if r.dropped {
		return
	}
	r.dropped = true
	if head := r.head; head != nil {
		clear(head)
		heads.Put(&head)
		r.head = nil
	}
	if kept := r.kept; kept != nil && cap(kept) <= maxPooled {
		bodies.Put(&kept)
	}
	r.kept = nil
}

// fields returns the head as it is to be sent now: grpc-timeout says what
// remains.
func (r *request) fields() []hpack.HeaderField {
	if r.timeout >= 0 {
		if spent := time.Since(r.arrived); spent > timeoutSlack {
			r.head[r.timeout].Value = h2grpc.FormatTimeout(time.Until(r.deadline))
		}
	}
	return r.head
}

// timeoutSlack is how much of a deadline may pass before it is written anew.
const timeoutSlack = time.Millisecond
