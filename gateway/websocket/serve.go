package websocket

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
)

// IsAskedFor reports whether a request is for a WebSocket.
func IsAskedFor(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Serve makes a WebSocket of a request, and one call by it. It returns when the
// connection is closed; nothing is left running then. A request that cannot be one
// is answered with why. The call ends with r's context.
func Serve(w http.ResponseWriter, r *http.Request, o Options, call Call) {
	o = o.withDefaults()
	var protocols []string
	if o.Bearer {
		r, protocols = takeBearer(r), []string{bearerProtocol}
	}
	kept, ok := newKeeper(w)
	if !ok {
		http.Error(w, "a WebSocket needs a connection of its own, which there is none of here", http.StatusNotImplemented)
		return
	}
	conn, err := websocket.Accept(kept, r, &websocket.AcceptOptions{Subprotocols: protocols, OriginPatterns: o.OriginPatterns})
	if err != nil {
		return // which has been answered
	}
	conn.SetReadLimit(o.ReadLimit)
	s := &session{opts: o, call: call, conn: conn, net: kept.conn}
	s.ctx, s.cancel = context.WithCancelCause(r.Context())
	s.serve(r)
}

// session is a WebSocket and its call.
type session struct {
	opts Options
	call Call
	conn *websocket.Conn
	net  net.Conn // below conn

	ctx    context.Context // of the call; its cause says why it had to end, see finish
	cancel context.CancelCauseFunc
	stream grpc.ClientStream

	// moves counts what shows that the connection is not idle. It is odd while a
	// request message waits for the backend, and nothing is read.
	moves atomic.Int64
}

// errGone ends the call of a client that cannot be told anything any more.
var errGone = errors.New("the client has closed the WebSocket")

func (s *session) serve(r *http.Request) {
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { _ = s.conn.CloseNow() }() // it has been closed, unless something panics
	defer s.cancel(errGone)
	var err error
	if s.stream, err = s.call.Open(s.ctx, r); err == nil {
		running.Go(s.requests)  // ends with the connection, or the call
		running.Go(s.keepAlive) // ends with the call
		err = s.responses()
	}
	s.finish(err)
}

// keeper is a ResponseWriter that keeps the connection it is hijacked for.
type keeper struct {
	http.ResponseWriter
	hijacker http.Hijacker
	conn     net.Conn
}

// newKeeper reports false for what cannot be hijacked, as HTTP/2 cannot.
func newKeeper(w http.ResponseWriter) (*keeper, bool) {
	for inner := w; ; {
		switch t := inner.(type) {
		case http.Hijacker:
			return &keeper{ResponseWriter: w, hijacker: t}, true
		case interface{ Unwrap() http.ResponseWriter }:
			inner = t.Unwrap()
		default:
			return nil, false
		}
	}
}

// Hijack implements http.Hijacker.
func (k *keeper) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := k.hijacker.Hijack()
	k.conn = conn
	return conn, rw, err
}
