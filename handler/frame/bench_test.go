package frame

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kitexproxy/kitexproxy/handler/h2"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// BenchmarkUnary is what calls of 1 KiB cost, one after the other and some at a
// time on one connection. The backend is of the same engine and answers from its
// reader, the client writes frames made beforehand: nearly all there is to see
// is the proxy's.
//
//	go test -run - -bench Unary ./handler/frame
func BenchmarkUnary(b *testing.B) {
	for name, atOnce := range map[string]int{"one": 1, "sixteen": 16} {
		b.Run(name, func(b *testing.B) { benchmarkUnary(b, atOnce, options{}) })
	}
}

// BenchmarkWatched is BenchmarkUnary with an observer and a guard around the calls.
func BenchmarkWatched(b *testing.B) {
	observers, log := intercept.NewObservers(idle{}), slog.New(slog.DiscardHandler)
	links := []intercept.Link{{Guard: func(*intercept.Call) error { return nil }}}
	around := func(req *stream.Request) *intercept.Call {
		c := intercept.Begin(observers, intercept.Info{Request: req, Logger: log})
		require.NoError(b, intercept.Ask(c, links))
		return c
	}
	for name, atOnce := range map[string]int{"one": 1, "sixteen": 16} {
		b.Run(name, func(b *testing.B) { benchmarkUnary(b, atOnce, options{around: around}) })
	}
}

// idle is an observer that does nothing.
type idle struct{}

func (idle) Begin(*intercept.Call) { /* looks on */ }
func (idle) End(*intercept.Call)   { /* looks on */ }

func benchmarkUnary(b *testing.B, atOnce int, o options) {
	o.instances = []string{answering(b)}
	p := start(b, o)
	nc, err := net.Dial("tcp", p.addr)
	require.NoError(b, err)
	defer nc.Close()
	fr := http2.NewFramer(nc, nc)
	fr.SetReuseFrames()
	_, err = io.WriteString(nc, http2.ClientPreface)
	require.NoError(b, err)
	require.NoError(b, fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	require.NoError(b, fr.WriteWindowUpdate(0, 1<<30))
	request := newRequests(b)
	b.ReportAllocs()
	id := uint32(1)
	for done := 0; done < b.N+1; done += atOnce {
		if done == atOnce { // the first round has made the connection
			b.ResetTimer()
		}
		_, err := nc.Write(request.next(id, atOnce))
		require.NoError(b, err)
		id += 2 * uint32(atOnce)
		awaitEnds(b, fr, atOnce)
	}
}

// requests are the frames of requests.
type requests struct {
	b     []byte
	block []byte
}

func newRequests(b *testing.B) *requests {
	r := &requests{}
	w := writer{&r.block}
	enc := hpack.NewEncoder(w)
	enc.SetMaxDynamicTableSizeLimit(0)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: method},
		{Name: ":authority", Value: "bench"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: "20S"},
	} {
		f.Sensitive = true // so that one block does for all
		require.NoError(b, enc.WriteField(f))
	}
	return r
}

type writer struct{ b *[]byte }

func (w writer) Write(p []byte) (int, error) {
	*w.b = append(*w.b, p...)
	return len(p), nil
}

func (r *requests) next(id uint32, n int) []byte {
	r.b = r.b[:0]
	fr := http2.NewFramer(writer{&r.b}, nil)
	for range n {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block, EndHeaders: true})
		_ = fr.WriteData(id, true, benchMessage)
		id += 2
	}
	return r.b
}

var benchMessage = append([]byte{0, 0, 0, 4, 0}, make([]byte, 1024)...)

func awaitEnds(b *testing.B, fr *http2.Framer, n int) {
	for n > 0 {
		f, err := fr.ReadFrame()
		require.NoError(b, err)
		if f.Header().Type == http2.FrameHeaders && f.Header().Flags.Has(http2.FlagHeadersEndStream) {
			n--
		}
		if f.Header().Type == http2.FramePing && !f.Header().Flags.Has(http2.FlagPingAck) {
			require.NoError(b, fr.WritePing(true, f.(*http2.PingFrame).Data))
		}
	}
}

// answering starts a backend that answers each request when it is complete.
func answering(b *testing.B) string {
	p := &proxy{t: b}
	p.begin = func(s *h2.Stream, _ []hpack.HeaderField, _ bool) { s.SetEvents(answerer{s}) }
	p.serve(b)
	return p.addr
}

type answerer struct{ s *h2.Stream }

var (
	answerHead    = []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}
	answerTrailer = []hpack.HeaderField{{Name: "grpc-status", Value: "0"}}
)

func (a answerer) Headers([]hpack.HeaderField, bool) {}
func (a answerer) Data(b []byte, last bool) {
	if last {
		_ = a.s.WriteHeaders(answerHead, false)
		a.s.WriteData(b, false)
		_ = a.s.WriteTrailers(answerTrailer)
	}
}
func (a answerer) Trailers([]hpack.HeaderField) {}
func (a answerer) Sent(int)                     {}
func (a answerer) Closed(error)                 {}
