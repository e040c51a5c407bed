package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/kitexproxy/kitexproxy/bench/internal/backend"
	"github.com/kitexproxy/kitexproxy/bench/internal/mwitkow"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// BenchmarkAllocs makes unary calls of 1 KiB with client, proxy and backend in
// this process. What a proxy allocates for a call is its figure less direct's.
func BenchmarkAllocs(b *testing.B) {
	klog.SetLevel(klog.LevelFatal)
	addr := freeAddr(b)
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	server := backend.New()
	go func() { _ = server.Serve(lis) }() // ends with Stop
	b.Cleanup(server.Stop)

	b.Run("direct", func(b *testing.B) { unaryAllocs(b, addr) })
	b.Run("kitexproxy", func(b *testing.B) { unaryAllocs(b, startKitexproxy(b, addr)) })
	b.Run("mwitkow", func(b *testing.B) {
		listen := freeAddr(b)
		go func() { _ = mwitkow.Serve(listen, addr) }() // ends with the process
		unaryAllocs(b, listen)
	})
}

func freeAddr(b *testing.B) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

func startKitexproxy(b *testing.B, to string) string {
	cfg, err := conf.Simple("127.0.0.1:0", to)
	if err != nil {
		b.Fatal(err)
	}
	p, err := proxy.New(cfg, proxy.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with cancel
	b.Cleanup(func() { cancel(); <-ended })
	select {
	case <-p.Ready():
	case err := <-ended:
		b.Fatal(err)
	}
	return p.Addrs()[0].String()
}

func unaryAllocs(b *testing.B, addr string) {
	conn, err := wire.Dial(addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	payload := wire.NewPayload(1 << 10)
	call := func() {
		var reply wire.Message
		if err := conn.Invoke(b.Context(), wire.Unary, payload.Stamp(1), &reply, grpc.WaitForReady(true)); err != nil {
			b.Fatal(err)
		}
		reply.Free()
	}
	call() // connections are made
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}
