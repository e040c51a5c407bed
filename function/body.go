package function

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// linger is how long a client may take to end a request that has been answered.
const linger = 500 * time.Millisecond

// requestBody is a client's body on its way to a function. It is read by the transport,
// perhaps for a moment longer than the function takes to answer.
type requestBody struct {
	from    io.Reader
	in      *http.Request
	trailer http.Header // what the client has announced, filled at the end

	ended atomic.Pointer[error] // io.EOF, or why the body broke off
}

// takeBody takes over the body of the call's request; nil if it has none.
func (c *call) takeBody() *requestBody {
	if c.r.Body == nil || c.r.Body == http.NoBody || c.r.ContentLength == 0 {
		return nil
	}
	c.body = &requestBody{from: c.r.Body, in: c.r, trailer: announced(c.r.Trailer)}
	return c.body
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if err == io.EOF {
		for key := range b.trailer {
			b.trailer[key] = b.in.Trailer[key]
		}
	}
	if err != nil {
		b.ended.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close does nothing: the body is the server's to close, which may take as long as the
// client takes to send it.
func (b *requestBody) Close() error { return nil }

// broken returns why the body could not be read to its end, nil if it could so far.
func (b *requestBody) broken() error {
	if b == nil {
		return nil
	}
	if err := b.ended.Load(); err != nil && *err != io.EOF {
		return *err
	}
	return nil
}

// outlived reports whether a response to an HTTP/1 request begins, or has been passed on,
// before all of that has been read.
func (c *call) outlived() bool {
	if c.body == nil || c.r.ProtoMajor != 1 || c.status == http.StatusSwitchingProtocols {
		return false
	}
	err := c.body.ended.Load()
	return err == nil || *err != io.EOF
}

// closeIfOutlived is called before a response begins. A function may answer while it reads,
// but net/http's server reads a request to its end before it answers, unless the
// connection is to be closed. That also sees to it that the rest of a request which
// broke off is not taken for the next one.
func (c *call) closeIfOutlived() {
	if c.outlived() {
		c.w.Header().Set("Connection", "close")
	}
}

// releaseBody lets go of a body that nobody wants the rest of. The server would wait for
// as long as the client is connected; but to close the connection at once might cost a
// client the response that is still sending (RFC 9112 section 9.6).
func (c *call) releaseBody() {
	if !c.outlived() {
		return
	}
	control := http.NewResponseController(c.w)
	_ = control.Flush()
	_ = control.SetReadDeadline(time.Now().Add(linger))
	_ = c.r.Body.Close()
}
