package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/proxy"
)

const patient = 60 * time.Second

// board is the backend, a grpc-go server. It has the methods of board.proto.
type board struct {
	news protoreflect.MessageDescriptor
	text protoreflect.FieldDescriptor
	seen chan string // what pages say to have seen
	left chan string // boards that nobody watches any more
}

// startBoard returns a board and its address.
func startBoard(t *testing.T) (*board, string) {
	t.Helper()
	s, err := schema.Compile(t.Context(), []string{"board.proto"}, []string{"testdata"})
	require.NoError(t, err)
	news := s.Method("/browser.v1.Board/Watch").Input()
	b := &board{news: news, text: news.Fields().ByName("text"), seen: make(chan string), left: make(chan string, 10)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(b.serve))
	go func() { _ = server.Serve(ln) }() // ends with Stop
	t.Cleanup(server.Stop)
	return b, ln.Addr().String()
}

func (b *board) serve(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	switch method {
	case "/browser.v1.Board/Watch":
		return b.watch(s)
	case "/browser.v1.Board/See":
		return b.see(s)
	case "/browser.v1.Board/Talk":
		return b.talk(s)
	}
	return status.Error(codes.Unimplemented, method)
}

// watch sends two messages, and the second one only when the page has seen the first.
// What the page asked for says how the call ends.
func (b *board) watch(s grpc.ServerStream) error {
	name, err := b.recv(s)
	if err != nil {
		return err
	}
	for _, text := range []string{"one", "two\nlines"} {
		if err := b.send(s, text); err != nil {
			return err
		}
		if err := b.await(s, text); err != nil {
			return err
		}
	}
	switch name {
	case "failing":
		return status.Error(codes.DataLoss, "the board is gone")
	case "endless":
		<-s.Context().Done()
		b.left <- name
	}
	return nil
}

// await waits until a page has seen text.
func (b *board) await(s grpc.ServerStream, text string) error {
	select {
	case seen := <-b.seen:
		if seen != text {
			return status.Errorf(codes.FailedPrecondition, "the page has seen %q instead of %q", seen, text)
		}
		return nil
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

func (b *board) see(s grpc.ServerStream) error {
	text, err := b.recv(s)
	if err != nil {
		return err
	}
	select {
	case b.seen <- text:
		return b.send(s, text)
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

// talk says to every message that it has come, with the page's token in front, and ends
// with the half-close.
func (b *board) talk(s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	for {
		text, err := b.recv(s)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			b.left <- "talk"
			return err
		}
		if err := b.send(s, fmt.Sprint(md["authorization"], text)); err != nil {
			return err
		}
	}
}

func (b *board) recv(s grpc.ServerStream) (string, error) {
	m := dynamicpb.NewMessage(b.news)
	err := s.RecvMsg(m)
	return m.Get(b.text).String(), err
}

func (b *board) send(s grpc.ServerStream, text string) error {
	m := dynamicpb.NewMessage(b.news)
	m.Set(b.text, protoreflect.ValueOfString(text))
	return s.SendMsg(m)
}

// awaitLeft waits until nobody makes the call any more.
func (b *board) awaitLeft(t *testing.T, name string) {
	t.Helper()
	select {
	case left := <-b.left:
		assert.Equal(t, name, left)
	case <-time.After(patient):
		require.FailNow(t, "the call has not ended with its page", name)
	}
}

// servePages returns the URL of a server of empty pages.
func servePages(t *testing.T) string {
	t.Helper()
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>board</title>")
	}))
	t.Cleanup(pages.Close)
	return pages.URL
}

// startProxy returns the URL of a proxy in front of a board. Pages are a function of it, so
// that they are of the gateway's origin.
func startProxy(t *testing.T, backend, pages string) string {
	t.Helper()
	cfg, err := conf.Parse("test", fmt.Appendf(nil, `
listeners: [{address: "127.0.0.1:0"}]
clusters: {board: {instances: [%q]}}
schemas: {board: {files: [testdata/board.proto]}}
default: {cluster: board}
http:
  listeners: [{address: "127.0.0.1:0"}]
  gateway: {schemas: [board]}
  functions: {routes: {page: {url: %q}}}
`, backend, pages))
	require.NoError(t, err)
	p, err := proxy.New(cfg, proxy.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with ctx
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
	select {
	case <-p.Ready():
	case err := <-ended:
		require.FailNow(t, "the proxy does not start", "%v", err)
	}
	return "http://" + p.HTTPAddrs()[0].String()
}
