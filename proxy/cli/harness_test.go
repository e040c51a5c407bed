package cli_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/cli"
	"github.com/kitexproxy/kitexproxy/proxy/demo"
)

// patience is how long a test waits for something that should come at once.
const patience = 20 * time.Second

// output collects what a program writes, and tells of each write.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // closed and replaced with each write
}

func newOutput() *output { return &output{written: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.written)
	o.written = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) state() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.written
}

// await waits until the output matches and returns the first group.
func (o *output) await(t *testing.T, pattern string) string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		text, written := o.state()
		if found := expression.FindStringSubmatch(text); found != nil {
			return found[len(found)-1]
		}
		select {
		case <-written:
		case <-deadline:
			require.FailNow(t, "the output does not come", "want %s in %s", pattern, text)
		}
	}
}

// program is a run of Main.
type program struct {
	stdout, stderr *output
	stop           context.CancelFunc
	exit           chan int
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start for a program with options of its own.
func startWith(t *testing.T, opts []proxy.Option, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	p := &program{stdout: newOutput(), stderr: newOutput(), stop: stop, exit: make(chan int, 1)}
	go func() { p.exit <- cli.Main(ctx, args, p.stdout, p.stderr, opts...) }()
	t.Cleanup(func() {
		stop()
		code := <-p.exit
		p.exit <- code
	})
	return p
}

// code waits for the end of the run.
func (p *program) code(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.exit:
		p.exit <- code
		return code
	case <-time.After(patience):
		require.FailNow(t, "Main does not return", "%s", p.stderr)
		return -1
	}
}

// address waits until the proxy is ready and returns where it listens.
func (p *program) address(t *testing.T) string {
	t.Helper()
	return p.stderr.await(t, `msg"?[=:]"?ready"?[ ,]"?listening"?[=:]"?([^\s"]+)`)
}

// run is Main until it returns.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runWith(t, nil, args...)
}

// runWith is run for a program with options of its own.
func runWith(t *testing.T, opts []proxy.Option, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startWith(t, opts, args...)
	code = p.code(t)
	return code, p.stdout.String(), p.stderr.String()
}

// checkCalls makes the demo's calls at an address.
func checkCalls(t *testing.T, address string) {
	t.Helper()
	code, stdout, stderr := run(t, "demo", "--proxy", address)
	assert.Equal(t, 0, code, "%s%s", stdout, stderr)
}

func startBackend(t *testing.T) string {
	t.Helper()
	b, err := demo.StartBackend("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(b.Stop)
	return b.Addr()
}

// takenAddress returns an address that someone else listens on.
func takenAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, ln.Close()) })
	return ln.Addr().String()
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}
