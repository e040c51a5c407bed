package proxy

import (
	"context"
	"net/http"
	"sync"
)

// underWay counts the requests that are being answered: net/http does not wait for those
// that have taken their connection.
type underWay struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n gets to 0; nil if nobody waits
}

// count has next's requests counted.
func (u *underWay) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u.add(1)
		defer u.add(-1)
		next.ServeHTTP(w, req)
	})
}

func (u *underWay) add(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n += n
	if u.n == 0 && u.none != nil {
		close(u.none)
		u.none = nil
	}
}

// wait returns when no request is left, or the error of ctx. It is for one goroutine at a
// time, and for when no more requests come.
func (u *underWay) wait(ctx context.Context) error {
	u.mu.Lock()
	if u.n == 0 {
		u.mu.Unlock()
		return nil
	}
	none := make(chan struct{})
	u.none = none
	u.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
