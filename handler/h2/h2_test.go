//lint:file-ignore SA1019 x/net is the other side here, not what net/http makes of it

package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang.
const safety = 60 * time.Second

func testConfig() *Config {
	return &Config{
		StreamWindow: 64 << 10, ConnWindow: 256 << 10, MaxHeaderList: 64 << 10, MaxStreams: 100, MaxQueued: 8 << 20,
		HandshakeTimeout: safety, Keepalive: safety,
	}
}

// echo answers each stream with what it gets, credited as it leaves.
type echo struct{ s *Stream }

func beginEcho(s *Stream, _ []hpack.HeaderField, last bool) {
	e := &echo{s}
	s.SetEvents(e)
	_ = s.WriteHeaders([]hpack.HeaderField{{Name: ":status", Value: "200"}}, last)
}

func (e *echo) Headers([]hpack.HeaderField, bool) {}
func (e *echo) Data(b []byte, last bool)          { e.s.Credit(e.s.WriteData(b, last)) }
func (e *echo) Trailers(fields []hpack.HeaderField) {
	_ = e.s.WriteTrailers(append([]hpack.HeaderField(nil), fields...))
}

func (e *echo) Sent(n int) {
	e.s.Credit(n)
	e.s.Conn().Flush()
}
func (e *echo) Closed(error) {}

// serveConns serves each connection until the test ends.
func serveConns(t *testing.T, cfg *Config) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []*Conn
	all.Go(func() { // ends with ln
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := NewServer(nc, cfg)
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() { _ = c.Serve() }) // ends with the connection
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close(ErrClosed)
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

func xnetClient(t *testing.T) *http.Client {
	tr := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestEchoToXNetClient(t *testing.T) {
	cfg := testConfig()
	cfg.Begin = beginEcho
	addr := serveConns(t, cfg)
	client := xnetClient(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i*i*500)
			req, err := http.NewRequest("POST", "http://"+addr+"/", io.NopCloser(bytes.NewReader(body)))
			require.NoError(t, err)
			req.Trailer = http.Header{"X-Sum": {"42"}}
			resp, err := client.Do(req)
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(body, got))
			require.Equal(t, "42", resp.Trailer.Get("X-Sum"))
			require.NoError(t, resp.Body.Close())
		})
	}
	all.Wait()
}
