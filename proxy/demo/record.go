package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
)

// record is what happens in a call, as its client sees it.
type record struct {
	start time.Time
	lines []line
	got   outcome
}

// line is one thing that is sent or received.
type line struct {
	at    time.Duration // since the start of the call
	arrow string        // sent or received
	what  string
	text  string
}

const (
	sent     = "->"
	received = "<-"
)

func newRecord() *record { return &record{start: time.Now()} }

func (r *record) add(arrow, what, text string) {
	r.lines = append(r.lines, line{at: time.Since(r.start), arrow: arrow, what: what, text: text})
}

func (r *record) request(req *echo.EchoRequest) { r.add(sent, "message", showRequest(req)) }

func (r *record) reply(reply *echo.EchoReply) {
	r.got.replies = append(r.got.replies, reply)
	r.add(received, "message", showReply(reply))
}

func (r *record) header(md metadata.MD) {
	r.got.header = md
	r.metadata(received, "headers", md)
}

func (r *record) trailer(md metadata.MD) {
	r.got.trailer = md
	r.metadata(received, "trailers", md)
}

func (r *record) ended(err error) {
	s := statusOf(err)
	r.got.code, r.got.message = s.Code(), s.Message()
	r.add(received, "status", showStatus(s.Code(), s.Message()))
}

func (r *record) metadata(arrow, what string, md metadata.MD) {
	for _, key := range slices.Sorted(maps.Keys(md)) {
		for _, value := range md[key] {
			r.add(arrow, what, key+": "+showValue(key, value))
		}
	}
}

// maxShown is how many bytes of something long are shown.
const maxShown = 16

func showRequest(req *echo.EchoRequest) string {
	text := showMessage(req.Message, req.Payload)
	if req.Count != 0 {
		text += fmt.Sprintf(", count %d", req.Count)
	}
	if req.FailWith != 0 {
		text += fmt.Sprintf(", fail_with %s", codes.Code(req.FailWith))
	}
	return text
}

func showReply(reply *echo.EchoReply) string {
	return fmt.Sprintf("#%d %s", reply.Sequence, showMessage(reply.Message, reply.Payload))
}

func showMessage(text string, payload []byte) string {
	shown := fmt.Sprintf("%q", text)
	if len(payload) > 0 {
		shown += ", payload " + showBytes(payload)
	}
	return shown
}

func showStatus(code codes.Code, message string) string {
	if code == codes.OK && message == "" {
		return "OK"
	}
	return fmt.Sprintf("%s (%d) %q", code, code, message)
}

func showValue(key, value string) string {
	if strings.HasSuffix(key, "-bin") {
		return showBytes([]byte(value))
	}
	return fmt.Sprintf("%q", value)
}

func showBytes(b []byte) string {
	if len(b) <= maxShown {
		return fmt.Sprintf("[% x]", b)
	}
	return fmt.Sprintf("[% x ...] (%d bytes)", b[:maxShown], len(b))
}
