package rawh2

import (
	"net"
	"sync"
)

// TCPServer accepts TCP connections and knows nothing of HTTP/2.
type TCPServer struct {
	lis    net.Listener
	script func(net.Conn)
	wg     sync.WaitGroup

	mu       sync.Mutex
	conns    []net.Conn
	stopping bool
}

// ListenTCP starts a server on addr, "" for any free port of 127.0.0.1.
// script runs in a goroutine of its own for each connection, which is closed
// when it returns; Close closes it too, so that a script that reads ends.
func ListenTCP(addr string, script func(net.Conn)) (*TCPServer, error) {
	lis, err := listen(addr)
	if err != nil {
		return nil, err
	}
	s := &TCPServer{lis: lis, script: script}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where the server listens.
func (s *TCPServer) Addr() string { return s.lis.Addr().String() }

// accept ends when the listener is closed.
func (s *TCPServer) accept() {
	for {
		nc, err := s.lis.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.stopping {
			s.mu.Unlock()
			_ = nc.Close()
			return
		}
		s.conns = append(s.conns, nc)
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() { _ = nc.Close() }()
			s.script(nc)
		})
	}
}

// Accepted is how many connections there have been.
func (s *TCPServer) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close ends everything and waits for it.
func (s *TCPServer) Close() {
	s.mu.Lock()
	s.stopping = true
	conns := s.conns
	s.mu.Unlock()
	_ = s.lis.Close()
	for _, nc := range conns {
		_ = nc.Close()
	}
	s.wg.Wait()
}
