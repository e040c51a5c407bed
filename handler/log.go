package handler

import (
	"log/slog"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// logged is an inbound stream whose end is logged at debug level.
type logged struct {
	stream.Inbound
	log   *slog.Logger
	began time.Time
	once  sync.Once
}

func newLogged(in stream.Inbound, log *slog.Logger) *logged {
	return &logged{Inbound: in, log: log, began: time.Now()}
}

// Finish logs the first end of the call, which is the one that counts.
func (l *logged) Finish(t *stream.Trailer) {
	l.once.Do(func() {
		l.log.Debug("call", "method", l.Request().Method, "peer", l.Peer().String(), "code", t.Status.Code.String(),
			"reason", t.Metadata.Get(stream.ReasonKey), "message", t.Status.Message, "took", time.Since(l.began))
	})
	l.Inbound.Finish(t)
}
