package proxy_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// Calls have a line each at debug level, which may begin and end while the proxy runs,
// and none otherwise.
func TestCallsAreLoggedAtDebugLevel(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var log logBuffer
		var level slog.LevelVar
		n := &noting{ended: make(chan struct{}, 10)} // who is told behind the log
		f, backend := startAround(t, transport, proxy.WithObservers(n),
			proxy.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: &level}))))
		call := func(method string) {
			t.Helper()
			f.call(f.safe(), method, []byte("x"))
			<-n.ended
		}
		call(faultMethod)
		level.Set(slog.LevelDebug)
		call(faultMethod)
		call("/no.Service/Here")
		level.Set(slog.LevelInfo)
		call(faultMethod)
		require.NoError(t, f.stop())

		var lines []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "msg=call ") {
				lines = append(lines, line)
			}
		}
		require.Len(t, lines, 2, log.String())
		for _, part := range []string{
			"level=DEBUG", "method=" + faultMethod, "peer=127.0.0.1:", "route=default", "cluster=default", "instance=" + backend.addr, "attempts=1", "code=OK", "took=",
		} {
			require.Contains(t, lines[0], part)
		}
		require.Contains(t, lines[1], "method=/no.Service/Here")
	})
}

// conns is an observer of connections, and of whose the calls are.
type conns struct {
	mu    sync.Mutex
	open  map[*intercept.Conn]int // how often each has been told of
	calls map[string]*intercept.Conn
}

func (o *conns) Begin(c *intercept.Call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[c.Incoming().Get("who")] = c.Conn()
}

func (*conns) End(*intercept.Call) { /* nothing to note */ }

func (o *conns) BeginConn(c *intercept.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[c] += 2
}

func (o *conns) EndConn(c *intercept.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[c]--
}

// Observers of connections that panic do not end them, nor the process.
func TestConnectionsSurviveObservers(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var log logBuffer
		f, _ := startAround(t, transport, proxy.WithObservers(panickingConns{}), proxy.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		f.call(f.safe(), faultMethod, []byte("x"))
		require.NoError(t, f.stop())
		require.Contains(t, log.String(), "begin of trouble")
		require.Contains(t, log.String(), "end of trouble")
	})
}

// panickingConns is an observer that does not cope with connections.
type panickingConns struct{}

func (panickingConns) Begin(*intercept.Call)     { /* nothing to note */ }
func (panickingConns) End(*intercept.Call)       { /* nothing to note */ }
func (panickingConns) BeginConn(*intercept.Conn) { panic("begin of trouble") }
func (panickingConns) EndConn(*intercept.Conn)   { panic("end of trouble") }

// Connections begin and end once, whatever the log level does meanwhile, and calls are
// their own connection's, also if addresses do not tell them apart.
func TestConnectionsAreTold(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		o := &conns{open: make(map[*intercept.Conn]int), calls: make(map[string]*intercept.Conn)}
		var level slog.LevelVar
		backend, socket := startRouteBackend(t, echoes), t.TempDir()+"/s.sock"
		cfg := faultConfig(backend.addr)
		cfg.Transport = transport
		cfg.Listeners = append(cfg.Listeners, conf.Listener{Address: "unix://" + socket})
		f := startFaultProxy(t, cfg, proxy.WithObservers(o),
			proxy.WithLogger(slog.New(slog.NewTextHandler(&logBuffer{}, &slog.HandlerOptions{Level: &level}))))
		clients := map[string]*grpc.ClientConn{}
		for _, who := range []string{"one", "other"} {
			c, err := grpc.NewClient("unix:"+socket, faultDialOptions()...)
			require.NoError(t, err)
			defer c.Close()
			clients[who] = c
		}
		level.Set(slog.LevelDebug)
		for range 2 {
			for who, c := range clients {
				var reply []byte
				require.NoError(t, c.Invoke(metadata.AppendToOutgoingContext(f.safe(), "who", who), faultMethod, &[]byte{}, &reply))
			}
			o.mu.Lock()
			require.NotNil(t, o.calls["one"])
			require.NotSame(t, o.calls["one"], o.calls["other"])
			o.mu.Unlock()
		}
		level.Set(slog.LevelInfo)
		for _, c := range clients {
			require.NoError(t, c.Close())
		}
		require.NoError(t, f.stop())
		o.mu.Lock()
		defer o.mu.Unlock()
		require.GreaterOrEqual(t, len(o.open), 2)
		for c, n := range o.open {
			require.Equal(t, 1, n, "%v to %v", c.Remote, c.Local)
		}
	})
}

// A call that is refused for what its head says ends for links as well, who may count
// calls under way.
func TestCallsWithMalformedTimeoutsEnd(t *testing.T) {
	pass := proxy.WithInterceptors(func(ctx context.Context, _ *intercept.Call, next intercept.Next) error { return next(ctx) })
	for name, opts := range map[string][]proxy.Option{"guarded": nil, "intercepted": {pass}} {
		t.Run(name, func(t *testing.T) {
			n := &noting{ended: make(chan struct{}, 10)}
			f, backend := startAround(t, conf.TransportNative, append(opts, proxy.WithObservers(n))...)
			c := f.dial(rawh2.Options{})
			s, err := c.NewStream(rawh2.RequestFields(faultMethod, f.addr, rawh2.F("grpc-timeout", "soon")), true)
			require.NoError(t, err)
			requireFailure(t, f.result(s), codes.Internal, stream.RequestMalformed, "soon")
			<-n.ended
			require.Zero(t, backend.calls())
			f.settles()
		})
	}
}
