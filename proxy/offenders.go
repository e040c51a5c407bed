package proxy

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/h2"
)

// offenders are the clients that were cut off for breaking the protocol or a
// limit of it. All are counted; each host is logged once in a while, so that an
// attack does not fill the log.
type offenders struct {
	log   *slog.Logger
	count atomic.Int64

	mu     sync.Mutex
	logged map[string]time.Time // by host
}

const (
	// offenderPause is how long a host is not logged again.
	offenderPause = time.Minute
	// maxOffenders is how many hosts are remembered.
	maxOffenders = 1000
)

func (o *offenders) note(peer net.Addr, why *h2.ConnError) {
	o.count.Add(1)
	host := peer.String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if o.isNews(host) {
		o.log.Warn("a client was cut off", "peer", peer.String(), "error", why.Error(), "not_logged_again_for", offenderPause.String())
	}
}

func (o *offenders) isNews(host string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if last, ok := o.logged[host]; ok && now.Sub(last) < offenderPause {
		return false
	}
	if o.logged == nil || len(o.logged) >= maxOffenders {
		o.logged = make(map[string]time.Time)
	}
	o.logged[host] = now
	return true
}
