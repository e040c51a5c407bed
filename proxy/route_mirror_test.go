package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
)

// mirroring sends copies of a share of the calls to an address.
func mirroring(address string, percent float64) func(*conf.Config) {
	return func(cfg *conf.Config) {
		cfg.Clusters["copies"] = &conf.Cluster{Instances: []string{address}, Connections: 1}
		cfg.Default.Mirror = &conf.Mirror{Cluster: "copies", Percent: percent}
	}
}

// copied is what a backend of copies has got of a call.
type copied struct {
	md   metadata.MD
	body string
	err  error // io.EOF after a half-close
}

// startRecording is a backend that tells what it gets, and answers with errors.
func startRecording(t *testing.T) (*routeBackend, <-chan copied) {
	got := make(chan copied, 100)
	return startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
		var c copied
		c.md, _ = metadata.FromIncomingContext(ss.Context())
		for c.err == nil {
			var m []byte
			if c.err = ss.RecvMsg(&m); c.err == nil {
				c.body += string(m) + ";"
			}
		}
		got <- c
		return errBusy
	}), got
}

func TestRouteMirrorGetsTheWholeCall(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		b := startRouteBackend(t, echoes)
		copies, got := startRecording(t)
		f := startRoute(t, transport, func(cfg *conf.Config) {
			mirroring(copies.addr, 100)(cfg)
			cfg.Default.RequestMetadata.Set = map[string]string{"by-route": "yes"}
		}, b)
		long := strings.Repeat("x", 100<<10)
		s, err := f.client.NewStream(metadata.AppendToOutgoingContext(f.safe(), "by-client", "yes"), bidi, faultMethod)
		require.NoError(t, err)
		sendOn(t, s, "one", "", long)
		require.NoError(t, s.CloseSend())
		all, err := receiveAll(s)
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "", long}, all)

		c := <-got
		assert.Equal(t, io.EOF, c.err)
		assert.Equal(t, "one;;"+long+";", c.body)
		assert.Equal(t, []string{"true"}, c.md.Get("x-kitexproxy-mirror"))
		assert.Equal(t, []string{"yes"}, c.md.Get("by-client"))
		assert.Equal(t, []string{"yes"}, c.md.Get("by-route"))
		assert.Empty(t, b.all()[0].Get("x-kitexproxy-mirror"), "the call itself is not marked")

		requireOK(t, f.call(f.safe(), faultMethod, []byte("unary")), []byte("unary"))
		assert.Equal(t, "unary;", (<-got).body)
		f.lives()
	})
}

func TestRouteMirrorEndsWhenTheCallIsCancelled(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		copies, got := startRecording(t)
		f := startRoute(t, transport, mirroring(copies.addr, 100), startRouteBackend(t, echoes))
		ctx, cancel := context.WithCancel(f.safe())
		s, err := f.client.NewStream(ctx, bidi, faultMethod)
		require.NoError(t, err)
		sendOn(t, s, "one")
		copies.await(t, 1)
		cancel()
		assert.Equal(t, codes.Canceled, resultOf((<-got).err, nil).code)
		f.lives()
	})
}

// Copies change nothing for their calls, whatever becomes of them.
func TestRouteMirrorIsNotNoticed(t *testing.T) {
	refused := func(t *testing.T) string { return loopback.Free(t) }
	raw := func(script func(*rawh2.Stream)) func(*testing.T) string {
		return func(t *testing.T) string { return startRaw(t, rawh2.Options{}, script).Addr() }
	}
	mirrors := map[string]func(t *testing.T) string{
		"dead":      refused,
		"silent":    func(t *testing.T) string { return startSwallowing(t).Addr() },
		"rejecting": func(t *testing.T) string { return startRouteBackend(t, failsFirst(100)).addr },
		"resetting": raw(func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeInternal) }),
		"refusing":  raw(func(s *rawh2.Stream) { _ = s.Reset(http2.ErrCodeRefusedStream) }),
		"nonsense":  raw(func(s *rawh2.Stream) { _ = s.Headers(rawh2.Fields{rawh2.F(":status", "500")}, false) }),
		// It has taken nothing of the message, and does not answer.
		"slow": func(t *testing.T) string { return startRouteBackend(t, never).addr },
	}
	for name, start := range mirrors {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				f := startRoute(t, transport, mirroring(start(t), 100), startRouteBackend(t, echoes))
				long := bytes.Repeat([]byte("long"), 512<<10)
				for _, body := range [][]byte{nil, []byte("short"), long} {
					requireOK(t, f.call(f.safe(), faultMethod, body), body)
				}
				assert.NoError(t, f.stop(), "what is left of copies holds up nothing")
			})
		})
	}
}

// A copy that does not take what its call sends is given up.
func TestRouteMirrorThatCannotKeepUpIsGivenUp(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		begun, given := make(chan struct{}), make(chan error, 1)
		slow := startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
			close(begun)
			<-ss.Context().Done()
			given <- ss.Context().Err()
			return nil
		})
		f := startRoute(t, transport, mirroring(slow.addr, 100), startRouteBackend(t, echoes))
		s := f.stream()
		for i := 0; ; i++ {
			sendOn(t, s, strings.Repeat("x", 64<<10))
			var m []byte
			require.NoError(t, s.RecvMsg(&m), "message %d", i)
			if i == 0 { // one that is given up before it has a backend is heard of by none
				structAwait(t, begun, "the copy")
			}
			select {
			case err := <-given:
				require.Error(t, err)
				require.NoError(t, s.CloseSend())
				_, err = receiveAll(s)
				require.NoError(t, err, "the call goes on")
				f.lives()
				return
			default:
				require.Less(t, i, 10_000, "the copy still goes on")
			}
		}
	})
}

func TestRouteMirrorOfNoCalls(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		copies := startRouteBackend(t, echoes)
		f := startRoute(t, transport, mirroring(copies.addr, 0), startRouteBackend(t, echoes))
		for range 20 {
			requireOK(t, f.call(f.safe(), faultMethod, []byte("x")), []byte("x"))
		}
		require.NoError(t, f.stop())
		assert.Zero(t, copies.calls())
	})
}

func TestRouteMirrorOfSomeCalls(t *testing.T) {
	const calls = 400
	copies := startRouteBackend(t, echoes)
	f := startRoute(t, conf.TransportNative, mirroring(copies.addr, 50), startRouteBackend(t, echoes))
	for range calls {
		requireOK(t, f.call(f.safe(), faultMethod, []byte("x")), []byte("x"))
	}
	f.settles() // copies are streams to backends, too
	// That it lies outside is less likely than once in 10^12.
	assert.Greater(t, copies.calls(), calls/4)
	assert.Less(t, copies.calls(), calls*3/4)
}

// The call goes on at the one backend while its copy fails at the other, in the middle.
func TestRouteMirrorThatFailsMidway(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		failed := make(chan struct{})
		copies := startRouteBackend(t, func(_ int, ss grpc.ServerStream) error {
			defer close(failed)
			var m []byte
			return firstOf(ss.RecvMsg(&m), errors.New("no more"))
		})
		f := startRoute(t, transport, mirroring(copies.addr, 100), startRouteBackend(t, echoes))
		s := f.stream()
		sendOn(t, s, "one")
		<-failed
		sendOn(t, s, "two")
		require.NoError(t, s.CloseSend())
		all, err := receiveAll(s)
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "two"}, all)
		f.lives()
	})
}
