//lint:file-ignore SA1019 x/net is the other side here, not what net/http makes of it

package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// chaos is a connection that reads and writes little at a time, and ends after
// some bytes, if left is not negative.
type chaos struct {
	net.Conn
	mu   sync.Mutex // of what follows; a Read and a Write may come together
	rand *rand.Rand
	left int
}

func (c *chaos) take(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rand.IntN(2) == 0 {
		n = 1 + c.rand.IntN(n)
	}
	if c.left < 0 {
		return n, nil
	}
	if n = min(n, c.left); n == 0 {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	c.left -= n
	return n, nil
}

func (c *chaos) Read(p []byte) (int, error) {
	n, err := c.take(len(p))
	if err != nil {
		return 0, err
	}
	runtime.Gosched()
	return c.Conn.Read(p[:n])
}

func (c *chaos) Write(p []byte) (done int, err error) {
	for done < len(p) {
		n, err := c.take(len(p) - done)
		if err != nil {
			return done, err
		}
		n, err = c.Conn.Write(p[done : done+n])
		done += n
		if err != nil {
			return done, err
		}
		runtime.Gosched()
	}
	return done, nil
}

// link makes both ends of a connection: plain sockets, or chaos.
func link(t *testing.T, r *rand.Rand) (client, server net.Conn, abrupt bool) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err = ln.Accept()
	require.NoError(t, err)
	if r.IntN(3) == 0 {
		return client, server, false
	}
	left := -1
	if abrupt = r.IntN(3) == 0; abrupt {
		left = r.IntN(1 << 17)
	}
	wrap := func(nc net.Conn) net.Conn {
		return &chaos{Conn: nc, rand: rand.New(rand.NewPCG(r.Uint64(), 0)), left: left}
	}
	return wrap(client), wrap(server), abrupt
}

func modelConfig(r *rand.Rand) *Config {
	cfg := testConfig()
	windows := []uint32{100, 5000, 65535, 1 << 20}
	cfg.StreamWindow, cfg.ConnWindow = windows[r.IntN(4)], windows[r.IntN(4)]
	cfg.MaxStreams = uint32(2 + r.IntN(10))
	cfg.MaxQueued = 0
	return cfg
}

// What a server does with a request.
var deeds = []string{"echo", "echo", "echo", "early", "abort"}

func doEarly(n int) bool { return n > 1000 }

// modelEcho is the server's side of h2, and counts how its streams end.
type modelEcho struct {
	echo
	early bool
	got   int
	ended chan error
}

func (m *modelEcho) Data(b []byte, last bool) {
	m.got += len(b)
	if m.early && (last || doEarly(m.got)) {
		_ = m.s.WriteTrailers([]hpack.HeaderField{{Name: "early", Value: "yes"}})
		m.s.Stop()
		return
	}
	m.echo.Data(b, last)
}

func (m *modelEcho) Closed(err error) { m.ended <- err }

// beginModel counts the streams that have to end.
func beginModel(ended chan error, begun *int) func(*Stream, []hpack.HeaderField, bool) {
	return func(s *Stream, fields []hpack.HeaderField, last bool) {
		deed := ""
		for _, f := range fields {
			if f.Name == "x-do" {
				deed = f.Value
			}
		}
		if deed == "abort" {
			s.Reset(http2.ErrCodeCancel)
			return
		}
		*begun++
		m := &modelEcho{echo: echo{s}, early: deed == "early", ended: ended}
		s.SetEvents(m)
		_ = s.WriteHeaders(okHead, last)
	}
}

// quiet takes what x/net logs of broken connections.
var quiet = log.New(io.Discard, "", 0)

// serveXNet is the server's side of x/net.
func serveXNet(w http.ResponseWriter, req *http.Request) {
	deed := req.Header.Get("X-Do")
	if deed == "abort" {
		panic(http.ErrAbortHandler)
	}
	buf := make([]byte, 3000)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for got := 0; ; {
		n, err := req.Body.Read(buf)
		got += n
		if deed == "early" && doEarly(got) {
			return
		}
		_, _ = w.Write(buf[:n])
		_ = http.NewResponseController(w).Flush()
		if err != nil {
			return
		}
	}
}

// call runs one stream of a client of h2.
func call(t *testing.T, c *Conn, r *rand.Rand, trailers bool) {
	deed, want, e := deeds[r.IntN(len(deeds))], pattern(r.IntN(1<<r.IntN(18))), newEar()
	var s *Stream
	for {
		var err error
		s, err = c.Open(request(hpack.HeaderField{Name: "x-do", Value: deed}), false, e)
		if errors.Is(err, ErrDraining) {
			return
		}
		if err == nil {
			break
		}
		require.ErrorIs(t, err, ErrFull)
		runtime.Gosched()
	}
	credited := 0
	read := func() { // some of what has come
		e.mu.Lock()
		n := len(e.body) - credited
		e.mu.Unlock()
		if n > 0 {
			n = 1 + r.IntN(n)
			credited += n
			s.Credit(n)
			c.Flush()
		}
	}
	for off := 0; off < len(want); {
		n := 1 + r.IntN(len(want)-off)
		if r.IntN(2) == 0 {
			n = min(n, 50)
		}
		s.WriteData(want[off:off+n], false)
		off += n
		if r.IntN(3) == 0 {
			c.Flush()
			runtime.Gosched()
		}
		read()
		if r.IntN(200) == 0 {
			s.Reset(http2.ErrCodeCancel)
			c.Flush()
			e.mu.Lock()
			require.True(t, bytes.HasPrefix(want, e.body))
			e.mu.Unlock()
			return
		}
	}
	if !trailers || r.IntN(2) == 0 {
		s.WriteData(nil, true)
	} else {
		_ = s.WriteTrailers([]hpack.HeaderField{{Name: "a", Value: "b"}})
	}
	c.Flush()
	e.await(t, "the end", func() bool {
		for credited < len(e.body) { // else nothing more may come
			e.mu.Unlock()
			read()
			e.mu.Lock()
		}
		return e.closed > 0
	})
	for e.mu.Lock(); credited < len(e.body); e.mu.Lock() {
		e.mu.Unlock()
		read()
	}
	defer e.mu.Unlock()
	require.Equal(t, 1, e.closed)
	require.True(t, bytes.HasPrefix(want, e.body))
	if e.err == nil && deed == "echo" {
		require.Len(t, e.body, len(want))
	}
}

// model runs rounds of play, each with a seed of its own.
func model(t *testing.T, rounds int, play func(t *testing.T, r *rand.Rand)) {
	base := uint64(time.Now().UnixNano())
	if s := os.Getenv("H2_SEED"); s != "" {
		base, _ = strconv.ParseUint(s, 10, 64)
		rounds = 1
	}
	for i := range rounds {
		seed := base + uint64(i)
		if ok := t.Run("", func(t *testing.T) {
			t.Logf("H2_SEED=%d", seed)
			play(t, rand.New(rand.NewPCG(seed, 1)))
		}); !ok {
			return
		}
	}
}

// calls runs some calls at a time on c.
func calls(t *testing.T, c *Conn, r *rand.Rand, trailers bool) {
	var all sync.WaitGroup
	for range 1 + r.IntN(12) {
		seed := r.Uint64()
		all.Go(func() { call(t, c, rand.New(rand.NewPCG(seed, 2)), trailers) })
	}
	all.Wait()
}

func TestModel(t *testing.T) {
	model(t, 30, func(t *testing.T, r *rand.Rand) {
		nc, ns, abrupt := link(t, r)
		ended, begun := make(chan error, 1000), 0
		scfg := modelConfig(r)
		scfg.Begin = beginModel(ended, &begun)
		c, s := NewClient(nc, modelConfig(r)), NewServer(ns, scfg)
		serving(t, s)
		serving(t, c)
		calls(t, c, r, true)
		if !abrupt {
			settledWindows(t, c, s)
			settledWindows(t, s, c)
			require.True(t, c.Usable())
			s.Drain()
		} else {
			_ = nc.Close() // which all calls may have been too short to reach
		}
		awaitDone(t, s)
		awaitDone(t, c)
		for range begun {
			await(t, ended, "the end of each stream")
		}
		require.Empty(t, ended)
	})
}

func TestModelWithXNetServer(t *testing.T) {
	model(t, 20, func(t *testing.T, r *rand.Rand) {
		nc, ns, abrupt := link(t, r)
		var serve sync.WaitGroup
		defer serve.Wait()
		defer nc.Close()
		srv := &http2.Server{MaxConcurrentStreams: uint32(1 + r.IntN(10)), MaxUploadBufferPerStream: int32(1 << (10 + r.IntN(10)))}
		serve.Go(func() { // ends with the connection
			srv.ServeConn(ns, &http2.ServeConnOpts{Handler: http.HandlerFunc(serveXNet), BaseConfig: &http.Server{ErrorLog: quiet}})
		})
		c := NewClient(nc, modelConfig(r))
		serving(t, c)
		if !abrupt {
			await(t, c.Settled(), "SETTINGS")
		}
		calls(t, c, r, false) // x/net ends a connection over trailers that cross its RST_STREAM
		require.True(t, abrupt || c.Usable())
		c.Close(ErrClosed)
	})
}

func TestModelWithXNetClient(t *testing.T) {
	model(t, 20, func(t *testing.T, r *rand.Rand) {
		nc, ns, abrupt := link(t, r)
		ended, begun := make(chan error, 1000), 0
		cfg := modelConfig(r)
		cfg.Begin = beginModel(ended, &begun)
		s := NewServer(ns, cfg)
		serving(t, s)
		tr := &http2.Transport{AllowHTTP: true, StrictMaxConcurrentStreams: true, DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) {
			return nil, errors.New("no other connection")
		}}
		cc, err := tr.NewClientConn(nc)
		if err != nil {
			require.True(t, abrupt, err)
			return
		}
		_ = cc.Ping(context.Background()) // it knows how many streams it may open
		var all sync.WaitGroup
		for range 1 + r.IntN(12) {
			deed, want := deeds[r.IntN(len(deeds))], pattern(r.IntN(1<<r.IntN(18)))
			all.Go(func() {
				req, err := http.NewRequest("POST", "http://a/", io.NopCloser(bytes.NewReader(want)))
				require.NoError(t, err)
				req.Header.Set("X-Do", deed)
				resp, err := cc.RoundTrip(req)
				if err != nil {
					require.True(t, abrupt || deed == "abort", "%s: %v", deed, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				require.True(t, err == nil || abrupt || deed == "abort", "%s: %v", deed, err)
				require.True(t, bytes.HasPrefix(want, got))
				require.True(t, len(got) == len(want) || err != nil || deed == "early")
				_ = resp.Body.Close()
			})
		}
		all.Wait()
		_ = cc.Close()
		awaitDone(t, s)
		for range begun {
			await(t, ended, "the end of each stream")
		}
		require.Empty(t, ended)
		require.Zero(t, s.queued)
	})
}
