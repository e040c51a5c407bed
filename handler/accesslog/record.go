package accesslog

import (
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// maxValue is how many bytes of a text that others have chosen a line has.
const maxValue = 1024

// redacted stands for values that are nobody's business.
const redacted = "***"

// record is what a line needs of a call. It is the queue's and the writer's after the
// call, and keeps nothing of that alive that is large.
type record struct {
	beginning
	ended                time.Time
	took                 time.Duration
	instance             string
	reason, message      string
	received, sent       intercept.Count
	peer                 net.Addr
	identified, identity string // how, and as whom
	requestID, traceID   string
	metadata             []string // a value for each key, "" for none
}

// empty lets r be used again.
func (r *record) empty() {
	clear(r.metadata)
	*r = record{metadata: r.metadata[:0]}
}

// fill copies what the line of a call needs. The record is a new one, or empty.
func (r *record) fill(c *intercept.Call, o *intercept.Outcome, keys []key) {
	req, known := c.Request(), c.Known()
	r.beginning = beginning{
		method: cut(req.Method), route: known.Route, cluster: known.Cluster, mode: known.Mode,
		listener: c.Listener(), authority: cut(req.Authority), userAgent: cut(req.Metadata.Get("user-agent")),
		code: o.Status.Code, attempts: c.Attempts(),
	}
	r.ended, r.took, r.instance = c.Began().Add(o.Took), o.Took, known.Instance
	r.reason, r.message = cut(string(o.Reason)), cut(o.Status.Message)
	r.received, r.sent = c.Received(), c.Sent()
	r.peer, r.identified, r.identity = c.Peer(), known.Identity.Kind, cut(known.Identity.Name)
	r.requestID, r.traceID = cut(known.RequestID), known.TraceID
	for _, k := range keys {
		r.metadata = append(r.metadata, k.valueIn(req.Metadata))
	}
}

// valueIn returns the key's value in md, "" for none, and all of them if there are
// several.
func (k *key) valueIn(md stream.Metadata) string {
	value := ""
	for i := range md {
		switch {
		case md[i].Key != k.name:
		case k.secret:
			return redacted
		case value == "":
			value = cut(md[i].Value)
		case len(value) < maxValue:
			value = cut(value + ", " + cut(md[i].Value))
		}
	}
	return value
}

// cut returns the beginning of a text that is too long, in memory of its own.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for n > maxValue-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) + "…"
}
