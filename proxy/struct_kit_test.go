package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// The struct tests put a whole proxy with filters between a client of grpc-go and
// a backend of grpc-go, which speak the echo service.

// structKind is one of the four kinds of calls.
type structKind struct {
	name                         string
	clientStreams, serverStreams bool
}

var structKinds = []structKind{{"Unary", false, false}, {"Collect", true, false}, {"Expand", false, true}, {"Chat", true, true}}

func (k structKind) full() string { return "/kitexproxy.echo.v1.Echo/" + k.name }

// method is the kind's method, for filters.
func (k structKind) method() filter.Method[echo.EchoRequest, echo.EchoReply] {
	return filter.For[echo.EchoRequest, echo.EchoReply](k.full())
}

var (
	structUnary = structKinds[0].method()
	structChat  = structKinds[3].method()
)

// structDoor is a way for calls to get into a proxy, and out of it.
type structDoor struct {
	transport string
	relay     bool // a stock Kitex server, with a relay for what it does not know
}

// structDoors are asked the same.
var structDoors = map[string]structDoor{
	"native":        {transport: conf.TransportNative},
	"kitex":         {transport: conf.TransportKitex},
	"relay, native": {transport: conf.TransportNative, relay: true},
	"relay, kitex":  {transport: conf.TransportKitex, relay: true},
}

// structProxy is a running proxy, its backend, and a client.
type structProxy struct {
	t       testing.TB
	backend *structBackend
	other   *structBackend // the cluster "other"
	addr    string
	client  *grpc.ClientConn
	stats   func() proxy.Stats
	stop    func()
	ids     atomic.Int64
}

// structConfig is a configuration that sends the echo service to backend in mode
// struct, and everything else in mode frame.
func structConfig(backend, other string) *conf.Config {
	cfg := faultConfig(backend)
	cfg.Clusters["other"] = &conf.Cluster{Instances: []string{other}, Connections: 1}
	cfg.Routes = []conf.Route{{
		Match:  conf.Match{Service: "kitexproxy.echo.v1.Echo"},
		Action: conf.Action{Cluster: "default", Mode: conf.ModeStruct, Undecodable: conf.UndecodableReject},
	}}
	return cfg
}

// startStruct runs a proxy with these filters until the test ends.
func startStruct(t testing.TB, filters ...*filter.Filter) *structProxy {
	t.Helper()
	return startStructAt(t, structDoor{transport: faultConfig("").Transport}, nil, filters...)
}

// startStructAt is startStruct with the front door given, and what adapt makes of
// the configuration.
func startStructAt(t testing.TB, door structDoor, adapt func(*conf.Config), filters ...*filter.Filter) *structProxy {
	t.Helper()
	quietKitex()
	s := &structProxy{t: t, backend: startStructBackend(t), other: startStructBackend(t)}
	cfg := structConfig(s.backend.addr, s.other.addr)
	cfg.Transport = door.transport
	if adapt != nil {
		adapt(cfg)
	}
	opts := []proxy.Option{
		proxy.WithLogger(faultLogger()),
		proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())),
		proxy.WithFilters(filters...),
	}
	if door.relay {
		s.startRelay(cfg, opts)
	} else {
		s.startProxy(cfg, opts)
	}
	t.Cleanup(s.stop)
	var err error
	s.client, err = grpc.NewClient("passthrough:///"+s.addr, faultDialOptions()...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

func (s *structProxy) startProxy(cfg *conf.Config, opts []proxy.Option) {
	p, err := proxy.New(cfg, opts...)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }() // ends with stop
	s.stats = p.Stats
	s.stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(s.t, <-ran)
	})
	select {
	case <-p.Ready():
	case err := <-ran:
		ran <- err
		s.stop()
		require.FailNow(s.t, "the proxy did not start", err)
	}
	s.addr = p.Addrs()[0].String()
}

// startRelay runs a Kitex server that has no more than the relay's Unknown.
func (s *structProxy) startRelay(cfg *conf.Config, opts []proxy.Option) {
	relay, err := proxy.NewRelay(cfg, opts...)
	require.NoError(s.t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	exit, ran := make(chan error), make(chan error, 1)
	svr := server.NewServer(
		server.WithListener(ln),
		server.WithGRPCUnknownServiceHandler(relay.Unknown),
		server.WithExitSignal(func() <-chan error { return exit }),
		server.WithExitWaitTime(time.Millisecond),
	)
	info := echosvc.NewServiceInfo()
	info.ServiceName = "structtest.placeholder" // Kitex refuses to run without a service
	require.NoError(s.t, svr.RegisterService(info, &structKitexEcho{}))
	go func() { ran <- svr.Run() }() // ends with stop
	s.stats = relay.Stats
	s.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		relay.Shutdown(ctx)
		close(exit)
		<-ran // it complains of clients that are still there
	})
	s.addr = ln.Addr().String()
}

// safe is a context that keeps a failing test from hanging. pairs are metadata.
func (s *structProxy) safe(pairs ...string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), faultSafety)
	s.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// newID names a call, for backends to tell of it.
func (s *structProxy) newID() string { return strconv.FormatInt(s.ids.Add(1), 10) }

// settles waits until no call is open on either side of the proxy.
func (s *structProxy) settles() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		stats := s.stats()
		return stats.ActiveCalls == 0 && stats.BackendStreams == 0
	}, faultSafety, time.Millisecond, "calls are left")
}

// structCall is a call under way.
type structCall struct {
	t testing.TB
	grpc.ClientStream
}

// open begins a call.
func (s *structProxy) open(ctx context.Context, kind structKind) structCall {
	s.t.Helper()
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true} // to see what really comes
	call, err := s.client.NewStream(ctx, desc, kind.full(), grpc.MaxCallRecvMsgSize(64<<20))
	require.NoError(s.t, err)
	return structCall{s.t, call}
}

// say sends messages.
func (c structCall) say(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		b := structText(text)
		if err := c.SendMsg(&b); !errors.Is(err, io.EOF) { // the end says why
			require.NoError(c.t, err)
		}
	}
}

// hear receives a message.
func (c structCall) hear() string {
	c.t.Helper()
	var b []byte
	require.NoError(c.t, c.RecvMsg(&b))
	return structRead(c.t, b)
}

// structEnd is how a call ended, and what came before that.
type structEnd struct {
	texts           []string
	code            codes.Code
	message         string
	reason          stream.Reason // of a local reply, "" for a backend's
	status          *status.Status
	header, trailer metadata.MD
}

// end half-closes the call and receives the rest.
func (c structCall) end() *structEnd {
	c.t.Helper()
	require.NoError(c.t, c.CloseSend())
	return c.rest()
}

// rest receives what is left of the call.
func (c structCall) rest() *structEnd {
	c.t.Helper()
	e := &structEnd{texts: []string{}}
	for {
		var b []byte
		err := c.RecvMsg(&b)
		if err == nil {
			e.texts = append(e.texts, structRead(c.t, b))
			continue
		}
		e.header, _ = c.Header()
		e.trailer = c.Trailer()
		if !errors.Is(err, io.EOF) {
			e.status = status.Convert(err)
			e.code, e.message = e.status.Code(), e.status.Message()
		}
		if v := e.trailer.Get(stream.ReasonKey); len(v) > 0 {
			e.reason = stream.Reason(v[0])
		}
		return e
	}
}

// exchange makes a call that sends these messages.
func (s *structProxy) exchange(ctx context.Context, kind structKind, texts ...string) *structEnd {
	s.t.Helper()
	call := s.open(ctx, kind)
	call.say(texts...)
	return call.end()
}

// structText is the encoding of a request or a reply with a text.
func structText(text string) []byte {
	b, err := (&echo.EchoRequest{Message: text}).Marshal(nil)
	if err != nil {
		panic(err)
	}
	return b
}

func structRead(t testing.TB, b []byte) string {
	t.Helper()
	var m echo.EchoReply
	require.NoError(t, m.Unmarshal(b))
	return m.Message
}

// structBackend is the echo service: Collect joins the texts, and Expand repeats
// one three times, with a number.
type structBackend struct {
	addr  string
	ended chan error // what calls returned; full, it is not written to

	mu   sync.Mutex
	seen map[string]*structSeen // by the call's metadata "call-id"
	// script does something else with calls, nil for nothing else.
	script func(ss grpc.ServerStream) error
}

// structSeen is what got to a backend of a call.
type structSeen struct {
	calls int
	texts []string
	head  metadata.MD
}

func startStructBackend(t testing.TB) *structBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &structBackend{addr: ln.Addr().String(), ended: make(chan error, 1000), seen: make(map[string]*structSeen)}
	svr := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(b.serve), grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(64<<20))
	served := make(chan error, 1)
	go func() { served <- svr.Serve(ln) }() // ends with Stop
	t.Cleanup(func() {
		svr.Stop()
		<-served
	})
	return b
}

// does has calls from now on do something else.
func (b *structBackend) does(script func(ss grpc.ServerStream) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.script = script
}

// got returns what has come so far of a call.
func (b *structBackend) got(id string) structSeen {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] == nil {
		return structSeen{}
	}
	seen := *b.seen[id]
	seen.texts = slices.Clone(seen.texts)
	return seen
}

// of returns what is seen of the call of ss. It needs mu.
func (b *structBackend) of(ss grpc.ServerStream) *structSeen {
	md, _ := metadata.FromIncomingContext(ss.Context())
	id := strings.Join(md.Get("call-id"), "")
	if b.seen[id] == nil {
		b.seen[id] = &structSeen{head: md}
	}
	return b.seen[id]
}

func (b *structBackend) serve(_ any, ss grpc.ServerStream) error {
	b.mu.Lock()
	b.of(ss).calls++
	does := b.script
	b.mu.Unlock()
	if does == nil {
		does = b.echo
	}
	err := does(ss)
	select {
	case b.ended <- err:
	default:
	}
	return err
}

func (b *structBackend) echo(ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	joined := ""
	for {
		text, err := b.receive(ss)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		joined += text
		switch name {
		case structKinds[2].full():
			for i := range 3 {
				err = errors.Join(err, structSend(ss, fmt.Sprint(text, i+1)))
			}
		case structKinds[3].full():
			err = structSend(ss, text)
		}
		if err != nil {
			return err
		}
	}
	if name == structKinds[0].full() || name == structKinds[1].full() {
		return structSend(ss, joined)
	}
	return nil
}

// receive receives a message and notes its text.
func (b *structBackend) receive(ss grpc.ServerStream) (string, error) {
	var raw []byte
	if err := ss.RecvMsg(&raw); err != nil {
		return "", err
	}
	var m echo.EchoRequest
	if err := m.Unmarshal(raw); err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.of(ss)
	seen.texts = append(seen.texts, m.Message)
	return m.Message, nil
}

// expandAround sends the text that comes back, and one before and behind it.
func (b *structBackend) expandAround(ss grpc.ServerStream) error {
	text, err := b.receive(ss)
	if err != nil {
		return err
	}
	return errors.Join(structSend(ss, "a"), structSend(ss, text), structSend(ss, "b"))
}

func structSend(ss grpc.ServerStream, text string) error {
	b := structText(text)
	return ss.SendMsg(&b)
}

// structKitexEcho is the echo service on Kitex.
type structKitexEcho struct{}

func (*structKitexEcho) Unary(_ context.Context, r *echo.EchoRequest) (*echo.EchoReply, error) {
	return &echo.EchoReply{Message: r.Message}, nil
}

func (*structKitexEcho) Collect(s echo.Echo_CollectServer) error {
	all := ""
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&echo.EchoReply{Message: all})
		}
		if err != nil {
			return err
		}
		all += r.Message
	}
}

func (*structKitexEcho) Expand(r *echo.EchoRequest, s echo.Echo_ExpandServer) error {
	for i := range 3 {
		if err := s.Send(&echo.EchoReply{Message: fmt.Sprint(r.Message, i+1)}); err != nil {
			return err
		}
	}
	return nil
}

func (*structKitexEcho) Chat(s echo.Echo_ChatServer) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&echo.EchoReply{Message: r.Message}); err != nil {
			return err
		}
	}
}
