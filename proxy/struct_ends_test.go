package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	kstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// structKitexBackend runs the echo service on Kitex until the test ends.
func structKitexBackend(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit, ran := make(chan error), make(chan error, 1)
	svr := echosvc.NewServer(
		&structKitexEcho{}, server.WithListener(ln), server.WithExitWaitTime(time.Millisecond),
		server.WithExitSignal(func() <-chan error { return exit }),
	)
	go func() { ran <- svr.Run() }() // ends with exit
	t.Cleanup(func() {
		close(exit)
		<-ran
	})
	return ln.Addr().String()
}

// TestStructKitexEnds: a client and a backend on Kitex, whose types the filters
// are for.
func TestStructKitexEnds(t *testing.T) {
	quietKitex()
	backend := structKitexBackend(t)
	var filters []*filter.Filter
	for _, k := range structKinds {
		m := k.method()
		filters = append(
			filters,
			m.OnRequest(func(_ context.Context, _ *filter.Call, r *echo.EchoRequest) filter.Verdict {
				switch r.Message {
				case "drop":
					return filter.Drop
				case "reject":
					return filter.Reject(codes.Aborted, "not this")
				}
				r.Message += "?"
				return filter.Changed
			}),
			m.OnResponse(structSigh),
		)
	}
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(t, d, func(cfg *conf.Config) { cfg.Clusters["default"].Instances = []string{backend} }, filters...)
			c, err := echosvc.NewClient("kitexproxy.echo.v1.Echo", client.WithHostPorts(s.addr))
			require.NoError(t, err)
			t.Cleanup(func() { runtime.KeepAlive(c) })
			rejected := func(err error) {
				t.Helper()
				st, _ := kstatus.FromError(err)
				require.Equal(t, int(codes.Aborted), int(st.Code()), "%v", err)
				require.Equal(t, "not this", st.Message())
			}

			reply, err := c.Unary(s.safe(), &echo.EchoRequest{Message: "a"})
			require.NoError(t, err)
			require.Equal(t, "a?...", reply.Message)
			_, err = c.Unary(s.safe(), &echo.EchoRequest{Message: "reject"})
			rejected(err)

			collect, err := c.Collect(s.safe())
			require.NoError(t, err)
			for _, text := range []string{"a", "drop", "b"} {
				require.NoError(t, collect.Send(&echo.EchoRequest{Message: text}))
			}
			reply, err = collect.CloseAndRecv()
			require.NoError(t, err)
			require.Equal(t, "a?b?...", reply.Message)

			expand, err := c.Expand(s.safe(), &echo.EchoRequest{Message: "a"})
			require.NoError(t, err)
			for i := range 3 {
				reply, err = expand.Recv()
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("a?", i+1, "..."), reply.Message)
			}
			_, err = expand.Recv()
			require.ErrorIs(t, err, io.EOF)

			talk, err := c.Chat(s.safe())
			require.NoError(t, err)
			for _, text := range []string{"drop", "a"} {
				require.NoError(t, talk.Send(&echo.EchoRequest{Message: text}))
			}
			reply, err = talk.Recv()
			require.NoError(t, err)
			require.Equal(t, "a?...", reply.Message)
			require.NoError(t, talk.Send(&echo.EchoRequest{Message: "reject"}))
			_, err = talk.Recv()
			rejected(err)
		})
	}
}

// gzipped is a message compressed with gzip, with its prefix.
func gzipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(structText(text))
	_ = w.Close()
	return rawh2.Frame(1, b.Bytes())
}

// TestStructCompressedMessages are decompressed for filters, and what those change
// is compressed as it came, in both directions.
func TestStructCompressedMessages(t *testing.T) {
	ungzip := func(t *testing.T, frame []byte) string {
		require.Equal(t, byte(1), frame[0])
		r, err := gzip.NewReader(bytes.NewReader(frame[5:]))
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		return structRead(t, b)
	}
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			arrived := make(chan []byte, 1)
			backend := startRaw(t, rawh2.Options{}, func(s *rawh2.Stream) {
				body, err := s.AwaitEndStream(s.Context())
				if err != nil {
					return
				}
				arrived <- body
				_ = s.Headers(append(rawh2.ResponseFields(), rawh2.F("grpc-encoding", "gzip")), false)
				_ = s.Data(gzipped("reply"), false)
				_ = s.Trailers(rawh2.F("grpc-status", "0"))
			})
			s := startStructAt(t, d, to(backend), structUnary.OnRequest(structShout), structUnary.OnResponse(structSigh))
			client, err := rawh2.Dial(s.safe(), s.addr, rawh2.Options{})
			require.NoError(t, err)
			t.Cleanup(client.Close)
			call, err := client.NewStream(append(rawh2.RequestFields(structKinds[0].full(), s.addr), rawh2.F("grpc-encoding", "gzip")), false)
			require.NoError(t, err)
			require.NoError(t, call.Data(gzipped("request"), true))
			reply, err := call.AwaitReply(s.safe())
			require.NoError(t, err)
			require.Equal(t, "0", reply.Trailer.Get("grpc-status"), reply.Trailer.Get("grpc-message"))
			require.Equal(t, "request!", ungzip(t, <-arrived))
			require.Equal(t, "reply...", ungzip(t, reply.Body))
		})
	}
}

// TestStructNothingLeaks: calls that end in all the ways in which filters and both
// ends can have them leave nothing behind.
func TestStructNothingLeaks(t *testing.T) {
	for door, d := range structDoors {
		t.Run(door, func(t *testing.T) {
			s := startStructAt(t, d, nil, structDeciders()...)
			s.structMix(t, 100) // opens what is kept
			s.settles()
			before := settledGoroutines()
			s.structMix(t, 400)
			s.settles()
			require.Eventually(t, func() bool { return settledGoroutines() <= before+20 }, faultSafety, 50*time.Millisecond,
				"goroutines before: %d; now:\n%s", before, lazyStacks{})
		})
	}
}

// structMix makes n calls of all kinds, ten at a time, with any decision in any
// direction, some of which are cancelled.
func (s *structProxy) structMix(t *testing.T, n int) {
	t.Helper()
	var all sync.WaitGroup
	for worker := range 10 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range n / 10 {
				kind := structKinds[random.IntN(4)]
				direction := structDirections[random.IntN(2)]
				ctx, cancel := context.WithCancel(s.safe("direction", direction.String()))
				call, err := s.client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, kind.full())
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				for range random.IntN(4) {
					b := structText("do:" + structDecisions[random.IntN(len(structDecisions))])
					if random.IntN(8) == 0 {
						b = []byte("\xff")
					}
					if call.SendMsg(&b) != nil {
						break
					}
					if random.IntN(4) == 0 {
						cancel()
					}
				}
				_ = call.CloseSend()
				for {
					var b []byte
					if err := call.RecvMsg(&b); err != nil {
						if errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%s hangs", kind.name)
						}
						break
					}
				}
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Errorf("%s hung", kind.name)
				}
				cancel()
			}
		})
	}
	all.Wait()
}
