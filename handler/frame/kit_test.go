package frame

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/h2grpc"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// safety ends what would otherwise hang; no test passes by waiting for it.
	safety = 60 * time.Second
	method = "/test.Service/Method"
	// window is what either end may send on a stream unasked.
	window = 64 << 10
)

// proxy is a Relay behind a listener.
type proxy struct {
	t        testing.TB
	relay    *Relay
	backends *h2grpc.Backends
	target   *resolver.Target
	begin    func(s *h2.Stream, fields []hpack.HeaderField, last bool)
	window   uint32
	addr     string
}

// options is what a test may want otherwise.
type options struct {
	timeout    time.Duration // the route's
	maxMessage uint32
	window     uint32 // what clients may send on a stream; default window
	instances  []string
	around     func(req *stream.Request) *intercept.Call // what is around each call; nil for nothing
}

func start(t testing.TB, o options) *proxy {
	t.Helper()
	p := &proxy{t: t, window: o.window}
	p.backends = h2grpc.NewBackends(h2grpc.Options{
		Options: upstream.Options{
			ConnectTimeout: safety, Logger: slog.New(slog.DiscardHandler),
		},
		StreamWindow: window, ConnectionWindow: 4 * window, MaxHeaderList: 64 << 10,
	})
	p.backends.Configure("c", upstream.ClusterOptions{Connections: 4, Idle: -1})
	t.Cleanup(p.backends.Close)
	p.relay = New(Options{
		Backends: p.backends, MaxMessage: o.maxMessage, MaxHeld: 16 << 20,
	})
	p.target = &resolver.Target{
		Cluster: cluster.New("c", &conf.Cluster{Instances: o.instances}, cluster.Options{}), Timeout: o.timeout,
	}
	p.begin = func(s *h2.Stream, fields []hpack.HeaderField, last bool) {
		var around *intercept.Call
		if o.around != nil {
			around = o.around(h2grpc.ParseRequest(fields))
		}
		p.relay.Begin(s, fields, last, p.target, around)
	}
	p.serve(t)
	return p
}

// serve takes connections until the test ends.
func (p *proxy) serve(t testing.TB) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.addr = ln.Addr().String()
	cfg := &h2.Config{
		StreamWindow: cmp.Or(p.window, window), ConnWindow: 4 * window, MaxHeaderList: 64 << 10, MaxStreams: 100, MaxQueued: 8 << 20,
		HandshakeTimeout: safety, Keepalive: safety,
		Begin: p.begin,
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []*h2.Conn
	all.Go(func() { // ends with ln
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := h2.NewServer(nc, cfg)
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
			c.Close(h2.ErrClosed)
		}
		mu.Unlock()
		all.Wait()
	})
}

// to starts a proxy before one backend that does with each stream what script
// says.
func to(t testing.TB, o options, b rawh2.Options, script func(*rawh2.Stream)) (*proxy, *rawh2.Server) {
	t.Helper()
	backend, err := rawh2.Listen("", b, script)
	require.NoError(t, err)
	t.Cleanup(backend.Close)
	o.instances = []string{backend.Addr()}
	return start(t, o), backend
}

func (p *proxy) safe() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	p.t.Cleanup(cancel)
	return ctx
}

func (p *proxy) dial(o rawh2.Options) *rawh2.Conn {
	p.t.Helper()
	c, err := rawh2.Dial(p.safe(), p.addr, o)
	require.NoError(p.t, err)
	p.t.Cleanup(c.Close)
	return c
}

func (p *proxy) open(c *rawh2.Conn, last bool, extra ...rawh2.Field) *rawh2.Stream {
	p.t.Helper()
	s, err := c.NewStream(rawh2.RequestFields(method, "test", extra...), last)
	require.NoError(p.t, err)
	return s
}

func (p *proxy) reply(s *rawh2.Stream) rawh2.Reply {
	p.t.Helper()
	r, err := s.AwaitReply(p.safe())
	require.NoError(p.t, err)
	return r
}

// settles waits until nothing is left of any call.
func (p *proxy) settles() {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		return p.relay.ActiveCalls() == 0 && p.backends.Stats().Streams == 0
	}, safety, time.Millisecond, "calls or streams are left")
}

// requireLocal checks a reply that is the proxy's own.
func requireLocal(t testing.TB, r rawh2.Reply, code stream.Code, reason stream.Reason) {
	t.Helper()
	require.Nil(t, r.Reset)
	require.Equal(t, strconv.Itoa(int(code)), r.Trailer.Get("grpc-status"), "%v", r.Trailer)
	require.Equal(t, string(reason), r.Trailer.Get(stream.ReasonKey), "%v", r.Trailer)
}

func requireOK(t testing.TB, r rawh2.Reply, body []byte) {
	t.Helper()
	require.Nil(t, r.Reset)
	require.Equal(t, "0", r.Trailer.Get("grpc-status"), "%v", r.Trailer)
	require.Equal(t, len(body), len(r.Body))
	require.Equal(t, string(body), string(r.Body))
}

// echo answers with the whole request.
func echo(s *rawh2.Stream) {
	body, err := s.AwaitEndStream(s.Context())
	if err != nil {
		return
	}
	_ = s.Headers(rawh2.ResponseFields(), false)
	_ = s.Data(body, false)
	_ = s.Trailers(rawh2.F("grpc-status", "0"))
}

// hold leaves a stream as it is.
func hold(s *rawh2.Stream) { <-s.Context().Done() }

func setting(id http2.SettingID, v uint32) []http2.Setting {
	return []http2.Setting{rawh2.Setting(id, v)}
}
