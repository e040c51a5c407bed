package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// call is one that nobody knows of, with metadata in pairs.
func call(pairs ...string) *intercept.Call { return callOf("/echo.Echo/Say", pairs...) }

func callOf(method string, pairs ...string) *intercept.Call {
	var md stream.Metadata
	for i := 0; i < len(pairs); i += 2 {
		md = append(md, stream.Field{Key: pairs[i], Value: pairs[i+1]})
	}
	return intercept.Begin(nil, intercept.Info{
		Request: &stream.Request{Method: method, Metadata: md},
		Peer:    &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, Logger: quiet,
	})
}

// forBackend is the metadata that the backend gets.
func forBackend(c *intercept.Call) stream.Metadata {
	if changed, ok := c.ChangedHeader(); ok {
		return changed
	}
	return c.Request().Metadata
}

// refused asks that err ends a call with code and reason, and with want in its text.
func refused(t testing.TB, err error, code stream.Code, reason stream.Reason, want string) {
	t.Helper()
	var f *stream.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, code, f.Code, f)
	require.Equal(t, reason, f.Reason, f)
	require.Contains(t, f.Message, want)
}

func isUnauthenticated(t testing.TB, err error, want string) {
	t.Helper()
	refused(t, err, stream.Unauthenticated, stream.NoCredentials, want)
}

// hashOf is a key as configurations have it.
func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// write replaces a file as a whole, so that nobody reads half of it.
func write(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func file(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, content)
	return path
}

// lines is what has been logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// await waits for something that another goroutine does.
func await(t testing.TB, done func() bool) {
	t.Helper()
	require.Eventually(t, done, safety, 2*time.Millisecond)
}
