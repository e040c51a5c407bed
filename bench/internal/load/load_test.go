package load

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kitexproxy/kitexproxy/bench/internal/backend"
	"github.com/kitexproxy/kitexproxy/bench/internal/origin"
	"github.com/kitexproxy/kitexproxy/bench/internal/scenario"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
)

func serve(t *testing.T, s *grpc.Server) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(lis) // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

func run(t *testing.T, addr string, s scenario.Scenario) Result {
	t.Helper()
	res, err := Run(t.Context(), Config{Scenario: s, Addr: addr, Warmup: 20 * time.Millisecond, Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// small versions of the scenarios: the smoke test in bench/ runs the real ones
var small = []scenario.Scenario{
	{Name: "unary", Kind: scenario.Unary, Callers: 8, Conns: 2, Size: 1024},
	{Name: "ping-pong", Kind: scenario.PingPong, Callers: 8, Conns: 2, Size: 1024},
	{Name: "server stream", Kind: scenario.ServerStream, Callers: 8, Conns: 2, Size: 1024, Messages: 20},
	{Name: "idle", Kind: scenario.Idle, Callers: 50, Conns: 2, Size: 1024},
}

func TestGoodBackendHasNoErrors(t *testing.T) {
	addr := serve(t, backend.New())
	for _, s := range small {
		t.Run(s.Name, func(t *testing.T) {
			res := run(t, addr, s)
			if res.Errors != 0 || res.Ops == 0 || res.Seconds <= 0 {
				t.Errorf("got %+v", res)
			}
			if timed := s.Kind != scenario.Idle; (res.P50Micros > 0) != timed || res.P99Micros < res.P50Micros {
				t.Errorf("latencies: %+v", res)
			}
		})
	}
}

// TestHTTPBackend: good replies count, and wrong ones are errors.
func TestHTTPBackend(t *testing.T) {
	for _, s := range []scenario.Scenario{
		{Name: "post", Kind: scenario.Post, Callers: 8, Size: 1024},
		{Name: "get", Kind: scenario.Get, Callers: 8, Size: 1024},
		{Name: "order", Kind: scenario.Order, Callers: 8},
	} {
		t.Run(s.Name, func(t *testing.T) {
			good := httptest.NewServer(origin.Handler())
			defer good.Close()
			if res := run(t, good.Listener.Addr().String(), s); res.Errors != 0 || res.Ops == 0 || res.P50Micros <= 0 {
				t.Errorf("got %+v", res)
			}
			for name, lie := range map[string]http.HandlerFunc{
				"empty":  func(http.ResponseWriter, *http.Request) {},
				"cut":    func(w http.ResponseWriter, r *http.Request) { _, _ = io.CopyN(w, r.Body, 100) },
				"failed": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no backend", http.StatusBadGateway) },
			} {
				bad := httptest.NewServer(lie)
				if res := run(t, bad.Listener.Addr().String(), s); res.Errors == 0 || res.Ops != 0 {
					t.Errorf("%s: got %+v", name, res)
				}
				bad.Close()
			}
		})
	}
}

// liar answers every call on any method with what lie makes of it.
func liar(lie func(grpc.ServerStream, *wire.Message) error) *grpc.Server {
	return grpc.NewServer(
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			var m wire.Message
			if err := ss.RecvMsg(&m); err != nil {
				return err
			}
			return lie(ss, &m)
		}))
}

func TestWrongRepliesAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(grpc.ServerStream, *wire.Message) error
		want string
	}{
		"an old reply": {func(ss grpc.ServerStream, _ *wire.Message) error {
			return ss.SendMsg(wire.NewPayload(1024).Stamp(1 << 60))
		}, "stamp"},
		"a short reply": {func(ss grpc.ServerStream, _ *wire.Message) error {
			return ss.SendMsg(wire.NewPayload(64).Stamp(1))
		}, "64 bytes"},
		"a failed call": {func(grpc.ServerStream, *wire.Message) error {
			return status.Error(codes.Unavailable, "no backend")
		}, "no backend"},
		"no reply, and yet OK": {func(grpc.ServerStream, *wire.Message) error { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, liar(c.lie))
			for _, s := range small {
				res := run(t, addr, s)
				if res.Errors == 0 || !strings.Contains(strings.Join(res.ErrorSamples, "\n"), c.want) {
					t.Errorf("%s: want an error with %q, got %+v", s.Name, c.want, res)
				}
			}
		})
	}
}

func TestStreamThatEndsEarlyIsAnError(t *testing.T) {
	addr := serve(t, liar(func(ss grpc.ServerStream, _ *wire.Message) error {
		return ss.SendMsg(wire.NewPayload(1024).Stamp(0)) // one of twenty
	}))
	res := run(t, addr, small[2])
	if res.Errors == 0 || !strings.Contains(res.ErrorSamples[0], "message 1 of 20") {
		t.Errorf("got %+v", res)
	}
}

func TestNobodyListensIsCountedNotFatal(t *testing.T) {
	if res := run(t, loopback.Free(t), small[0]); res.Errors == 0 || res.Ops != 0 {
		t.Errorf("got %+v", res)
	}
}

func TestEndedContextEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Config{Scenario: small[0], Addr: serve(t, backend.New()), Duration: time.Minute})
	if err == nil {
		t.Error("no error")
	}
}

func TestMissingProxyIsAnError(t *testing.T) {
	_, err := Run(t.Context(), Config{Scenario: small[0], Addr: "127.0.0.1:1", Proxy: 5_000_000})
	if err == nil || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("got %v", err)
	}
}
