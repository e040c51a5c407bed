package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pipes is a listener for connections without a buffer: what one end writes waits until the
// other has read it.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// serveStalls serves h as HTTP listeners do, until the bubble's test is over.
func serveStalls(t *testing.T, h http.HandlerFunc) pipes {
	p := make(pipes)
	server := &http.Server{Handler: withoutStalls(h), Protocols: httpProtocols(false), IdleTimeout: httpIdleTimeout}
	go func() { _ = server.Serve(p) }() // ends with the test
	t.Cleanup(func() { close(p); assert.NoError(t, server.Shutdown(context.Background())) })
	return p
}

// awaitEnd returns how long a handler has taken, and why it has ended.
func awaitEnd(ended <-chan error) (time.Duration, error) {
	begun := time.Now()
	err := <-ended
	return time.Since(begun), err
}

func TestClientsThatDoNotReadAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		p := serveStalls(t, func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 64<<10))
			}
			ended <- err
		})
		client, _ := p.dial(t.Context(), "", "")
		defer client.Close()
		_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		took, err := awaitEnd(ended)
		assert.Error(t, err)
		assert.Equal(t, httpStallTimeout, took)
	})
}

// TestRequestsThatNobodyReadsAreNotWaitedFor: net/http reads what is left of a request
// before it answers.
func TestRequestsThatNobodyReadsAreNotWaitedFor(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"at the end":    http.NotFound,
		"at the header": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serveStalls(t, h)
				client, _ := p.dial(t.Context(), "", "")
				defer client.Close()
				_, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
				require.NoError(t, err)
				begun := time.Now()
				_, _ = io.Copy(io.Discard, client) // up to the end of the connection
				assert.Equal(t, httpStallTimeout, time.Since(begun))
			})
		})
	}
}

// TestResponsesMayPause: a response is not cut off for its pauses, nor is the next one on the
// connection, in either version of HTTP.
func TestResponsesMayPause(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const pause = 3 * httpStallTimeout
				p := serveStalls(t, func(w http.ResponseWriter, req *http.Request) {
					time.Sleep(pause)
					for range 2 {
						_, _ = io.WriteString(w, req.Proto+" ")
						_ = http.NewResponseController(w).Flush()
						time.Sleep(pause)
					}
				})
				protocols := new(http.Protocols)
				protocols.SetHTTP1(version == "HTTP/1.1")
				protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
				transport := &http.Transport{DialContext: p.dial, Protocols: protocols}
				defer transport.CloseIdleConnections()
				for range 2 {
					resp, err := (&http.Client{Transport: transport}).Post("http://a/", "text/plain", strings.NewReader("body"))
					require.NoError(t, err)
					body, err := io.ReadAll(resp.Body)
					assert.NoError(t, err)
					assert.NoError(t, resp.Body.Close())
					assert.Equal(t, version+" "+version+" ", string(body))
				}
			})
		})
	}
}

// TestStreamsOfHTTP2ThatNobodyReadsEndAlone: the connection and its other streams go on.
func TestStreamsOfHTTP2ThatNobodyReadsEndAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		p := serveStalls(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/short" {
				return
			}
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 64<<10))
			}
			ended <- err
		})
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{DialContext: p.dial, Protocols: protocols}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		resp, err := client.Get("http://a/long")
		require.NoError(t, err)
		defer resp.Body.Close()
		_, err = awaitEnd(ended)
		assert.Error(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		assert.False(t, err == nil || errors.Is(err, io.ErrUnexpectedEOF), "the stream is reset, and not the connection: %v", err)
		short, err := client.Get("http://a/short")
		require.NoError(t, err)
		assert.NoError(t, short.Body.Close())
	})
}
