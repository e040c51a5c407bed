package h2

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// pattern is n bytes in which every place can be told from its neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// requireStreamWindow checks that both ends of a stream that is open agree:
// what may be sent, what is to be credited, and what held has not been.
func requireStreamWindow(t *testing.T, from, to *Stream, held int) {
	t.Helper()
	from.c.mu.Lock()
	left := from.sendWindow
	from.c.mu.Unlock()
	to.c.mu.Lock()
	defer to.c.mu.Unlock()
	require.Equal(t, to.recvWindow, left)
	require.Equal(t, int64(to.c.cfg.StreamWindow), left+to.credited+int64(held))
}

// A stream that nobody reads holds its window and no more, and holds up neither
// its neighbours nor other connections; read again, all arrives.
func TestStalledStreamHoldsItsWindowOnly(t *testing.T) {
	cfg := testConfig()
	ears, stalled := make(chan *ear, 10), make(chan *Stream, 1)
	cfg.Begin = func(s *Stream, _ []hpack.HeaderField, _ bool) {
		e := newEar()
		if s.ID() == 1 { // is not read
			stalled <- s
		} else {
			e.s = s
		}
		s.SetEvents(e)
		ears <- e
	}
	client, server := pair(t, testConfig(), cfg)
	s1, e1 := open(t, client, false)
	in1 := await(t, ears, "the stream")
	far1 := await(t, stalled, "the stream")
	body := pattern(1 << 20)
	sent := s1.WriteData(body, false)
	client.Flush()
	window := int(cfg.StreamWindow)
	in1.await(t, "a window of data", func() bool { return len(in1.body) == window })
	e1.mu.Lock()
	require.Equal(t, window, sent+e1.sent)
	e1.mu.Unlock()

	// A neighbour gets four times all windows through.
	s2, e2 := open(t, client, false)
	in2 := await(t, ears, "the neighbour")
	sent2 := s2.WriteData(body, true)
	client.Flush()
	in2.await(t, "the neighbour's body", func() bool { return in2.ended })
	require.True(t, bytes.Equal(body, in2.body))
	e2.mu.Lock()
	require.Equal(t, len(body), sent2+e2.sent, "whoever waits is told of each byte")
	e2.mu.Unlock()

	in1.mu.Lock()
	require.Len(t, in1.body, window, "no more than the window")
	in1.mu.Unlock()
	requireStreamWindow(t, s1, far1, window)

	for credited := 0; credited < len(body); {
		in1.mu.Lock()
		n := len(in1.body) - credited
		in1.mu.Unlock()
		far1.Credit(n)
		server.Flush()
		credited += n
		if n == 0 {
			runtime.Gosched()
		}
	}
	require.True(t, bytes.Equal(body, in1.body))
	requireAgree(t, s1, far1)
	s1.Reset(http2.ErrCodeCancel)
	client.Flush()
	require.Equal(t, &ResetError{Code: http2.ErrCodeCancel}, in1.awaitClosed(t))
	require.NoError(t, endFar(t, in2, e2))
	settledWindows(t, client, server)
	settledWindows(t, server, client)
}

// endFar ends the other side of a stream.
func endFar(t *testing.T, in, out *ear) error {
	if err := in.s.WriteHeaders(okHead, true); err != nil {
		return err
	}
	in.s.Conn().Flush()
	return out.awaitClosed(t)
}

// requireAgree waits until what was credited has come, and checks the windows.
func requireAgree(t *testing.T, from, to *Stream) {
	t.Helper()
	to.c.mu.Lock()
	want := to.recvWindow
	to.c.mu.Unlock()
	for left := int64(-1); left != want; runtime.Gosched() {
		from.c.mu.Lock()
		left = from.sendWindow
		from.c.mu.Unlock()
		require.LessOrEqual(t, left, want)
	}
	requireStreamWindow(t, from, to, 0)
}

// Data that comes after a stream was reset counts against the connection's
// window, and has to be given back.
func TestWindowOfDataThatCrossesReset(t *testing.T) {
	cfg := testConfig()
	cfg.Begin = func(s *Stream, _ []hpack.HeaderField, _ bool) { s.Reset(http2.ErrCodeCancel) }
	client, server := pair(t, testConfig(), cfg)
	for range 100 {
		s, e := open(t, client, false)
		s.WriteData(make([]byte, 50<<10), false)
		client.Flush()
		require.Equal(t, &ResetError{Code: http2.ErrCodeCancel}, e.awaitClosed(t))
	}
	settledWindows(t, client, server)
}

// Padding counts, and is credited though nobody sees it.
func TestPaddingIsCredited(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	s, err := client.NewStream(rawRequest(), false)
	require.NoError(t, err)
	e := await(t, ears, "the request")
	padded := append([]byte{255, 'x'}, make([]byte, 255)...)
	for range 2000 {
		require.NoError(t, client.RawFrame(http2.FrameData, http2.FlagDataPadded, s.ID(), padded))
	}
	e.await(t, "the data", func() bool { return len(e.body) == 2000 })
	c := e.s.Conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, int64(cfg.StreamWindow), e.s.recvWindow+e.s.credited)
}

// A window that SETTINGS make smaller, below zero even, holds data back until
// it is positive again (RFC 9113 section 6.9.2).
func TestWindowBelowZero(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{ManualWindow: true, Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}})
	st, err := client.NewStream(rawRequest(), true)
	require.NoError(t, err)
	e := await(t, ears, "the request")
	require.NoError(t, e.s.WriteHeaders(okHead, false))
	body := pattern(30)
	require.Equal(t, 10, e.s.WriteData(body, true))
	e.s.Conn().Flush()
	_, err = st.AwaitBody(context.Background(), 10)
	require.NoError(t, err)
	require.NoError(t, client.SendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2}))
	require.NoError(t, client.WindowUpdate(st.ID(), 8)) // to 0
	require.NoError(t, client.Ping([8]byte{}))
	require.NoError(t, client.AwaitPongs(context.Background(), 1))
	got, err := st.AwaitBody(context.Background(), 10)
	require.NoError(t, err)
	require.Len(t, got, 10)
	require.NoError(t, client.WindowUpdate(st.ID(), 1))
	_, err = st.AwaitBody(context.Background(), 11)
	require.NoError(t, err)
	require.NoError(t, client.SendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	got, err = st.AwaitEndStream(context.Background())
	require.NoError(t, err)
	require.Equal(t, body, got)
}

// One connection's window is shared in turns.
func TestStreamsTakeTurns(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{ManualWindow: true, Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}})
	var streams []*rawh2.Stream
	for range 4 {
		st, err := client.NewStream(rawRequest(), true)
		require.NoError(t, err)
		streams = append(streams, st)
		e := await(t, ears, "the request")
		require.NoError(t, e.s.WriteHeaders(okHead, false))
		e.s.WriteData(make([]byte, 128<<10), true)
		e.s.Conn().Flush()
	}
	require.NoError(t, client.WindowUpdate(0, 4*maxFrameSize))
	for _, st := range streams {
		_, err := st.AwaitBody(context.Background(), maxFrameSize/2) // a frame may be cut where the queue is full
		require.NoError(t, err)
	}
	require.NoError(t, client.WindowUpdate(0, 1<<20))
	for _, st := range streams {
		body, err := st.AwaitEndStream(context.Background())
		require.NoError(t, err)
		require.Len(t, body, 128<<10)
	}
}

// Tables of header fields follow SETTINGS in the middle of a connection.
func TestHeaderTableSizeChanges(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	for i, size := range []uint32{4096, 0, 100, 1 << 30, 50, 4096} {
		require.NoError(t, client.SendSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
		require.NoError(t, client.AwaitSettingsAck(context.Background(), i+1))
		for range 3 {
			st, err := client.NewStream(rawRequest(), true)
			require.NoError(t, err)
			e := await(t, ears, "the request")
			require.NoError(t, e.s.WriteHeaders(append(okHead, hpack.HeaderField{Name: "a-name", Value: "a-value"}), true))
			e.s.Conn().Flush()
			reply, err := st.AwaitReply(context.Background())
			require.NoError(t, err)
			require.Equal(t, "a-value", reply.Trailer.Get("a-name"))
		}
	}
}

// Fields that vary by call arrive whatever their length, also where the encoder has to
// say first that its table has changed.
func TestFieldsThatVaryByCall(t *testing.T) {
	cfg := testConfig()
	ears := begun(cfg)
	client := rawClient(t, cfg, rawh2.Options{})
	for i, n := range []int{0, 1, maxPlainValue, maxPlainValue + 1, 127, 128, 1000} {
		st, err := client.NewStream(rawRequest(), true)
		require.NoError(t, err)
		e := await(t, ears, "the request")
		value := strings.Repeat("0~", n)[:n]
		head := append(slices.Clone(okHead), hpack.HeaderField{Name: "traceparent", Value: value},
			hpack.HeaderField{Name: "endpoint-load-metrics-bin", Value: value, Sensitive: true}, hpack.HeaderField{Name: "a-name", Value: value})
		require.NoError(t, e.s.WriteHeaders(head, false))
		e.s.Conn().Flush()
		require.NoError(t, client.SendSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(1000 - i)}))
		require.NoError(t, client.AwaitSettingsAck(context.Background(), i+1))
		require.NoError(t, e.s.WriteTrailers([]hpack.HeaderField{{Name: "grpc-message", Value: value}, {Name: "grpc-status", Value: "0"}}))
		e.s.Conn().Flush()
		reply, err := st.AwaitReply(context.Background())
		require.NoError(t, err)
		for _, name := range []string{"traceparent", "endpoint-load-metrics-bin", "a-name"} {
			require.Equal(t, []string{value}, reply.Header.Values(name))
		}
		require.Equal(t, []string{value}, reply.Trailer.Values("grpc-message"))
		require.Equal(t, []string{"0"}, reply.Trailer.Values("grpc-status"))
	}
}

// A backend that takes nothing of what it is sent gets no more streams, however
// quickly the ones it has are given up.
func TestOpenStopsBeforeABackendThatDoesNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	c := NewClient(ours, testConfig())
	ended := make(chan struct{})
	go func() { // ends with the connection
		defer close(ended)
		_ = c.Serve()
	}()
	preface := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(theirs, preface)
	require.NoError(t, err)
	go func() { _, _ = theirs.Write(appendSettings(nil)) }() // ends when the reader has it
	<-c.Settled()
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/"},
		{Name: "big", Value: strings.Repeat("x", 1000)},
	}
	for opened := 0; ; opened++ {
		s, err := c.Open(fields, true, unheard{})
		if err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		s.Reset(http2.ErrCodeCancel)
		c.Flush()
		require.Less(t, opened*1000, 2*maxControl, "bytes queued for a backend that does not read")
	}
	c.Close(ErrClosed)
	require.NoError(t, theirs.Close())
	<-ended
}
