package h2

import (
	"net"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// benchConns connects a client and a server of this package.
func benchConns(b *testing.B, begin func(*Stream, []hpack.HeaderField, bool)) *Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	ns, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	cfg := testConfig()
	cfg.Begin = begin
	s, c := NewServer(ns, cfg), NewClient(nc, testConfig())
	go func() { _ = s.Serve() }() // both end with the benchmark
	go func() { _ = c.Serve() }()
	b.Cleanup(func() {
		c.Close(ErrClosed)
		<-c.Done()
		<-s.Done()
	})
	<-c.Settled()
	return c
}

// bell rings when n bytes have come, and when the stream has ended.
type bell struct {
	unheard
	s      *Stream
	left   int
	n      int
	filled chan struct{}
	ended  chan struct{}
}

func (l *bell) Data(b []byte, _ bool) {
	l.s.Credit(len(b))
	if l.left -= len(b); l.left == 0 {
		l.left = l.n
		l.filled <- struct{}{}
	}
}

func (l *bell) Closed(error) { l.ended <- struct{}{} }

func BenchmarkEchoMessages(b *testing.B) {
	c := benchConns(b, beginEcho)
	msg := make([]byte, 1<<10)
	l := &bell{left: len(msg), n: len(msg), filled: make(chan struct{}), ended: make(chan struct{}, 1)}
	s, err := c.Open(request(), false, l)
	if err != nil {
		b.Fatal(err)
	}
	l.s = s
	b.ReportAllocs()
	for b.Loop() {
		s.WriteData(msg, false)
		c.Flush()
		<-l.filled
	}
}

var benchTrailer = []hpack.HeaderField{{Name: "grpc-status", Value: "0"}}

// unary answers a request with its body and trailers.
type unary struct {
	unheard
	s *Stream
}

func (u *unary) Data(b []byte, last bool) {
	_ = u.s.WriteHeaders(okHead, false)
	u.s.Credit(u.s.WriteData(b, false))
	_ = u.s.WriteTrailers(benchTrailer)
}

func BenchmarkUnary(b *testing.B) {
	c := benchConns(b, func(s *Stream, _ []hpack.HeaderField, _ bool) { s.SetEvents(&unary{s: s}) })
	msg, head := make([]byte, 1<<10), request()
	l := &bell{left: -1, ended: make(chan struct{}, 1)}
	b.ReportAllocs()
	for b.Loop() {
		l.left, l.n = -1, -1
		s, err := c.Open(head, false, l)
		if err != nil {
			b.Fatal(err)
		}
		l.s = s
		s.WriteData(msg, true)
		c.Flush()
		<-l.ended
	}
}
