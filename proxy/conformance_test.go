package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"slices"
	"testing"

	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // for the Kitex backends
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// way is a way for calls to take through the proxy.
type way struct {
	transport string
	level     slog.Level
	prepare   func(*proxy.Proxy) // nil for nothing
	filters   []proxy.Option     // for mode: struct, nil for mode: frame
	around    []proxy.Option     // what is around calls, nil for nothing
	links     bool               // there are interceptors among that
	brief     bool               // the suite with the ends of grpc-go will do, as it differs little from another way
	opts      handlertest.Options
}

// ways are the targets of the conformance suites.
var ways = map[string]way{
	"native":         {transport: conf.TransportNative},
	"native, logged": {transport: conf.TransportNative, level: slog.LevelDebug, brief: true},
	// The streams that modes which look at messages work with.
	"native, streams": {transport: conf.TransportNative, prepare: proxy.UseStreams, brief: true},
	// What is around calls, with nothing but guards and observers, and with
	// interceptors.
	"native, guarded":     {transport: conf.TransportNative, around: guarded, brief: true},
	"native, intercepted": {transport: conf.TransportNative, around: intercepted, links: true, brief: true},
	"struct, intercepted": {transport: conf.TransportNative, around: intercepted, links: true, filters: structOptions(filter.Forward), brief: true},
	"kitex":               {transport: conf.TransportKitex, opts: notOnKitex},
	"struct":              {transport: conf.TransportNative, filters: structOptions(filter.Forward)},
	"struct, changed":     {transport: conf.TransportNative, filters: structOptions(filter.Changed)},
	"struct, kitex":       {transport: conf.TransportKitex, filters: structOptions(filter.Forward), opts: notOnKitex},
}

// guarded is around calls without a goroutine of theirs, and changes nothing.
var guarded = []proxy.Option{
	proxy.WithGuards(func(c *intercept.Call) error {
		c.OnMessage(func(filter.Direction) error { return nil })
		c.Header() // has the metadata written anew
		return nil
	}),
	proxy.WithObservers(watchful{}),
}

// intercepted is around calls with two interceptors, and changes nothing.
var intercepted = append([]proxy.Option{proxy.WithInterceptors(
	func(ctx context.Context, _ *intercept.Call, next intercept.Next) error { return next(ctx) },
	func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
		type key struct{}
		return next(context.WithValue(ctx, key{}, "value"))
	},
)}, guarded...)

// watchful is an observer that wants to know everything.
type watchful struct{}

func (watchful) Begin(*intercept.Call)                            { /* looks on */ }
func (watchful) End(c *intercept.Call)                            { _ = c.Outcome() }
func (watchful) BeginAttempt(*intercept.Call, *intercept.Attempt) { /* looks on */ }
func (watchful) EndAttempt(*intercept.Call, *intercept.Attempt)   { /* looks on */ }
func (watchful) ResponseHeader(*intercept.Call, stream.Metadata)  { /* looks on */ }
func (watchful) Message(*intercept.Call, intercept.Message)       { /* looks on */ }
func (watchful) BeginConn(c *intercept.Conn)                      { c.SetContext(context.WithoutCancel(c.Context())) }
func (watchful) EndConn(*intercept.Conn)                          { /* looks on */ }

// onStreams tells whether calls take the blocking streams of our own transport.
func (w way) onStreams() bool {
	return w.transport == conf.TransportNative && (w.prepare != nil || w.filters != nil || w.links)
}

// target puts a proxy of its own before each backend.
func (w way) target(t *testing.T, backend string) string {
	cfg, err := conf.Simple("127.0.0.1:0", backend)
	require.NoError(t, err)
	return serveWay(t, w.proxy(t, cfg))
}

// proxy returns a proxy that is this way from now on.
func (w way) proxy(t *testing.T, cfg *conf.Config) *proxy.Proxy {
	t.Helper()
	cfg.Transport = w.transport
	if w.filters != nil {
		cfg.Default.Mode = conf.ModeStruct
		cfg.Default.Undecodable = conf.UndecodableForward // the suite sends messages in encodings that nobody knows
		cfg.Default.MessageLimit = math.MaxUint32
	}
	p, err := proxy.New(cfg, append(slices.Concat(w.filters, w.around), proxy.WithLogger(w.logger()))...)
	require.NoError(t, err)
	if w.prepare != nil {
		w.prepare(p)
	}
	return p
}

// serveWay runs the proxy of a way until the test ends, and returns its address.
func serveWay(t *testing.T, p *proxy.Proxy) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ran)
	})
	select {
	case <-p.Ready():
	case err := <-ran:
		ran <- err
		require.NoError(t, err, "the proxy did not start")
	}
	return p.Addrs()[0].String()
}

// logger writes nowhere, at the way's level.
func (w way) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: w.level}))
}

// notOnKitex are the claims that frame mode on Kitex's own transport cannot
// keep. The README lists them under Limits.
var notOnKitex = handlertest.Options{Skip: map[string]string{
	"Encoding/ResponseAcceptEncoding":     "Kitex's client transport does not hand over a backend's grpc-accept-encoding",
	"Metadata/UserAgent":                  "Kitex's client transport sends a user-agent of its own, always",
	"Metadata/NothingExtraInPlainRequest": "Kitex's client transport sends a user-agent even if the client has none",
	"Status/DetailsBytes":                 "Kitex decodes grpc-status-details-bin and encodes it again, in its own order",
	"Status/DetailsMismatch":              "Kitex takes code and message from grpc-status-details-bin where there is one",
	"Status/DetailsOpaque":                "Kitex fails a call whose grpc-status-details-bin is not a google.rpc.Status",
}}

// TestConformance is what clients and backends of grpc-go see. Proxies on our own transport
// have nothing in common, so that those ways are tested side by side: the suites wait for
// most of their time. Servers of Kitex's that begin and end in one process break each
// other's connections.
func TestConformance(t *testing.T) {
	quietKitex()
	interop := handlertest.NewInterop(t)
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			if way.transport == conf.TransportNative {
				t.Parallel()
			}
			t.Run("grpc-go", func(t *testing.T) { handlertest.Suite(t, way.target, way.opts) })
			if !way.brief {
				t.Run("Interop", func(t *testing.T) { interop.Suite(t, way.target, handlertest.Options{}) })
			}
		})
	}
}

// TestKitexConformance is what clients and backends of Kitex see.
func TestKitexConformance(t *testing.T) {
	quietKitex()
	for name, way := range ways {
		if way.brief {
			continue
		}
		t.Run(name, func(t *testing.T) { handlertest.SuiteKitex(t, way.target, handlertest.Options{}) })
	}
}
