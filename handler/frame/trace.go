package frame

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// trace is what is told of a call at debug level: one line at its end.
type trace struct {
	method string
	began  time.Time
	status stream.Status // how it has ended, as far as the client is told
	reason stream.Reason // "" for a backend's status
}

// startTrace returns nil unless somebody listens.
func startTrace(log *slog.Logger, fields []hpack.HeaderField) *trace {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return nil
	}
	method, _, _ := h2grpc.MethodOf(fields)
	// Until an answer or a failure says otherwise.
	gone := stream.Status{Code: stream.Canceled, Message: "cancelled by the client"}
	return &trace{method: method, began: time.Now(), status: gone, reason: stream.ClientCanceled}
}

func (t *trace) failed(f *stream.Failure) {
	if t != nil {
		t.status, t.reason = stream.Status{Code: f.Code, Message: f.Message}, f.Reason
	}
}

func (t *trace) answered(trailers []hpack.HeaderField) {
	if t != nil {
		t.status, t.reason = h2grpc.ParseTrailer(trailers).Status, ""
	}
}

// logEnd needs c.mu.
func (c *call) logEnd() {
	t := c.trace
	if t == nil {
		return
	}
	address := ""
	if c.backend != nil {
		address = c.backend.address()
	}
	c.relay.Logger.Debug("call", "method", t.method, "peer", c.client.Conn().NetConn().RemoteAddr().String(),
		"cluster", c.target.Cluster.Name(), "instance", address, "attempts", c.tries.Made(), "code", t.status.Code.String(),
		"reason", string(t.reason), "message", t.status.Message, "took", time.Since(t.began).String())
}
