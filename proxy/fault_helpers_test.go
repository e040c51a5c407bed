package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// The fault tests put a whole proxy between parties that misbehave. Each ends
// with a healthy call through the same proxy, and with nothing left open.

// faultSafety ends what would otherwise hang; no test passes by waiting for it.
const faultSafety = 60 * time.Second

// Methods of the fault tests. Those of faultHealthyService go to a backend
// that is always well; the others to the cluster "default".
const (
	faultMethod        = "/fault.Test/Call"
	faultHealthyMethod = "/fault.Healthy/Call"
)

// onKitex reports whether the fault tests are to show Kitex's transport instead
// of the default one: with KITEXPROXY_TEST_TRANSPORT=kitex, as CI also runs them.
func onKitex() bool { return os.Getenv("KITEXPROXY_TEST_TRANSPORT") == conf.TransportKitex }

// faultConfig routes to a cluster "default" of these instances.
func faultConfig(instances ...string) *conf.Config {
	cfg := conf.Default()
	cfg.Listeners = []conf.Listener{{Address: "127.0.0.1:0"}}
	if onKitex() {
		cfg.Transport = conf.TransportKitex
	}
	cfg.Clusters = map[string]*conf.Cluster{"default": {Instances: instances, Connections: 4}}
	cfg.Default = &conf.Action{Cluster: "default", Mode: conf.ModeFrame}
	return cfg
}

// faultProxy is a running proxy and a client of it.
type faultProxy struct {
	t      testing.TB
	p      *proxy.Proxy
	addr   string
	client *grpc.ClientConn
	cancel context.CancelFunc
	ran    chan error // Run's result

	standing int // calls that the test keeps open throughout
}

// quietKitex silences what Kitex reports of each broken connection. Once,
// since connections of earlier tests may still be about to report.
var quietKitex = sync.OnceFunc(handlertest.QuietKitex)

// startFaultProxy runs a proxy with cfg, to which it adds the route to a
// healthy backend, until the test ends.
func startFaultProxy(t testing.TB, cfg *conf.Config, opts ...proxy.Option) *faultProxy {
	t.Helper()
	cfg.Clusters["healthy"] = &conf.Cluster{Instances: []string{startGRPCEcho(t).addr}, Connections: 1}
	cfg.Routes = append(cfg.Routes, conf.Route{
		Match:  conf.Match{Service: "fault.Healthy"},
		Action: conf.Action{Cluster: "healthy", Mode: conf.ModeFrame},
	})
	if os.Getenv("FAULT_LOG") == "" {
		quietKitex()
	}
	p, err := proxy.New(cfg, append([]proxy.Option{proxy.WithLogger(faultLogger())}, opts...)...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	f := &faultProxy{t: t, p: p, cancel: cancel, ran: make(chan error, 1)}
	go func() { f.ran <- p.Run(ctx) }() // ends with stop
	t.Cleanup(func() { assert.NoError(t, f.stop(), "Run") })
	select {
	case <-p.Ready():
	case err := <-f.ran:
		f.ran <- err
		t.Fatalf("proxy did not start: %v", err)
	case <-time.After(faultSafety):
		t.Fatal("proxy is not ready in time")
	}
	f.addr = p.Addrs()[0].String()
	f.client, err = grpc.NewClient("passthrough:///"+f.addr, faultDialOptions()...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.client.Close() })
	return f
}

// stop ends the proxy and returns what Run returned.
func (f *faultProxy) stop() error {
	f.cancel()
	select {
	case err := <-f.ran:
		f.ran <- err
		return err
	case <-time.After(faultSafety):
		return errors.New("run has not returned in time")
	}
}

func faultDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)),
	}
}

// faultLogger is silent unless FAULT_LOG is set.
func faultLogger() *slog.Logger {
	w := io.Discard
	if os.Getenv("FAULT_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// bytesCodec sends and receives *[]byte as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string                       { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }

// callResult is how a call through the proxy ended.
type callResult struct {
	code    codes.Code
	message string
	reason  string // of a local reply, "" for a backend's
	body    []byte
	took    time.Duration
	reset   *http2.ErrCode // how a raw stream was reset, nil if it was not
}

// call makes a unary call with the gRPC client. Without a deadline in ctx the
// proxy has to end it by itself.
func (f *faultProxy) call(ctx context.Context, method string, payload []byte) callResult {
	var reply []byte
	var trailer metadata.MD
	begin := time.Now()
	err := f.client.Invoke(ctx, method, &payload, &reply, grpc.Trailer(&trailer))
	r := resultOf(err, trailer)
	r.body, r.took = reply, time.Since(begin)
	return r
}

// resultOf reads the end of a call of the gRPC client.
func resultOf(err error, trailer metadata.MD) callResult {
	if errors.Is(err, io.EOF) {
		err = nil // how a stream says OK
	}
	r := callResult{code: status.Code(err), message: status.Convert(err).Message()}
	if v := trailer.Get(stream.ReasonKey); len(v) > 0 {
		r.reason = v[0]
	}
	return r
}

// safe is a context that keeps a failing test from hanging.
func (f *faultProxy) safe() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), faultSafety)
	f.t.Cleanup(cancel)
	return ctx
}

// dial connects a client that speaks frame by frame.
func (f *faultProxy) dial(opts rawh2.Options) *rawh2.Conn {
	f.t.Helper()
	c, err := rawh2.Dial(f.safe(), f.addr, opts)
	require.NoError(f.t, err)
	f.t.Cleanup(c.Close)
	return c
}

// open opens a stream that the client has not half-closed.
func (f *faultProxy) open(c *rawh2.Conn, method string) *rawh2.Stream {
	f.t.Helper()
	s, err := c.NewStream(rawh2.RequestFields(method, f.addr), false)
	require.NoError(f.t, err)
	return s
}

// rawCall makes a unary call on a raw connection.
func (f *faultProxy) rawCall(c *rawh2.Conn, method string, payload []byte) callResult {
	f.t.Helper()
	begin := time.Now()
	s := f.open(c, method)
	// The proxy may answer, and reset the stream, before it has read this.
	var reset *rawh2.ResetError
	if err := s.Data(rawh2.Frame(0, payload), true); !errors.As(err, &reset) {
		require.NoError(f.t, err)
	}
	r := f.result(s)
	r.took = time.Since(begin)
	return r
}

// result waits for a raw stream's end. A stream that is reset has no status,
// which is never right for a gRPC client, so it counts as code 99.
func (f *faultProxy) result(s *rawh2.Stream) callResult {
	f.t.Helper()
	reply, err := s.AwaitReply(f.safe())
	require.NoError(f.t, err)
	if reply.Reset != nil {
		return callResult{code: 99, message: reply.Reset.Error(), body: reply.Body, reset: &reply.Reset.Code}
	}
	code, err := strconv.ParseUint(reply.Trailer.Get("grpc-status"), 10, 32)
	if err != nil {
		return callResult{code: 99, message: "no grpc-status: " + reply.Trailer.String(), body: reply.Body}
	}
	return callResult{
		code: codes.Code(code), message: reply.Trailer.Get("grpc-message"),
		reason: reply.Trailer.Get(stream.ReasonKey), body: reply.Body,
	}
}

// requireFailure checks a local reply: its code, its reason and what its
// message names.
func requireFailure(t testing.TB, r callResult, code codes.Code, reason stream.Reason, names ...string) {
	t.Helper()
	require.Equal(t, code, r.code, "code; message %q, reason %q", r.message, r.reason)
	require.Equal(t, string(reason), r.reason, "reason; message %q", r.message)
	for _, name := range names {
		require.Contains(t, r.message, name)
	}
}

// requireOK checks that a call was answered with body.
func requireOK(t testing.TB, r callResult, body []byte) {
	t.Helper()
	require.Equal(t, codes.OK, r.code, "message %q, reason %q", r.message, r.reason)
	require.Equal(t, string(body), string(r.body))
}

// lives checks that the proxy still answers, and that nothing of the calls
// made before is left.
func (f *faultProxy) lives() {
	f.t.Helper()
	requireOK(f.t, f.call(f.safe(), faultHealthyMethod, []byte("well")), []byte("well"))
	f.settles()
}

// settles waits until no call is open on either side of the proxy but those
// that the test keeps open.
func (f *faultProxy) settles() {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		s := f.p.Stats()
		return int(s.ActiveCalls) == f.standing && int(s.BackendStreams) == f.standing
	}, faultSafety, 5*time.Millisecond, "calls are left: %+v", f.p.Stats())
}

// grpcEcho is a grpc-go server that sends each message back.
type grpcEcho struct {
	addr   string
	server *grpc.Server
}

func startGRPCEcho(t testing.TB) *grpcEcho {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			for {
				var m []byte
				if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := ss.SendMsg(&m); err != nil {
					return err
				}
			}
		}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }() // ends with Stop
	t.Cleanup(func() { s.Stop(); <-served })
	return &grpcEcho{addr: lis.Addr().String(), server: s}
}

// startRaw runs a raw backend until the test ends.
func startRaw(t testing.TB, opts rawh2.Options, script func(*rawh2.Stream)) *rawh2.Server {
	t.Helper()
	s, err := rawh2.Listen("", opts, script)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// echoRaw answers a stream with its request's bytes.
func echoRaw(s *rawh2.Stream) {
	body, err := s.AwaitEndStream(s.Context())
	if err != nil {
		return
	}
	_ = s.Headers(rawh2.ResponseFields(), false)
	_ = s.Data(body, false)
	_ = s.Trailers(rawh2.F("grpc-status", "0"))
}

// echoEachRaw answers each message of a stream as it comes.
func echoEachRaw(s *rawh2.Stream) {
	_ = s.Headers(rawh2.ResponseFields(), false)
	for {
		data, end, err := s.NextData(s.Context())
		if err != nil || s.Data(data, false) != nil {
			return
		}
		if end {
			_ = s.Trailers(rawh2.F("grpc-status", "0"))
			return
		}
	}
}

// reservedHeap is how much memory the process has reserved for its heap. It
// never shrinks, so that what was reserved for a moment only shows too.
func reservedHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys
}

// requireHeapGrowth checks that less than 64 MiB were reserved since before.
func requireHeapGrowth(t testing.TB, before uint64) {
	t.Helper()
	growth := int64(reservedHeap()) - int64(before)
	require.Less(t, growth, int64(64<<20), "bytes of heap reserved")
}
