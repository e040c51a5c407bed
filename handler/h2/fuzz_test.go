package h2

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// recorded is a connection on which everything has come already, in pieces.
type recorded struct {
	in    *bytes.Reader
	piece int

	mu     sync.Mutex
	out    []byte
	closed bool
}

func (r *recorded) Read(p []byte) (int, error) {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	return r.in.Read(p[:min(len(p), r.piece)])
}

func (r *recorded) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, net.ErrClosed
	}
	r.out = append(r.out, p...)
	return len(p), nil
}

func (r *recorded) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

func (r *recorded) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorded) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorded) SetDeadline(time.Time) error      { return nil }
func (r *recorded) SetReadDeadline(time.Time) error  { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// requireOver checks that nothing of a connection is left when Serve has
// returned, and that what it has said is HTTP/2.
func requireOver(t *testing.T, c *Conn, nc *recorded, told map[*Stream]*ear) {
	c.mu.Lock()
	require.Empty(t, c.streams)
	require.Zero(t, c.queued)
	require.False(t, c.writing)
	require.Nil(t, c.reader.buf)
	require.GreaterOrEqual(t, c.sendWindow, int64(0))
	c.mu.Unlock()
	for s, e := range told {
		e.mu.Lock()
		require.Equal(t, 1, e.closed, "stream %d", s.id)
		e.mu.Unlock()
	}
	nc.mu.Lock()
	out := bytes.TrimPrefix(nc.out, []byte(http2.ClientPreface))
	nc.mu.Unlock()
	if bytes.HasPrefix(out, []byte("HTTP/1.1")) {
		return
	}
	fr := http2.NewFramer(nil, bytes.NewReader(out))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	ended := map[uint32]bool{}
	for {
		f, err := fr.ReadFrame()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		id := f.Header().StreamID
		switch f := f.(type) {
		case *http2.DataFrame:
			require.False(t, ended[id], "DATA on stream %d, which has ended", id)
			ended[id] = f.StreamEnded()
		case *http2.MetaHeadersFrame:
			require.False(t, ended[id], "HEADERS on stream %d, which has ended", id)
			ended[id] = f.StreamEnded()
		case *http2.RSTStreamFrame:
			ended[id] = true
		case *http2.WindowUpdateFrame:
			require.NotZero(t, f.Increment)
		}
	}
}

// frames makes a seed.
func frames(write func(fr *http2.Framer, block func(fields ...hpack.HeaderField) []byte)) []byte {
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	fr.AllowIllegalWrites = true
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	write(fr, func(fields ...hpack.HeaderField) []byte {
		b.Reset()
		for _, f := range fields {
			_ = enc.WriteField(f)
		}
		return b.Bytes()
	})
	return out.Bytes()
}

func addSeeds(f *testing.F, first ...hpack.HeaderField) {
	for _, last := range []bool{false, true} {
		seed := frames(func(fr *http2.Framer, block func(...hpack.HeaderField) []byte) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(first...), EndHeaders: true, EndStream: last})
			_ = fr.WriteData(1, false, []byte("some data"))
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			_ = fr.WriteDataPadded(1, false, []byte("padded"), make([]byte, 9))
			_ = fr.WriteWindowUpdate(1, 100)
			_ = fr.WriteWindowUpdate(0, 100)
			b := block(first...)
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: b[:1]})
			_ = fr.WriteContinuation(3, true, b[1:])
			_ = fr.WriteData(3, true, nil)
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(hpack.HeaderField{Name: "a", Value: "b"}), EndHeaders: true, EndStream: true})
			_ = fr.WritePing(false, [8]byte{1})
			_ = fr.WriteRSTStream(3, http2.ErrCodeCancel)
			_ = fr.WritePriority(5, http2.PriorityParam{StreamDep: 1})
			_ = fr.WriteSettingsAck()
			_ = fr.WritePing(true, drainPing)
			_ = fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
		})
		f.Add(seed, true, uint16(7))
		f.Add(seed[:len(seed)/2], true, uint16(1000))
		f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), last, uint16(3))
	}
}

func fuzzConfig() *Config {
	cfg := testConfig()
	cfg.StreamWindow, cfg.MaxHeaderList, cfg.MaxStreams, cfg.MaxQueued, cfg.Keepalive = 1000, 500, 4, 1000, 0
	return cfg
}

func FuzzServerBytes(f *testing.F) {
	addSeeds(f, request()...)
	f.Fuzz(func(t *testing.T, b []byte, greeted bool, piece uint16) {
		if greeted {
			b = append(append([]byte(http2.ClientPreface), frames(func(fr *http2.Framer, _ func(...hpack.HeaderField) []byte) {
				_ = fr.WriteSettings()
			})...), b...)
		}
		told := map[*Stream]*ear{}
		cfg := fuzzConfig()
		cfg.Begin = func(s *Stream, fields []hpack.HeaderField, last bool) {
			e := newEar()
			e.s = s
			told[s] = e
			s.SetEvents(e)
			_ = s.WriteHeaders(okHead, false)
			s.WriteData(make([]byte, len(fields)*3), false)
			if s.ID()%4 == 1 {
				_ = s.WriteTrailers(nil)
				s.Stop()
			}
			if s.ID() == 7 {
				s.Conn().Drain()
			}
		}
		nc := &recorded{in: bytes.NewReader(b), piece: int(piece) + 1}
		c := NewServer(nc, cfg)
		_ = c.Serve()
		requireOver(t, c, nc, told)
	})
}

func FuzzClientBytes(f *testing.F) {
	addSeeds(f, okHead...)
	f.Fuzz(func(t *testing.T, b []byte, greeted bool, piece uint16) {
		if greeted {
			b = append(frames(func(fr *http2.Framer, _ func(...hpack.HeaderField) []byte) { _ = fr.WriteSettings() }), b...)
		}
		told := map[*Stream]*ear{}
		nc := &recorded{in: bytes.NewReader(b), piece: int(piece) + 1}
		c := NewClient(nc, fuzzConfig())
		for i := range 3 {
			e := newEar()
			s, err := c.Open(request(), i == 0, e)
			require.NoError(t, err)
			e.s = s
			told[s] = e
			s.WriteData(make([]byte, 30000*i), i == 2)
		}
		_ = c.Serve()
		requireOver(t, c, nc, told)
	})
}

// FuzzHeadersValid checks what no request that is let through may have.
func FuzzHeadersValid(f *testing.F) {
	f.Add(":method\x01POST\x01:scheme\x01http\x01:path\x01/a\x01te\x01trailers", false)
	f.Add(":method\x01CONNECT\x01:authority\x01a", false)
	f.Add(":method\x01GET\x01:scheme\x01http\x01:path\x01/\x01content-length\x010", true)
	f.Add(":path\x01/\x01x\x01y\x01:method\x01GET\x01:scheme\x01http\x01Connection\x01\r\n", true)
	f.Fuzz(func(t *testing.T, list string, last bool) {
		parts := strings.Split(list, "\x01")
		var fields []hpack.HeaderField
		for i := 0; i+1 < len(parts); i += 2 {
			fields = append(fields, hpack.HeaderField{Name: parts[i], Value: parts[i+1]})
		}
		s := &Stream{declared: -1}
		if s.checkRequest(fields, last) != "" {
			return
		}
		count, regular := map[string]int{}, false
		for _, f := range fields {
			count[f.Name]++
			require.NotContains(t, []string{"", "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"}, f.Name)
			require.Equal(t, strings.ToLower(f.Name), f.Name)
			require.NotContains(t, f.Name[1:], ":")
			require.False(t, strings.ContainsAny(f.Name+f.Value, "\r\n\x00"), "%q", f)
			require.False(t, strings.ContainsAny(f.Name, " \t\"(),/;<=>?@[\\]{}\x7f"), "%q", f)
			if strings.HasPrefix(f.Name, ":") {
				require.False(t, regular, "%q behind other fields", f)
			} else {
				regular = true
			}
		}
		require.Equal(t, 1, count[":method"])
		require.LessOrEqual(t, count[":authority"], 1)
		require.Equal(t, count[":scheme"], count[":path"])
		for name := range count {
			if name[0] == ':' {
				require.Contains(t, []string{":method", ":scheme", ":path", ":authority"}, name)
			}
		}
	})
}
