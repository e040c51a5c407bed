package function

import (
	"net"
	"net/http"
	"time"

	"github.com/openfaas/faas-provider/types"
)

const (
	tlsHandshakeTimeout = 10 * time.Second
	// expectContinueTimeout is how long a function may take to say that it wants the
	// body of a request that asks first. After that it is sent anyway.
	expectContinueTimeout = 1500 * time.Millisecond
	// idleConnTimeout is less than the 5 s after which Node.js closes connections
	// without a request. A request that meets the end of its connection fails,
	// unless it may be sent twice.
	idleConnTimeout = 4 * time.Second
	// maxResponseHeader bounds the header of a response, in bytes.
	maxResponseHeader = 1 << 20
)

// NewProxyClientFromConfig returns a client as NewProxyClient does: with config's
// ReadTimeout, 10 s if there is none; MaxIdleConns, 1024 if there is none; and
// MaxIdleConnsPerHost, as many as MaxIdleConns if there is none.
func NewProxyClientFromConfig(config types.FaaSConfig) *http.Client {
	return NewProxyClient(config.GetReadTimeout(), config.GetMaxIdleConns(), config.GetMaxIdleConnsPerHost())
}

// NewProxyClient returns a client for calls of functions. timeout bounds all of a call,
// the response's body included, and how long a connection may take to be opened; 0 is
// for no limit. maxIdleConns and maxIdleConnsPerHost are how many connections are kept
// without a call, for seconds.
//
// It follows no redirects, takes bodies as they come, compressed or not, and heeds no
// proxy in the environment: calls go to where the resolver says.
func NewProxyClient(timeout time.Duration, maxIdleConns, maxIdleConnsPerHost int) *http.Client {
	return &http.Client{
		Transport: newTransport(timeout, maxIdleConns, maxIdleConnsPerHost),
		Timeout:   timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// newTransport is the transport of a NewProxyClient, which leaves the time of all but
// the dialing to the caller.
func newTransport(dialTimeout time.Duration, maxIdleConns, maxIdleConnsPerHost int) *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ExpectContinueTimeout:  expectContinueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true,
	}
}
