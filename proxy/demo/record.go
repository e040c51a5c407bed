package demo

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// record is what happens in a call, as its client sees it and, where that runs
// in this process, the backend. The backend's methods may be called on nil.
type record struct {
	start time.Time

	mu    sync.Mutex // guards what follows, which the backend notes things in, too
	lines []line
	got   outcome
	open  int           // calls of the backend that have not ended
	quiet chan struct{} // closed when none is open any more; nil while nobody waits
}

// line is one thing that is sent or received.
type line struct {
	at    time.Duration // since the start of the call
	seen  end           // who sends or gets it
	arrow string        // toBackend or toClient
	what  string
	text  string
}

// end is one end of a call.
type end uint8

const (
	atClient end = iota
	atBackend
)

// The arrows of lines: where they go.
const (
	toBackend = "->"
	toClient  = "<-"
)

func newRecord() *record { return &record{start: time.Now()} }

func (r *record) add(seen end, arrow, what, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line{at: time.Since(r.start), seen: seen, arrow: arrow, what: what, text: text})
}

func (r *record) request(req *echo.EchoRequest) {
	r.add(atClient, toBackend, "message", showRequest(req))
}

func (r *record) reply(reply *echo.EchoReply) {
	r.got.replies = append(r.got.replies, reply)
	r.add(atClient, toClient, "message", showReply(reply))
}

func (r *record) header(md metadata.MD) {
	r.got.header = md
	r.metadata(toClient, "headers", md)
}

func (r *record) trailer(md metadata.MD) {
	r.got.trailer = md
	r.metadata(toClient, "trailers", md)
}

func (r *record) ended(err error) {
	s := statusOf(err)
	r.got.code, r.got.message = s.Code(), s.Message()
	r.add(atClient, toClient, "status", showStatus(s.Code(), s.Message()))
}

func (r *record) metadata(arrow, what string, md metadata.MD) {
	for _, key := range slices.Sorted(maps.Keys(md)) {
		for _, value := range md[key] {
			r.add(atClient, arrow, what, key+": "+showValue(key, value))
		}
	}
}

// arrived notes what the backend has got.
func (r *record) arrived(req *echo.EchoRequest) {
	if r == nil {
		return
	}
	r.add(atBackend, toBackend, "message", showRequest(req))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got.arrived = append(r.got.arrived, req)
}

// left notes what the backend sends.
func (r *record) left(reply *echo.EchoReply) {
	if r == nil {
		return
	}
	r.add(atBackend, toClient, "message", showReply(reply))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got.left = append(r.got.left, reply)
}

func (r *record) backendBegins() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
}

func (r *record) backendEnds() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open--; r.open == 0 && r.quiet != nil {
		close(r.quiet)
		r.quiet = nil
	}
}

// awaitBackend waits until the backend is done with the call, or ctx ends: it may
// see the end of one that the proxy has cut off later than the client does.
func (r *record) awaitBackend(ctx context.Context) {
	r.mu.Lock()
	var quiet chan struct{}
	if r.open > 0 {
		quiet = make(chan struct{})
		r.quiet = quiet
	}
	r.mu.Unlock()
	if quiet == nil {
		return
	}
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}
