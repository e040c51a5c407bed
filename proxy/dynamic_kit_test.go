package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

// The tests of dynamic mode put a proxy with rules between a client of grpc-go
// and witnesses: backends that tell what has got to them. Their service is that
// of idl/echo.proto.

const echoPrefix = "/kitexproxy.echo.v1.Echo/"

// seen is what a backend got of a call.
type seen struct {
	method    string
	authority string
	metadata  metadata.MD
	messages  [][]byte
}

// texts are the messages' texts.
func (s *seen) texts(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, b := range s.messages {
		all = append(all, requestOf(t, b).Message)
	}
	return all
}

// witness is a backend that sends messages back as they come: of Expand as often
// as they say, and of Collect the last one. It fails calls that ask for it.
type witness struct {
	name, addr string
	calls      chan *seen // each call once it has ended
}

// startWitness runs a witness until the test ends.
func startWitness(t testing.TB, name string, register ...func(*grpc.Server)) *witness {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &witness{name: name, addr: ln.Addr().String(), calls: make(chan *seen, 10_000)}
	t.Cleanup(w.serve(ln, register...))
	return w
}

// serve serves on ln until the function that it returns is called.
func (w *witness) serve(ln net.Listener, register ...func(*grpc.Server)) (stop func()) {
	s := grpc.NewServer(grpc.ForceServerCodec(eitherCodec{}), grpc.UnknownServiceHandler(w.carry), grpc.WaitForHandlers(true))
	for _, r := range register {
		r(s)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with stop
	return func() {
		s.Stop()
		<-served
	}
}

func (w *witness) carry(_ any, ss grpc.ServerStream) error {
	call := &seen{}
	call.method, _ = grpc.MethodFromServerStream(ss)
	call.metadata, _ = metadata.FromIncomingContext(ss.Context())
	if a := call.metadata.Get(":authority"); len(a) > 0 {
		call.authority = a[0]
	}
	if strings.HasPrefix(call.method, "/grpc.reflection.") {
		return status.Error(codes.Unimplemented, "unknown service")
	}
	defer func() { w.calls <- call }()
	if err := ss.SendHeader(metadata.Pairs("backend", w.name, "internal", "one", "internal", "two")); err != nil {
		return err
	}
	ss.SetTrailer(metadata.Pairs("backend-trailer", w.name, "internal-trailer", "hidden"))
	var last []byte
	for {
		var m []byte
		err := ss.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = m
		call.messages = append(call.messages, m)
		request := new(echo.EchoRequest)
		_ = request.Unmarshal(m) // not every test sends these
		replies := 1
		switch call.method {
		case echoPrefix + "Collect":
			replies = 0
		case echoPrefix + "Expand":
			replies = int(request.Count)
		}
		for range replies {
			if err := ss.SendMsg(&m); err != nil {
				return err
			}
		}
		if request.FailWith != 0 && strings.HasPrefix(call.method, echoPrefix) {
			return status.Error(codes.Code(request.FailWith), request.Message)
		}
	}
	if call.method == echoPrefix+"Collect" {
		return ss.SendMsg(&last)
	}
	return nil
}

// next returns what the backend got of the call that has ended next.
func (w *witness) next(t testing.TB) *seen {
	t.Helper()
	select {
	case call := <-w.calls:
		return call
	case <-t.Context().Done():
	case <-safeDone(t):
	}
	require.Fail(t, "no call has got to backend "+w.name)
	return nil
}

// unasked checks that no call has got to the backend. It is for calls that have
// been answered, and were not sent on before.
func (w *witness) unasked(t testing.TB) {
	t.Helper()
	select {
	case call := <-w.calls:
		require.Fail(t, "a call has got to backend "+w.name, "%+v", call)
	default:
	}
}

// safeDone is a channel that keeps a failing test from hanging.
func safeDone(t testing.TB) <-chan struct{} {
	ctx, cancel := context.WithTimeout(context.Background(), faultSafety)
	t.Cleanup(cancel)
	return ctx.Done()
}

// eitherCodec is bytesCodec for *[]byte, and protobuf for a backend's own services.
type eitherCodec struct{ bytesCodec }

func (c eitherCodec) Marshal(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return proto.Marshal(m)
	}
	return c.bytesCodec.Marshal(v)
}

func (c eitherCodec) Unmarshal(data []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return proto.Unmarshal(data, m)
	}
	return c.bytesCodec.Unmarshal(data, v)
}

// dynamicSetup is a proxy with two witnesses behind it.
type dynamicSetup struct {
	*faultProxy
	main, other *witness
	log         *logBuffer
}

// startDynamic runs a proxy for these routes, in YAML. The clusters main and
// other are the witnesses, and the schema echo is idl/echo.proto.
func startDynamic(t testing.TB, routes string) *dynamicSetup {
	t.Helper()
	d := &dynamicSetup{main: startWitness(t, "main"), other: startWitness(t, "other"), log: new(logBuffer)}
	cfg := dynamicConfig(t, d.main.addr, d.other.addr, "schemas:\n  echo: {files: [../idl/echo.proto]}\n"+routes)
	d.faultProxy = startFaultProxy(t, cfg, proxy.WithLogger(d.log.logger()))
	return d
}

// startRules runs a proxy with rules for the echo service.
func startRules(t testing.TB, rules string) *dynamicSetup {
	t.Helper()
	return startDynamic(t, echoRoute(rules))
}

// dynamicConfig is a configuration with the clusters main and other.
func dynamicConfig(t testing.TB, main, other, rest string) *conf.Config {
	t.Helper()
	cfg, err := conf.Parse("proxy.yaml", []byte(dynamicYAML(main, other, rest)))
	require.NoError(t, err)
	if onKitex() {
		cfg.Transport = conf.TransportKitex
	}
	return cfg
}

func dynamicYAML(main, other, rest string) string {
	return fmt.Sprintf("listeners: [{address: '127.0.0.1:0'}]\nclusters:\n  main: {instances: ['%s']}\n  other: {instances: ['%s']}\n%s", main, other, rest)
}

// echoRoute is a route with rules, or without, for the echo service.
func echoRoute(rules string) string {
	return "routes:\n" + proxytest.Route("service: kitexproxy.echo.v1.Echo", "echo", rules)
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// say is a request with a text.
func say(text string) *echo.EchoRequest { return &echo.EchoRequest{Message: text} }

// outcome is what a client got of a call.
type outcome struct {
	callResult
	header, trailer metadata.MD
	messages        [][]byte
}

// texts are the messages' texts.
func (o *outcome) texts(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, b := range o.messages {
		reply := new(echo.EchoReply)
		require.NoError(t, reply.Unmarshal(b))
		all = append(all, reply.Message)
	}
	return all
}

// invoke makes a call to a method of the echo service that sends all requests at
// once. pairs are metadata.
func (d *dynamicSetup) invoke(t testing.TB, method string, pairs []string, requests ...*echo.EchoRequest) *outcome {
	t.Helper()
	var raw [][]byte
	for _, r := range requests {
		raw = append(raw, encoded(t, r))
	}
	return d.invokeRaw(t, echoPrefix+method, pairs, raw)
}

// invokeRaw is invoke for any method and bytes.
func (d *dynamicSetup) invokeRaw(t testing.TB, method string, pairs []string, requests [][]byte, opts ...grpc.CallOption) *outcome {
	t.Helper()
	s := d.open(t, method, pairs, opts...)
	for _, m := range requests {
		if s.SendMsg(&m) != nil {
			break // the call has ended; its status says why
		}
	}
	require.NoError(t, s.CloseSend())
	return finish(s)
}

// open opens a stream of either kind.
func (d *dynamicSetup) open(t testing.TB, method string, pairs []string, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(d.safe(), pairs...)
	s, err := d.client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, opts...)
	require.NoError(t, err)
	return s
}

// finish reads a stream to its end.
func finish(s grpc.ClientStream) *outcome {
	o := &outcome{}
	for {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			o.trailer = s.Trailer()
			o.callResult = resultOf(err, o.trailer)
			o.header, _ = s.Header()
			return o
		}
		o.messages = append(o.messages, m)
	}
}

func encoded(t testing.TB, r *echo.EchoRequest) []byte {
	t.Helper()
	b, err := r.Marshal(nil)
	require.NoError(t, err)
	return b
}

func requestOf(t testing.TB, b []byte) *echo.EchoRequest {
	t.Helper()
	r := new(echo.EchoRequest)
	require.NoError(t, r.Unmarshal(b))
	return r
}

// healthy makes a healthy call, and returns when it has been answered.
func (d *dynamicSetup) healthy(t testing.TB) {
	t.Helper()
	requireOK(t, d.call(d.safe(), faultHealthyMethod, []byte("well")), []byte("well"))
}
