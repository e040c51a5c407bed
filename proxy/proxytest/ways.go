// Package proxytest has the ways that calls can take through a proxy: frame, struct and
// dynamic mode, either transport, with and without what may be around calls, by
// configuration or a director's word. It is for tests of what holds whatever the way.
package proxytest

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

// Way is a way for calls to take through a proxy.
type Way struct {
	Transport string
	// Brief says that the suite with the ends of grpc-go will do, as the way differs
	// little from another one.
	Brief bool
	// Options say what the suites cannot ask of it.
	Options handlertest.Options

	level   slog.Level
	filters []proxy.Option // for mode: struct, nil for mode: frame
	around  []proxy.Option // what is around calls, nil for nothing
	streams bool           // something in around needs blocking streams
}

// Ways are the ways in frame and struct mode.
var Ways = map[string]Way{
	"native":         {Transport: conf.TransportNative},
	"native, logged": {Transport: conf.TransportNative, level: slog.LevelDebug, Brief: true},
	// What is around calls, with nothing but guards and observers, and with
	// interceptors, whose calls take the streams of modes that look at messages.
	"native, guarded":     {Transport: conf.TransportNative, around: guarded, Brief: true},
	"native, intercepted": {Transport: conf.TransportNative, around: intercepted, streams: true, Brief: true},
	"struct, intercepted": {Transport: conf.TransportNative, around: intercepted, streams: true, filters: structOptions(filter.Forward), Brief: true},
	"kitex":               {Transport: conf.TransportKitex, Options: notOnKitex},
	"struct":              {Transport: conf.TransportNative, filters: structOptions(filter.Forward)},
	"struct, changed":     {Transport: conf.TransportNative, filters: structOptions(filter.Changed)},
	"struct, kitex":       {Transport: conf.TransportKitex, filters: structOptions(filter.Forward), Options: notOnKitex},
}

// guarded is around calls without a goroutine of theirs, and changes nothing.
var guarded = []proxy.Option{
	proxy.WithGuards(func(c *intercept.Call) error {
		c.OnMessage(func(filter.Direction) error { return nil })
		c.Header() // has the metadata written anew
		return nil
	}),
	proxy.WithObservers(Watchful{}),
}

// intercepted is around calls with two interceptors, and changes nothing.
var intercepted = append([]proxy.Option{proxy.WithInterceptors(
	func(ctx context.Context, _ *intercept.Call, next intercept.Next) error { return next(ctx) },
	func(ctx context.Context, _ *intercept.Call, next intercept.Next) error {
		type key struct{}
		return next(context.WithValue(ctx, key{}, "value"))
	},
)}, guarded...)

// Watchful is an observer that wants to know everything.
type Watchful struct{}

func (Watchful) Begin(*intercept.Call)                            { /* looks on */ }
func (Watchful) End(c *intercept.Call)                            { _ = c.Outcome() }
func (Watchful) BeginAttempt(*intercept.Call, *intercept.Attempt) { /* looks on */ }
func (Watchful) EndAttempt(*intercept.Call, *intercept.Attempt)   { /* looks on */ }
func (Watchful) ResponseHeader(*intercept.Call, stream.Metadata)  { /* looks on */ }
func (Watchful) Message(*intercept.Call, intercept.Message)       { /* looks on */ }
func (Watchful) BeginConn(c *intercept.Conn)                      { c.SetContext(context.WithoutCancel(c.Context())) }
func (Watchful) EndConn(*intercept.Conn)                          { /* looks on */ }

// OnStreams tells whether calls take the blocking streams of our own transport.
func (w Way) OnStreams() bool {
	return w.Transport == conf.TransportNative && (w.streams || w.filters != nil)
}

// HasFilters tells whether there are filters at each point of each method of the
// suites. What they are asked is counted in Asked.
func (w Way) HasFilters() bool { return w.filters != nil }

// Target puts a proxy of its own before each backend.
func (w Way) Target(t *testing.T, backend string) string {
	cfg, err := conf.Simple("127.0.0.1:0", backend)
	require.NoError(t, err)
	return serve(t, w.Proxy(t, cfg))
}

// Proxy returns a proxy that is this way from now on.
func (w Way) Proxy(t *testing.T, cfg *conf.Config) *proxy.Proxy {
	t.Helper()
	cfg.Transport = w.Transport
	if w.filters != nil {
		cfg.Default.Mode = conf.ModeStruct
		cfg.Default.Undecodable = conf.UndecodableForward // the suite sends messages in encodings that nobody knows
		cfg.Default.MessageLimit = math.MaxUint32
	}
	p, err := proxy.New(cfg, append(slices.Concat(w.filters, w.around), proxy.WithLogger(w.logger()))...)
	require.NoError(t, err)
	return p
}

// serve runs a proxy until the test ends, and returns its address.
func serve(t *testing.T, p *proxy.Proxy) string {
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
func (w Way) logger() *slog.Logger {
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
