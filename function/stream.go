package function

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// quiet is for what ReverseProxy logs: responses that break off, which is how streams
// end.
var quiet = log.New(io.Discard, "", 0)

// isStream reports whether a response is to be passed on as it comes, for as long as it
// takes.
func isStream(header http.Header) bool {
	accept := strings.ToLower(header.Get("Accept"))
	return strings.Contains(accept, "text/event-stream") ||
		strings.Contains(accept, "application/x-ndjson") || isWebSocket(header)
}

func isWebSocket(header http.Header) bool {
	return httpguts.HeaderValuesContainsToken(header["Upgrade"], "websocket")
}

// isUpgrade reports whether the client asks to switch to WebSocket.
func (c *call) isUpgrade() bool {
	return isWebSocket(c.r.Header) && httpguts.HeaderValuesContainsToken(c.r.Header["Connection"], "upgrade")
}

// passStream calls the function for a stream, or for a connection in both directions.
func (c *call) passStream() {
	in := c.r.WithContext(c.ctx) // a copy
	if body := c.takeBody(); body != nil {
		in.Body = body
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        c.rewrite,
		ModifyResponse: c.beginStream,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { c.fail(err) },
		Transport:      c.h.transport,
		FlushInterval:  -1,
		BufferPool:     &pieces,
		ErrorLog:       quiet,
	}
	defer c.judgeStream()
	proxy.ServeHTTP(c.w, in)
	c.over = true
}

// rewrite makes what the function is sent, as request does. No protocol is switched to
// but that of WebSocket.
func (c *call) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL, r.Out.Host = c.url, ""
	r.Out.Header = c.h.requestHeader(c.r)
	if c.isUpgrade() {
		r.Out.Header["Connection"] = []string{"Upgrade"}
		r.Out.Header["Upgrade"] = []string{"websocket"}
	}
	r.Out.TransferEncoding, r.Out.Trailer = nil, nil
	if c.body != nil {
		r.Out.Trailer = c.body.trailer
	}
}

// beginStream looks at a response before it is passed on.
func (c *call) beginStream(response *http.Response) error {
	if response.StatusCode == http.StatusSwitchingProtocols {
		if !c.isUpgrade() || !isWebSocket(response.Header) {
			return errNoUpgrade // ReverseProxy would leave the connection open
		}
		c.status = response.StatusCode
		if conn, ok := response.Body.(io.ReadWriteCloser); ok {
			response.Body = whole{conn}
		}
		return nil
	}
	c.status = response.StatusCode
	c.closeIfOutlived()
	setContentType(response.Header, c.r.Header)
	response.Body = &watched{response.Body, c}
	return nil
}

// whole is a connection that cannot be closed in one direction alone. Of a WebSocket whose
// client has closed its connection there is nothing left, but the function might keep its
// side open for ever.
type whole struct{ io.ReadWriteCloser }

// judgeStream finds out why a stream ended that was not passed on whole: if the function
// did not break off, the client did.
func (c *call) judgeStream() {
	if !c.over && c.err == nil && c.status != 0 {
		c.err = errClientGone
	}
}

// watched is the body of a stream, which notes why it broke off.
type watched struct {
	io.ReadCloser
	call *call
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		w.call.err = w.call.blame(err)
	}
	return n, err
}
