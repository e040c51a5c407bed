package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// maxConnections is how many may be open at a time; others wait.
	maxConnections = 256
	// readTimeout is how long the head of a request may take to come.
	readTimeout = 10 * time.Second
	// writeTimeout is how long an answer may take that takes no time by its nature.
	writeTimeout = 30 * time.Second
	// idleTimeout is how long a connection may be without a request.
	idleTimeout = 2 * time.Minute
	// endTimeout is how long running answers may take to end with Serve.
	endTimeout = time.Second
)

// Serve answers on a listener, by HTTP/1.1 and by HTTP/2 without TLS, until ctx ends; it
// then drains, ends what is running, and closes the listener. It may be called once. The
// error is nil after ctx has ended, and otherwise says why it could not go on.
func (a *Admin) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := a.server(ctx, ln.Addr())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()                                              // before waiting
	running.Go(func() { a.health.follow(ctx, a.opts.Refresh) }) // ends with ctx

	failed := make(chan error, 1)
	running.Go(func() { failed <- server.Serve(netutil.LimitListener(ln, maxConnections)) }) // ends with the server
	select {
	case err := <-failed:
		a.end(server)
		return fmt.Errorf("admin server on %v: %w", ln.Addr(), err)
	case <-ctx.Done():
		a.end(server)
		return nil
	}
}

// server returns a server whose requests end with ctx.
func (a *Admin) server(ctx context.Context, listener net.Addr) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: inTime(ctx, guard(listener, a)), Protocols: protocols,
		ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog: slog.NewLogLogger(a.opts.Logger.Handler(), slog.LevelDebug),
	}
}

// inTime bounds how long an answer may take, unless its nature is to take time, and
// ends requests with ctx. The server's own WriteTimeout would bound all of them. Calls
// have an end of their own, with a status.
func inTime(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var deadline time.Time // and none that an earlier request has left
		if !takesTime(r) {
			deadline = time.Now().Add(writeTimeout)
		}
		if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if !isGRPC(r) {
			if r.ContentLength != 0 { // which nobody asks for, and net/http reads before it answers
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout)) // as it has set the other one
			}
			ends, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			r = r.WithContext(ends)
		}
		next.ServeHTTP(w, r)
	})
}

// end tells those who watch that it is over, and closes everything. Requests have
// ended with their context by then, unless they do not look at it.
func (a *Admin) end(server *http.Server) {
	a.Drain()
	a.health.end()
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // of what has not ended by itself
	}
	a.grpc.Stop()
}
