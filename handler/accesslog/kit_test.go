package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
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

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safety ends what would otherwise hang; no test passes by waiting for it.
const safety = 60 * time.Second

var client = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 4711}

// info is that of a call with metadata, as a client makes it.
func info(md ...stream.Field) intercept.Info {
	return intercept.Info{
		Request: &stream.Request{
			Method: "/shop.Orders/Get", Authority: "orders.internal",
			Metadata: append(stream.Metadata{{Key: "user-agent", Value: "grpc-go/1.85.0"}}, md...),
		},
		Peer: client, Listener: "127.0.0.1:8888", Logger: slog.New(slog.DiscardHandler),
	}
}

// carry has a call begin, cross and end with t.
func carry(l *Log, i intercept.Info, t *stream.Trailer) {
	c := intercept.Begin(intercept.NewObservers(l), i)
	c.Routed("orders", "shop", "frame")
	a := c.BeginAttempt("shop", "10.0.0.1:9000")
	c.Crossed(filter.Request, 1, 12)
	c.Crossed(filter.Response, 2, 34)
	a.End(0)
	c.End(t)
}

func ended(code stream.Code, message string) *stream.Trailer {
	return &stream.Trailer{Status: stream.Status{Code: code, Message: message}}
}

// closeLog ends a log, with all of its lines written.
func closeLog(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	defer cancel()
	require.NoError(t, l.Close(ctx))
}

// logTo has calls logged to a file until it is closed, and returns what is in the file.
func logTo(t testing.TB, opts Options, calls func(l *Log)) string {
	t.Helper()
	opts.Output = filepath.Join(t.TempDir(), "access.log")
	l, err := New(opts)
	require.NoError(t, err)
	calls(l)
	closeLog(t, l)
	return read(t, opts.Output)
}

func read(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}

// parse returns the lines of a log in JSON.
func parse(t testing.TB, log string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(log) {
		require.True(t, strings.HasSuffix(line, "\n"), "the last line is complete")
		var one map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		all = append(all, one)
	}
	return all
}

// startTo has a log write to w.
func startTo(opts Options, w io.Writer) *Log {
	opts.setDefaults()
	return start(opts, &output{name: "test", log: opts.Logger, to: w})
}

var errFull = errors.New("disk full")

// disk takes what there is space for.
type disk struct {
	mu      sync.Mutex
	space   int
	content bytes.Buffer
}

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(b), d.space)
	d.content.Write(b[:n])
	d.space -= n
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

func (d *disk) setSpace(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = n
}

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content.String()
}

// stuck takes nothing before it is let go.
type stuck struct {
	bytes.Buffer
	writing chan struct{} // gets a token when a write has begun
	release chan struct{} // closed to let it go on
}

func newStuck() *stuck {
	return &stuck{writing: make(chan struct{}, 1), release: make(chan struct{})}
}

func (s *stuck) Write(b []byte) (int, error) {
	signal(s.writing)
	<-s.release
	return s.Buffer.Write(b)
}

// wait returns once c has a token.
func wait(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(safety):
		t.Fatal("it does not happen")
	}
}
