package h2

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// brokenConn is a connection that can be read and not written.
type brokenConn struct {
	net.Conn
	failed chan struct{}
	once   sync.Once
}

var errBroken = errors.New("broken")

func (b *brokenConn) Write([]byte) (int, error) {
	b.once.Do(func() { close(b.failed) })
	return 0, errBroken
}

// brokenAfter is a connection whose writes fail from the nth on.
type brokenAfter struct {
	net.Conn
	mu    sync.Mutex
	n     int
	begun chan struct{} // a write that will fail has begun
	fail  chan struct{} // and fails when this is closed
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	b.mu.Lock()
	b.n--
	broken := b.n < 0
	b.mu.Unlock()
	if !broken {
		return b.Conn.Write(p)
	}
	select {
	case b.begun <- struct{}{}:
	default:
	}
	<-b.fail
	return 0, errBroken
}

// What grew at the end of the queue was forgotten with it, but not that it grew.
func TestWriteDataAfterFailedWrite(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	nc := &brokenAfter{Conn: near, begun: make(chan struct{}, 1), fail: make(chan struct{})}
	c := NewClient(nc, testConfig())
	s, e := open(t, c, false) // its write has begun, and waits
	await(t, nc.begun, "the write")
	require.Equal(t, 3, s.WriteData([]byte("abc"), false))
	c.mu.Lock()
	c.idle = make(chan struct{})
	idle := c.idle
	c.mu.Unlock()
	close(nc.fail)
	await(t, idle, "the failed write")
	require.NotPanics(t, func() { s.WriteData([]byte("abc"), false) })
	ended := serving(t, c)
	require.NoError(t, far.Close())
	require.ErrorIs(t, await(t, ended, "Serve"), errBroken)
	var lost *LostError
	require.ErrorAs(t, e.awaitClosed(t), &lost)
}

// A backend may say why before it hangs up: what it has sent is read first.
func TestReadsOnAfterFailedWrite(t *testing.T) {
	near, far := net.Pipe()
	nc := &brokenConn{Conn: near, failed: make(chan struct{})}
	c := NewClient(nc, testConfig())
	e := newEar()
	_, err := c.Open(request(), true, e)
	require.NoError(t, err)
	ended := serving(t, c)
	await(t, nc.failed, "the failed write")
	require.Eventually(t, func() bool { // and the connection knows of it
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.writing
	}, safety, time.Millisecond)
	fr := http2.NewFramer(far, nil)
	require.NoError(t, fr.WriteSettings())
	var block bytes.Buffer
	require.NoError(t, hpack.NewEncoder(&block).WriteField(okHead[0]))
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
	}))
	require.NoError(t, e.awaitClosed(t))
	require.NoError(t, far.Close())
	require.ErrorIs(t, await(t, ended, "Serve"), errBroken)
}

// What a connection's last frames have led to is written on others, though it
// ends without another read.
func TestFlushesOthersAtItsEnd(t *testing.T) {
	scfg, ears := testConfig(), (chan *ear)(nil)
	ears = begun(scfg)
	client := rawClient(t, scfg, rawh2.Options{})
	call, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	source := await(t, ears, "the request").s

	backend, raw, ended := rawServer(t, testConfig(), rawh2.Options{})
	_, err = backend.Open(request(), true, &forward{from: backend, to: source})
	require.NoError(t, err)
	backend.Flush()
	// A response and GOAWAY in one segment.
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	var block bytes.Buffer
	require.NoError(t, hpack.NewEncoder(&block).WriteField(okHead[0]))
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}))
	require.NoError(t, fr.WriteGoAway(1, http2.ErrCodeNo, nil))
	require.NoError(t, raw.RawWrite(out.Bytes()))
	require.NoError(t, await(t, ended, "Serve"))
	reply, err := call.AwaitReply(context.Background())
	require.NoError(t, err)
	require.Equal(t, "200", reply.Trailer.Get(":status"))
}

// forward passes on a head.
type forward struct {
	unheard
	from *Conn
	to   *Stream
}

func (f *forward) Headers(fields []hpack.HeaderField, last bool) {
	_ = f.to.WriteHeaders(fields, last)
	f.from.FlushAfterRead(f.to.Conn())
}

func TestDrainDuringHandshakeFollowsSettings(t *testing.T) {
	near, far := net.Pipe()
	c := NewServer(near, testConfig())
	c.Drain()
	ended := serving(t, c)
	go func() { // ends with the pipe
		_, _ = far.Write([]byte(http2.ClientPreface))
		_ = http2.NewFramer(far, nil).WriteSettings()
	}()
	fr := http2.NewFramer(far, far)
	var kinds []http2.FrameType
	for len(kinds) < 3 {
		f, err := fr.ReadFrame()
		require.NoError(t, err)
		if f.Header().Type != http2.FrameWindowUpdate {
			kinds = append(kinds, f.Header().Type)
		}
	}
	require.Equal(t, []http2.FrameType{http2.FrameSettings, http2.FrameGoAway, http2.FramePing}, kinds)
	require.NoError(t, far.Close())
	<-ended
}

func TestOpenBeforeServeFollowsPreface(t *testing.T) {
	s, err := rawh2.Listen("", rawh2.Options{}, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	nc, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	c := NewClient(nc, testConfig())
	open(t, c, true)
	serving(t, c)
	st, err := s.AwaitStream(context.Background(), 1)
	require.NoError(t, err)
	require.Equal(t, "/s/m", st.Request().Get(":path"))
}

// An end that is decided while the handshake goes on is not put off by it.
func TestFailedWriteEndsHandshake(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	cfg := testConfig()
	cfg.HandshakeTimeout = time.Hour
	ended := serving(t, NewClient(&brokenConn{Conn: near, failed: make(chan struct{})}, cfg))
	require.ErrorIs(t, await(t, ended, "Serve"), errBroken)
}

func TestEmptyTrailersBehindData(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{ManualWindow: true, Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1}}})
	st, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	s := await(t, ears, "the request").s
	require.NoError(t, s.WriteHeaders(okHead, false))
	require.Equal(t, 1, s.WriteData([]byte("abc"), false))
	require.NoError(t, s.WriteTrailers(nil))
	s.Conn().Flush()
	require.NoError(t, client.WindowUpdate(st.ID(), 2))
	body, err := st.AwaitEndStream(context.Background())
	require.NoError(t, err)
	require.Equal(t, "abc", string(body))
}

// RFC 9113 section 6.9.3: a client that does not know the window yet may fill
// the protocol's.
func TestWindowBeforeSettingsAreKnown(t *testing.T) {
	cfg := testConfig()
	cfg.StreamWindow = 1000
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{WithholdSettings: true}) // and acknowledges nothing
	require.NoError(t, client.RawFrame(http2.FrameSettings, 0, 0, nil))
	st, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	for range 5 {
		require.NoError(t, st.DataFrame(make([]byte, 13107), false))
	}
	e := await(t, ears, "the request")
	e.await(t, "the data", func() bool { return len(e.body) == 65535 })
	c := e.s.Conn()
	require.NoError(t, client.RawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil))
	next, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	require.NoError(t, next.DataFrame(make([]byte, 1001), false))
	await(t, ears, "the second request")
	code, err := next.AwaitReset(context.Background())
	require.NoError(t, err)
	require.Equal(t, http2.ErrCodeFlowControl, code)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, int64(1000), e.s.recvWindow+e.s.credited, "the first stream's window follows")
}

// A window may be below 0 by then; what takes no room in it is no fault.
func TestEndOfStreamNeedsNoWindow(t *testing.T) {
	cfg := testConfig()
	cfg.StreamWindow = 1000
	e := newEar() // it credits nothing
	cfg.Begin = func(s *Stream, _ []hpack.HeaderField, _ bool) { s.SetEvents(e) }
	client := rawClient(t, cfg, rawh2.Options{WithholdSettings: true}) // and acknowledges nothing
	require.NoError(t, client.RawFrame(http2.FrameSettings, 0, 0, nil))
	st, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	require.NoError(t, st.DataFrame(make([]byte, 5000), false))
	require.NoError(t, client.RawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil))
	require.NoError(t, st.DataFrame(nil, true))
	e.await(t, "the end", func() bool { return e.ended })
}

// gRPC's clients send a PING for each round trip in which they got something.
func TestPingsThatMeasureAreNoFlood(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	_, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	s := await(t, ears, "the request").s
	require.NoError(t, s.WriteHeaders(okHead, false))
	for i := range 700 {
		s.WriteData([]byte("x"), false)
		require.NoError(t, client.Ping([8]byte{}))
		require.NoError(t, client.AwaitPongs(context.Background(), i+1))
	}
}

func TestHeaderTooLongCostsItsStreamOnly(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHeaderList = 1000
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	healthy, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	s := await(t, ears, "the request").s
	long, err := client.NewStream(rawRequest(rawh2.F("x", strings.Repeat("~", 1001))), true)
	require.NoError(t, err)
	reply, err := long.AwaitReply(context.Background())
	require.NoError(t, err)
	require.Equal(t, "431", reply.Trailer.Get(":status"))
	require.NoError(t, s.WriteHeaders(okHead, true))
	s.Conn().Flush()
	_, err = healthy.AwaitEndStream(context.Background())
	require.NoError(t, err)
}

func TestHeaderTooLongForClientWithoutRoom(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHeaderList = 1000
	begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 1}}})
	long, err := client.NewStream(rawRequest(rawh2.F("x", strings.Repeat("~", 1001))), true)
	require.NoError(t, err)
	code, err := long.AwaitReset(context.Background())
	require.NoError(t, err)
	require.Equal(t, http2.ErrCodeCancel, code)
}
