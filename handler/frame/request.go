package frame

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// request is what a client has sent of its call. It is part of a call and
// guarded by its mu.
type request struct {
	*replay // nil once the call cannot be sent again

	contentType string
	ended       bool // END_STREAM has come
	trailers    []hpack.HeaderField

	timeout  int       // index of grpc-timeout in head, -1 for none
	arrived  time.Time // of the head, when it has a timeout
	deadline time.Time
}

// replay is what may have to be sent, once more or at all.
type replay struct {
	head []hpack.HeaderField
	body []byte // all of it so far

	sending []hpack.HeaderField // a head for one instance; see fieldsFor
}

// replayLimit is how many bytes of a request are kept for sending it again.
const replayLimit = 48 << 10

// replays are reused: most calls are over with them at once.
var replays = sync.Pool{New: func() any { return new(replay) }}

// maxPooledHead is the longest head that is reused.
const maxPooledHead = 256

// takeHead is called first.
func (r *request) takeHead(fields []hpack.HeaderField) {
	r.replay = replays.Get().(*replay)
	r.head = append(r.head, fields...)
	r.timeout = r.index("grpc-timeout")
	if i := r.index("content-type"); i >= 0 {
		r.contentType = r.head[i].Value
	}
}

// changeMetadata has the head have md and no other metadata.
func (r *request) changeMetadata(md stream.Metadata) {
	r.head = h2grpc.WithMetadata(r.head, md)
	r.timeout = r.index("grpc-timeout")
}

func (r *request) index(name string) int {
	return slices.IndexFunc(r.head, func(f hpack.HeaderField) bool { return f.Name == name })
}

// value returns the first value of a header field, "" for none.
func (r *request) value(name string) string {
	if i := r.index(name); i >= 0 {
		return r.head[i].Value
	}
	return ""
}

// keep adds to the body. Without must it does so only while the request may be
// sent again.
func (r *request) keep(b []byte, must bool) {
	if r.replay == nil {
		return
	}
	if !must && len(r.body)+len(b) > replayLimit {
		r.drop()
		return
	}
	r.body = append(r.body, b...)
}

// drop lets go of what is kept: the call will not be sent again.
func (r *request) drop() {
	p := r.replay
	if p == nil {
		return
	}
	r.replay = nil
	clear(p.head)
	clear(p.sending)
	p.head, p.body, p.sending = p.head[:0], p.body[:0], p.sending[:0]
	if cap(p.head) <= maxPooledHead && cap(p.body) <= replayLimit {
		replays.Put(p)
	}
}

// endBy notes that the call has to be over when left has passed. rewrite has the
// backend told so, whatever the client has said.
func (r *request) endBy(left time.Duration, rewrite bool) {
	r.arrived = time.Now()
	r.deadline = r.arrived.Add(left)
	if r.timeout < 0 {
		r.timeout = len(r.head)
		r.head = append(r.head, hpack.HeaderField{Name: "grpc-timeout"})
	}
	if rewrite {
		r.head[r.timeout].Value = h2grpc.FormatTimeout(left)
	}
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
