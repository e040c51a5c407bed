package proxy_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/kitexproxy/kitexproxy/handler/handlertest/loopback"
	"github.com/kitexproxy/kitexproxy/handler/handlertest/rawh2"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// lockedBuffer may be written and read by different goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Clients that are cut off are counted, each time, and logged, once.
func TestFaultCutOffClientsAreCountedAndLogged(t *testing.T) {
	if onKitex() {
		t.Skip("Kitex's transport does not say whom it cuts off, or why")
	}
	var log lockedBuffer
	f := startFaultProxy(t, faultConfig(loopback.Free(t)), proxy.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for range 3 {
		client := f.dial(rawh2.Options{})
		require.NoError(t, client.RawFrame(http2.FrameData, 0, 0, []byte("on stream 0")))
		e, err := client.AwaitGoAway(f.safe())
		require.NoError(t, err)
		require.Equal(t, http2.ErrCodeProtocol, e.Code)
		require.NoError(t, client.AwaitClosed(f.safe()))
	}
	require.Eventually(t, func() bool { return f.p.Stats().ClientsCutOff == 3 }, faultSafety, 5*time.Millisecond)
	require.Equal(t, 1, strings.Count(log.String(), "a client was cut off"), log.String())
	require.Contains(t, log.String(), "DATA on stream 0")
	f.lives()
}
