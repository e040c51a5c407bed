package rawh2

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Server accepts HTTP/2 connections and hands each stream to a script.
type Server struct {
	lis    net.Listener
	opts   Options
	script func(*Stream)
	wg     sync.WaitGroup // the accept loop

	mu       sync.Mutex
	changed  signal
	conns    []*Conn
	streams  []*Stream
	stopping bool
}

// Listen starts a server on addr, "" for any free port of 127.0.0.1. script
// runs in a goroutine of its own for each stream and must return when the
// stream's Context ends, which it does if all it waits for is of this
// package; nil leaves the streams to the test (see AwaitStream).
func Listen(addr string, opts Options, script func(*Stream)) (*Server, error) {
	lis, err := listen(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{lis: lis, opts: opts, script: script}
	s.wg.Go(s.accept)
	return s, nil
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("raw server: %w", err)
	}
	return lis, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.lis.Addr().String() }

// accept ends when the listener is closed.
func (s *Server) accept() {
	for {
		nc, err := s.lis.Accept()
		if err != nil {
			return
		}
		c := newConn(nc, false, s.opts)
		c.script, c.onNew = s.script, s.record
		s.mu.Lock()
		if s.stopping {
			s.mu.Unlock()
			_ = nc.Close()
			return
		}
		s.conns = append(s.conns, c)
		// Under the lock, so that Close finds every connection started.
		c.start()
		s.changed.fire()
		s.mu.Unlock()
	}
}

func (s *Server) record(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(s.streams, st)
	s.changed.fire()
}

// CloseListener refuses new connections from now on; those there are live.
func (s *Server) CloseListener() {
	_ = s.lis.Close()
	s.wg.Wait()
}

// Close ends everything and waits for it. The port is free afterwards, for a
// server that comes back.
func (s *Server) Close() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.CloseListener()
	for _, c := range s.Conns() {
		c.Close()
	}
}

// Conns returns the connections accepted so far, those that are over too.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

// Streams returns the streams opened so far, in order of arrival.
func (s *Server) Streams() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Stream(nil), s.streams...)
}

// AwaitConn returns the nth connection accepted, counted from 1.
func (s *Server) AwaitConn(ctx context.Context, n int) (*Conn, error) {
	var c *Conn
	err := s.await(ctx, fmt.Sprintf("connection %d", n), func() bool {
		if len(s.conns) < n {
			return false
		}
		c = s.conns[n-1]
		return true
	})
	return c, err
}

// AwaitStream returns the nth stream opened on any connection, from 1.
func (s *Server) AwaitStream(ctx context.Context, n int) (*Stream, error) {
	var st *Stream
	err := s.await(ctx, fmt.Sprintf("stream %d", n), func() bool {
		if len(s.streams) < n {
			return false
		}
		st = s.streams[n-1]
		return true
	})
	return st, err
}

func (s *Server) await(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, SafetyTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		ok := done()
		changed := s.changed.wait()
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("raw server waiting for %s: %w", what, ctx.Err())
		}
	}
}
