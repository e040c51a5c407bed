package tracing

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// A receiver that takes its time does not keep the proxy from ending in time.
func TestCloseEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1<<16)) // or the server does not see that the client goes
		close(asked)
		<-r.Context().Done()
	}))
	defer srv.Close()
	o := optionsFor(srv.URL, HTTP)
	o.Timeout = time.Hour
	tr := newTracing(t, o)
	beginCall(tr).End(&stream.Trailer{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the delivery that Close begins
		<-asked
		cancel()
	}()
	assert.ErrorIs(t, tr.Close(ctx), context.Canceled)
	assert.EqualValues(t, 1, tr.Dropped())
}

func TestCloseLetsGoOfConnections(t *testing.T) {
	closed := make(chan struct{}, 1)
	srv := httptest.NewUnstartedServer(&receiver{})
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	tr := newTracing(t, optionsFor(srv.URL, HTTP))
	beginCall(tr).End(&stream.Trailer{})
	closeNow(t, tr)
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the connection is still open")
	}
}
