package admin

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one is a listener with one connection.
type one chan net.Conn

func (l one) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l one) Close() error   { return nil }
func (l one) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestBodiesThatNobodyAskedForAreNotWaitedFor: 256 of them would be all connections that
// there may be.
func TestBodiesThatNobodyAskedForAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ln := New(Options{}), make(one, 1)
		server := a.server(t.Context(), ln.Addr())
		served := make(chan error, 1)
		go func() { served <- server.Serve(ln) }() // ends with the listener
		client, conn := net.Pipe()
		ln <- conn
		_, err := io.WriteString(client, "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
		require.NoError(t, err)
		begun := time.Now()
		_, _ = io.Copy(io.Discard, client) // up to the end of the connection
		assert.Equal(t, readTimeout, time.Since(begun))
		close(ln)
		assert.ErrorIs(t, <-served, net.ErrClosed)
		assert.NoError(t, server.Shutdown(context.Background()))
		a.grpc.Stop()
	})
}
