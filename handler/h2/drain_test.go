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

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// drained returns a connection that is drained but for one stream.
func drained(t *testing.T) (*rawh2.Conn, *rawh2.Stream, *ear) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{ManualPong: true})
	st, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	e := await(t, ears, "the request")
	e.s.Conn().Drain()
	_, err = client.AwaitEvent(context.Background(), "PING", func(e rawh2.Event) bool { return e.Kind == rawh2.PingEvent })
	require.NoError(t, err)
	require.NoError(t, client.Pong(drainPing))
	last, err := client.AwaitEvent(context.Background(), "the second GOAWAY", func(e rawh2.Event) bool {
		return e.Kind == rawh2.GoAwayEvent && e.LastID != 1<<31-1
	})
	require.NoError(t, err)
	require.Equal(t, st.ID(), last.LastID)
	return client, st, e
}

// Streams that cross the GOAWAY are passed over, whatever comes on them.
func TestStreamsBeyondGoAway(t *testing.T) {
	client, st, e := drained(t)
	late, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	require.NoError(t, late.DataFrame([]byte("x"), false))
	require.NoError(t, late.Trailers(rawh2.F("a", "b")))
	require.NoError(t, st.DataFrame([]byte("last"), true))
	e.await(t, "the body", func() bool { return e.ended })
	require.NoError(t, e.s.WriteHeaders(okHead, true))
	e.s.Conn().Flush()
	_, err = st.AwaitEndStream(context.Background())
	require.NoError(t, err)
	require.NoError(t, client.AwaitClosed(context.Background()))
	require.Empty(t, late.Events())
}

// The number in a GOAWAY never grows (RFC 9113 section 6.8).
func TestGoAwayAfterDrain(t *testing.T) {
	client, st, _ := drained(t)
	_, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	require.NoError(t, client.RawFrame(http2.FrameData, 0, 0, nil))
	fault, err := client.AwaitEvent(context.Background(), "a GOAWAY with an error", func(e rawh2.Event) bool {
		return e.Kind == rawh2.GoAwayEvent && e.Code != http2.ErrCodeNo
	})
	require.NoError(t, err)
	require.Equal(t, st.ID(), fault.LastID)
}

func TestDrainIdle(t *testing.T) {
	client, server := pair(t, testConfig(), testConfig())
	server.Drain()
	awaitDone(t, server)
	awaitDone(t, client)
	_, err := client.Open(request(), true, newEar())
	require.ErrorIs(t, err, ErrDraining)
}

// watchedConn notes how its end is prepared.
type watchedConn struct {
	net.Conn
	mu    sync.Mutex
	ends  []string
	until time.Duration // of the last deadline for both directions
}

func (w *watchedConn) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, what)
}

func (w *watchedConn) SetDeadline(t time.Time) error {
	w.mu.Lock()
	w.until = time.Until(t)
	w.mu.Unlock()
	return w.Conn.SetDeadline(t)
}

func (w *watchedConn) CloseWrite() error {
	w.note("CloseWrite")
	return w.Conn.(*net.TCPConn).CloseWrite()
}

func (w *watchedConn) Close() error {
	w.note("Close")
	return w.Conn.Close()
}

// A drained connection leaves its client time to take the last answers, and is
// not closed over what the client may still send.
func TestDrainedConnectionLingers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := rawh2.Dial(context.Background(), ln.Addr().String(), rawh2.Options{})
	require.NoError(t, err)
	defer client.Close()
	nc, err := ln.Accept()
	require.NoError(t, err)
	watched := &watchedConn{Conn: nc}
	c := NewServer(watched, testConfig())
	ended := serving(t, c)
	require.NoError(t, client.AwaitSettingsAck(context.Background(), 1))
	c.Drain()
	require.NoError(t, await(t, ended, "Serve"))
	watched.mu.Lock()
	defer watched.mu.Unlock()
	require.Equal(t, []string{"CloseWrite", "Close"}, watched.ends)
	require.Greater(t, watched.until, goodbyeTimeout)
}

// The reason for the end is written though someone else is writing.
func TestGoodbyeWaitsForWriter(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	_, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	e := await(t, ears, "the request")
	c := e.s.Conn()
	require.NoError(t, client.Ping([8]byte{}))
	require.NoError(t, client.AwaitPongs(context.Background(), 1))
	for taken := false; !taken; runtime.Gosched() { // whoever wrote that has to be done
		c.mu.Lock()
		if taken = !c.writing; taken {
			c.writing = true // the test does
		}
		c.mu.Unlock()
	}
	require.NoError(t, client.RawFrame(http2.FrameData, 0, 0, nil))
	var lost *LostError
	require.ErrorAs(t, e.awaitClosed(t), &lost)
	for asked := false; !asked; runtime.Gosched() {
		select {
		case <-c.Done():
			require.FailNow(t, "the connection did not wait")
		default:
		}
		c.mu.Lock()
		asked = c.idle != nil
		c.mu.Unlock()
	}
	c.writeRest(nil, 0)
	requireGoAway(t, client, http2.ErrCodeProtocol)
}
