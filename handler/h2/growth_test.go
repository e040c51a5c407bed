package h2

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
)

// delayed is one direction of a connection on which everything takes its time.
type delayed struct {
	delay time.Duration

	mu      sync.Mutex
	parts   []part
	closed  bool
	changed chan struct{}
}

type part struct {
	due time.Time
	b   []byte
}

func (d *delayed) write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, net.ErrClosed
	}
	d.parts = append(d.parts, part{time.Now().Add(d.delay), append([]byte(nil), b...)})
	d.wake()
	return len(b), nil
}

// wake needs mu.
func (d *delayed) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *delayed) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.wake()
}

func (d *delayed) read(p []byte, deadline func() time.Time) (int, error) {
	for {
		d.mu.Lock()
		changed, wait, closed := d.changed, time.Duration(-1), d.closed
		if len(d.parts) > 0 {
			first := &d.parts[0]
			if wait = time.Until(first.due); wait <= 0 {
				n := copy(p, first.b)
				if first.b = first.b[n:]; len(first.b) == 0 {
					d.parts = d.parts[1:]
				}
				d.mu.Unlock()
				return n, nil
			}
		}
		d.mu.Unlock()
		var ends <-chan time.Time
		if at := deadline(); !at.IsZero() {
			if !time.Now().Before(at) {
				return 0, os.ErrDeadlineExceeded
			}
			ends = time.After(time.Until(at))
		}
		if closed && wait < 0 {
			return 0, io.EOF
		}
		var due <-chan time.Time
		if wait >= 0 {
			due = time.After(wait)
		}
		select {
		case <-changed:
		case <-due:
		case <-ends:
		}
	}
}

// delayedConn is an end of a connection with a delay. Deadlines are for reads.
type delayedConn struct {
	net.Conn // for the methods that nobody calls
	in, out  *delayed

	mu       sync.Mutex
	deadline time.Time
}

func delayedPair(oneWay time.Duration) (a, b *delayedConn) {
	there := &delayed{delay: oneWay, changed: make(chan struct{})}
	back := &delayed{delay: oneWay, changed: make(chan struct{})}
	return &delayedConn{in: back, out: there}, &delayedConn{in: there, out: back}
}

func (c *delayedConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *delayedConn) Read(b []byte) (int, error)  { return c.in.read(b, c.readDeadline) }

func (c *delayedConn) Close() error {
	c.out.close()
	c.in.close()
	return nil
}

func (c *delayedConn) readDeadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline
}

func (c *delayedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.wake()
	return nil
}

func (c *delayedConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *delayedConn) SetWriteDeadline(time.Time) error { return nil }

// source sends without end, as fast as it is let.
type source struct{ s *Stream }

var chunk = make([]byte, 64<<10)

func (f source) more() {
	for f.s.WriteData(chunk, false) == len(chunk) {
	}
	f.s.Conn().Flush()
}

func (f source) Headers([]hpack.HeaderField, bool) {}
func (f source) Data([]byte, bool)                 {}
func (f source) Trailers([]hpack.HeaderField)      {}
func (f source) Sent(int) {
	f.s.c.mu.Lock()
	empty := f.s.pending.len() == 0
	f.s.c.mu.Unlock()
	if empty {
		f.more()
	}
}
func (f source) Closed(error) {}

// sink counts what comes, and credits it, at once or never.
type sink struct {
	s      *Stream
	stalls bool

	mu  sync.Mutex
	got int64
}

func (k *sink) Headers([]hpack.HeaderField, bool) {}
func (k *sink) Data(b []byte, _ bool) {
	k.mu.Lock()
	k.got += int64(len(b))
	k.mu.Unlock()
	if !k.stalls {
		k.s.Credit(len(b))
	}
}
func (k *sink) Trailers([]hpack.HeaderField) {}
func (k *sink) Sent(int)                     {}
func (k *sink) Closed(error)                 {}

func (k *sink) count() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got
}

// transfer lets a source send to a sink over a path with a round trip of 100 ms,
// for some seconds of the bubble's time, and returns what comes in the last.
func transfer(t *testing.T, seconds int, stalls bool) (last, total int64) {
	cfg := testConfig()
	cfg.StreamWindow, cfg.MaxStreamWindow, cfg.ConnWindow = 64<<10, 16<<20, 32<<20
	cfg.Keepalive = 0
	cfg.Begin = func(s *Stream, _ []hpack.HeaderField, _ bool) {
		src := source{s}
		s.SetEvents(src)
		_ = s.WriteHeaders([]hpack.HeaderField{{Name: ":status", Value: "200"}}, false)
		go src.more() // ends when windows are full
	}
	a, b := delayedPair(50 * time.Millisecond)
	client, server := NewClient(a, cfg), NewServer(b, cfg)
	var both sync.WaitGroup
	both.Go(func() { _ = client.Serve() })
	both.Go(func() { _ = server.Serve() })
	<-client.Settled()
	k := &sink{stalls: stalls}
	s, err := client.Open([]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"},
	}, true, k)
	require.NoError(t, err)
	k.s = s
	client.Flush()
	before := int64(0)
	for range seconds {
		before = k.count()
		time.Sleep(time.Second) // of the bubble
	}
	total = k.count()
	client.Close(ErrClosed)
	server.Close(ErrClosed)
	both.Wait()
	return total - before, total
}

// A path of 1 Gbit/s with a round trip of 100 ms is filled by one stream.
func TestWindowGrowsToFillALongPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last, _ := transfer(t, 3, false)
		require.GreaterOrEqual(t, last, int64(125_000_000), "bytes in the third second")
	})
}

// A stream that nobody reads gets no more than it began with.
func TestWindowOfAStalledStreamDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, total := transfer(t, 3, true)
		require.Equal(t, int64(64<<10), total)
	})
}

// counted counts what is written to a connection.
type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// A peer that answers pings is left alone, however silent.
func TestKeepaliveOfLivingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, cfg := testConfig(), testConfig()
		silent.Keepalive, cfg.Keepalive = 0, time.Second
		far, near := delayedPair(50 * time.Millisecond)
		out := &counted{Conn: near}
		client, server := NewClient(far, silent), NewServer(out, cfg)
		ended := make(chan error, 2)
		go func() { ended <- client.Serve() }()
		go func() { ended <- server.Serve() }()
		<-client.Settled()
		time.Sleep(60 * cfg.Keepalive) // of the bubble
		require.Empty(t, ended, "both are alive")
		require.Greater(t, out.writes.Load(), int64(20), "the peer was asked again and again")
		client.Close(ErrClosed)
		server.Close(ErrClosed)
		<-ended
		<-ended
	})
}
