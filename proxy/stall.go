package proxy

import (
	"net/http"
	"sync"
	"time"
)

// httpStallTimeout is how long a client may take to make room for the next piece of a
// response, and to send what nobody reads of its request. Responses may take any time.
const httpStallTimeout = 30 * time.Second

// withoutStalls has a request end whose client takes nothing of the response any more, and
// which would hold its goroutine, and a call, for as long as the connection lasts.
func withoutStalls(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := &stallWriter{ResponseWriter: w, control: http.NewResponseController(w), owned: req.ProtoMajor == 1}
		if s.owned {
			_ = s.control.SetWriteDeadline(time.Time{}) // the request before has left one
		}
		defer s.end()
		next.ServeHTTP(s, req)
	})
}

// stallWriter is a ResponseWriter whose Write and Flush fail, as does the connection or the
// HTTP/2 stream, when they do not get on. http.ResponseController sees through it.
//
// A deadline set beforehand would do in HTTP/1.1, but ends an HTTP/2 stream that only has
// nothing to write.
type stallWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	owned   bool // the connection is this request's alone, as in HTTP/1.1
	timer   *time.Timer

	mu    sync.Mutex
	busy  bool // with writing
	ended bool // by giveUp
}

// Write implements http.ResponseWriter.
func (s *stallWriter) Write(b []byte) (int, error) {
	s.begin()
	defer s.done()
	return s.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController asks for.
func (s *stallWriter) FlushError() error {
	s.begin()
	defer s.done()
	return s.control.Flush()
}

// Unwrap is what http.ResponseController asks for.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *stallWriter) begin() {
	s.set(true)
	if s.timer == nil {
		s.timer = time.AfterFunc(httpStallTimeout, s.giveUp)
	} else {
		s.timer.Reset(httpStallTimeout)
	}
}

func (s *stallWriter) done() {
	s.timer.Stop()
	s.set(false) // before which giveUp comes back
}

func (s *stallWriter) set(busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = busy
}

// giveUp has the Write or the Flush come back that is under way.
func (s *stallWriter) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		s.ended = true
		s.limit(time.Unix(1, 0))
	}
}

// end bounds what net/http does behind the handler: it writes what it has kept, and reads
// what is left of the request.
func (s *stallWriter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.limit(time.Now().Add(httpStallTimeout))
	}
}

// limit sets deadlines. Errors would be those of who has taken the connection.
func (s *stallWriter) limit(t time.Time) {
	_ = s.control.SetWriteDeadline(t)
	if s.owned { // net/http reads what is left of a request before it answers
		_ = s.control.SetReadDeadline(t)
	}
}
