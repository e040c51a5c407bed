package function

import (
	"bufio"
	"maps"
	"net"
	"net/http"
)

// serveHere has the target's handler answer the call.
func (c *call) serveHere() {
	here := c.r.WithContext(c.ctx) // a copy
	here.URL = c.url
	here.RequestURI = here.URL.RequestURI()
	here.Header = maps.Clone(c.r.Header)
	if here.Header == nil {
		here.Header = make(http.Header)
	}
	c.h.forward(here.Header, c.r)
	c.target.Handler.ServeHTTP(&statusWriter{ResponseWriter: c.w, status: &c.status}, here)
	if c.status == 0 {
		c.status = http.StatusOK // net/http's answer to a handler that says nothing
	}
	if c.ctx.Err() != nil {
		c.err = c.blame(c.ctx.Err())
	}
}

// statusWriter notes the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status *int
}

func (w *statusWriter) WriteHeader(status int) {
	if *w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		*w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.implyOK()
	return w.ResponseWriter.Write(b)
}

// Flush is for handlers that do not know of http.ResponseController, as is Hijack.
func (w *statusWriter) Flush() {
	w.implyOK()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && *w.status == 0 {
		*w.status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) implyOK() {
	if *w.status == 0 {
		*w.status = http.StatusOK
	}
}
