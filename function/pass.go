package function

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// copySize is how much of a response is passed on at a time, in bytes.
const copySize = 32 << 10

// pieces are buffers for passing on responses. It is an httputil.BufferPool.
var pieces bufferPool

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[copySize]byte); ok {
		return b[:]
	}
	return make([]byte, copySize)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copySize]byte)(b)) }

// pass calls the function for a response that is whole at some time.
func (c *call) pass() {
	request := c.request()
	response, err := c.h.transport.RoundTrip(request)
	if err == nil && response.StatusCode == http.StatusSwitchingProtocols {
		_ = response.Body.Close()
		err = errNoUpgrade
	}
	if err != nil {
		c.fail(err)
		return
	}
	defer func() { _ = response.Body.Close() }() // which has been read to its end, or the connection is lost
	c.passHead(response)
	if err := c.passBody(response); err != nil {
		c.breakOff(err)
	}
	c.passTrailer(response)
}

// request returns what the function is sent.
func (c *call) request() *http.Request {
	out := c.r.WithContext(c.ctx) // a copy
	out.URL, out.Host, out.RequestURI = c.url, "", ""
	out.Header = c.h.requestHeader(c.r)
	out.TransferEncoding, out.Close = nil, false
	out.Body, out.GetBody, out.Trailer = nil, nil, nil
	if body := c.takeBody(); body != nil {
		out.Body, out.Trailer = body, body.trailer
	}
	return out
}

// passHead begins the response.
func (c *call) passHead(response *http.Response) {
	c.status = response.StatusCode
	header := c.w.Header()
	passHeader(header, response.Header)
	c.closeIfOutlived()
	setContentType(header, c.r.Header)
	for key := range announced(response.Trailer) {
		header.Add("Trailer", key)
	}
	c.w.WriteHeader(response.StatusCode)
}

// passBody passes on a body, piece by piece if nobody knows how long it will be.
func (c *call) passBody(response *http.Response) error {
	flush := func() error { return nil }
	if response.ContentLength < 0 {
		flush = http.NewResponseController(c.w).Flush
		_ = flush() // or the client waits for the header, too
	}
	buffer := pieces.Get()
	defer pieces.Put(buffer)
	for {
		n, readErr := response.Body.Read(buffer)
		if n > 0 {
			if _, err := c.w.Write(buffer[:n]); err != nil {
				return fmt.Errorf("%w: %w", ErrClient, err)
			}
			_ = flush() // fails as the next Write does
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// passTrailer passes on the trailers that a response has, announced or not.
func (c *call) passTrailer(response *http.Response) {
	if len(response.Trailer) == 0 {
		return
	}
	_ = http.NewResponseController(c.w).Flush() // or a short body gets a length instead of trailers
	header := c.w.Header()
	said := header["Trailer"]
	for key, values := range response.Trailer {
		if !maySendTrailer(key) {
			continue
		}
		if !contains(said, key) {
			key = http.TrailerPrefix + key
		}
		header[key] = values
	}
}

func contains(keys []string, key string) bool {
	for _, k := range keys {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}
