// Package reverse is the proxy that the standard library offers for HTTP, httputil.ReverseProxy, with what makes it
// quick.
package reverse

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

const (
	// idleConns is more than there are callers: with http.DefaultTransport's 2 most requests would wait for a new
	// connection.
	idleConns = 1024
	// bufferSize is what ReverseProxy would allocate for each request.
	bufferSize = 32 << 10
)

// Serve forwards every request that comes to listen to backend, until the process ends.
func Serve(listen, backend string) error {
	to, err := url.Parse("http://" + backend)
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return http.Serve(lis, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded() // as a proxy of functions does
		},
		Transport:  &http.Transport{MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns, DisableCompression: true},
		BufferPool: new(buffers),
	})
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if free, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return free[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(used []byte) { b.pool.Put((*[bufferSize]byte)(used)) }
