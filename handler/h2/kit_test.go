package h2

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// ear is told of a stream, credits what it gets, and keeps all of it.
type ear struct {
	s    *Stream // nil to credit nothing
	mu   sync.Mutex
	news chan struct{} // closed and made anew with each change

	heads, trailers [][]hpack.HeaderField
	body            []byte
	ended           bool // the peer's side
	sent            int
	closed          int
	err             error // Closed's
}

func newEar() *ear { return &ear{news: make(chan struct{})} }

func (e *ear) change(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
	close(e.news)
	e.news = make(chan struct{})
}

func (e *ear) Headers(fields []hpack.HeaderField, last bool) {
	e.change(func() { e.heads, e.ended = append(e.heads, append([]hpack.HeaderField{}, fields...)), last })
}

func (e *ear) Data(b []byte, last bool) {
	if e.s != nil {
		e.s.Credit(len(b))
	}
	e.change(func() { e.body, e.ended = append(e.body, b...), last })
}

func (e *ear) Trailers(fields []hpack.HeaderField) {
	e.change(func() { e.trailers, e.ended = append(e.trailers, append([]hpack.HeaderField{}, fields...)), true })
}
func (e *ear) Sent(n int)       { e.change(func() { e.sent += n }) }
func (e *ear) Closed(err error) { e.change(func() { e.closed++; e.err = err }) }

// await waits until done, which is called with mu held.
func (e *ear) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	end := time.After(safety)
	for {
		e.mu.Lock()
		ok, news := done(), e.news
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-end:
			require.FailNow(t, "waited too long", what)
		}
	}
}

func (e *ear) awaitClosed(t *testing.T) error {
	t.Helper()
	e.await(t, "Closed", func() bool { return e.closed > 0 })
	return e.err
}

// begun hands the streams of a server to a test.
func begun(cfg *Config) chan *ear {
	ears := make(chan *ear, 10000)
	cfg.Begin = func(s *Stream, fields []hpack.HeaderField, last bool) {
		e := newEar()
		e.s = s
		e.heads, e.ended = append(e.heads, append([]hpack.HeaderField{}, fields...)), last
		s.SetEvents(e)
		ears <- e
	}
	return ears
}

// serving runs c and returns where its end is told. The test ends it if it does
// not end by itself.
func serving(t *testing.T, c *Conn) chan error {
	ended := make(chan error, 1)
	go func() { ended <- c.Serve() }() // ends with the connection
	t.Cleanup(func() {
		c.Close(ErrClosed)
		awaitDone(t, c)
	})
	return ended
}

func awaitDone(t *testing.T, c *Conn) {
	t.Helper()
	await(t, c.Done(), "the end of Serve")
}

func await[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(safety):
		require.FailNow(t, "waited too long", what)
	}
	return v
}

// rawClient connects a client of frames to a server of cfg.
func rawClient(t *testing.T, cfg *Config, opts rawh2.Options) *rawh2.Conn {
	c, err := rawh2.Dial(context.Background(), serveConns(t, cfg), opts)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// backend is a connection of a server of frames.
type backend struct {
	*rawh2.Conn
	srv *rawh2.Server
}

// stream returns the nth stream.
func (b *backend) stream(t *testing.T, n int) *rawh2.Stream {
	t.Helper()
	s, err := b.srv.AwaitStream(context.Background(), n)
	require.NoError(t, err)
	return s
}

// rawServer connects a client of this package to a server of frames.
func rawServer(t *testing.T, cfg *Config, opts rawh2.Options) (*Conn, *backend, chan error) {
	s, err := rawh2.Listen("", opts, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	nc, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	c := NewClient(nc, cfg)
	ended := serving(t, c)
	raw, err := s.AwaitConn(context.Background(), 1)
	require.NoError(t, err)
	if !opts.WithholdSettings {
		await(t, c.Settled(), "SETTINGS")
	}
	return c, &backend{raw, s}, ended
}

// pair connects a client and a server of this package.
func pair(t *testing.T, client, server *Config) (c, s *Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	ns, err := ln.Accept()
	require.NoError(t, err)
	c, s = NewClient(nc, client), NewServer(ns, server)
	serving(t, s)
	serving(t, c)
	await(t, c.Settled(), "SETTINGS")
	return c, s
}

func request(extra ...hpack.HeaderField) []hpack.HeaderField {
	return append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/s/m"}, {Name: ":authority", Value: "a"},
	}, extra...)
}

func rawRequest(extra ...rawh2.Field) rawh2.Fields { return rawh2.RequestFields("/s/m", "a", extra...) }

var okHead = []hpack.HeaderField{{Name: ":status", Value: "200"}}

// open opens a stream and flushes.
func open(t *testing.T, c *Conn, last bool) (*Stream, *ear) {
	e := newEar()
	s, err := c.Open(request(), last, e)
	require.NoError(t, err)
	c.Flush()
	return s, e
}

// requireGoAway waits for the end of a connection that was at fault.
func requireGoAway(t *testing.T, c *rawh2.Conn, code http2.ErrCode) {
	t.Helper()
	e, err := c.AwaitGoAway(context.Background())
	require.NoError(t, err)
	require.Equal(t, code, e.Code, "%s", e.Data)
	require.NoError(t, c.AwaitClosed(context.Background()))
}

// settledWindows waits until both ends agree about the window of the
// connection from one to the other, with nothing on its way.
func settledWindows(t *testing.T, from, to *Conn) {
	t.Helper()
	end := time.Now().Add(safety)
	for {
		from.mu.Lock()
		left, queued, waiting, streams := from.sendWindow, from.queued, len(from.waiting), len(from.streams)
		from.mu.Unlock()
		to.mu.Lock()
		left += int64(to.recvUnsent)
		to.mu.Unlock()
		if left == int64(to.cfg.connWindow()) && queued == 0 && waiting == 0 && streams == 0 {
			return
		}
		require.True(t, time.Now().Before(end), "windows: %d of %d, %d queued, %d waiting, %d streams",
			left, to.cfg.connWindow(), queued, waiting, streams)
		time.Sleep(time.Millisecond) // a WINDOW_UPDATE on its way is no event
	}
}

// awaitAck waits until the peer has taken in the SETTINGS of c: what it sends by
// itself has come then.
func awaitAck(t *testing.T, c *Conn) {
	t.Helper()
	for acked := false; !acked; runtime.Gosched() {
		c.mu.Lock()
		acked = c.acked
		c.mu.Unlock()
	}
}
