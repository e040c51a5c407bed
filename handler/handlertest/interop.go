package handlertest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// interopClientEnv may name another implementation's interop client, which
// then runs instead of grpc-go's: those of the gRPC project all understand the
// same flags. An official one of grpc-go's is built by
// "go build ./interop/client" in a checkout of grpc-go.
const interopClientEnv = "HANDLERTEST_INTEROP_CLIENT"

// orcaPolicy is the load-balancing policy with which the ORCA tests look at
// the backend's load reports. The official script uses it in every test.
const orcaPolicy = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

// interopTimeout ends a test program that hangs.
const interopTimeout = time.Minute

// interopCases are those of grpc-go's interop_test.sh: all that need no cloud.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service", "orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// Interop are gRPC's official interoperability tests
// (https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md)
// between the official server and client of grpc-go, as processes of their own.
type Interop struct {
	client, server string // programs
	skip           string // why they cannot be built, "" if they are
}

// NewInterop builds the programs, for the tests of t and below it.
func NewInterop(t *testing.T) *Interop {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		return &Interop{skip: "the interop programs are built with the go command, which is not here"}
	}
	dir := t.TempDir()
	i := &Interop{client: os.Getenv(interopClientEnv), server: build(t, dir, "google.golang.org/grpc/interop/server")}
	if i.client == "" {
		i.client = build(t, dir, "github.com/kitexproxy/kitexproxy/handler/handlertest/interopclient")
	}
	return i
}

// Suite runs the tests, several at a time: all have one server, and each a client of its
// own. Paths in opts are names of test cases, such as "orca_oob".
func (i *Interop) Suite(t *testing.T, through Target, opts Options) {
	if i.skip != "" {
		t.Skip(i.skip)
	}
	s := newSuite(t, through, opts)
	backend := startInteropServer(t, i.server)
	host, port, err := net.SplitHostPort(through(t, backend))
	require.NoError(t, err)
	for _, name := range interopCases {
		s.run(t, name, func(t *testing.T) {
			t.Parallel() // the tests of load reports take seconds that they wait for
			ctx := s.contextFor(t, interopTimeout)
			var output []byte
			var err error
			for range 3 {
				cmd := exec.CommandContext(ctx, i.client,
					"-server_host="+host, "-server_port="+port, "-test_case="+name, "-service_config_json="+orcaPolicy,
					// No claim is made on how fast a soak is.
					"-soak_iterations=10", "-soak_per_iteration_max_acceptable_latency_ms=10000", "-soak_overall_timeout_seconds=50",
				)
				cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=warning")
				if output, err = cmd.CombinedOutput(); !overtaken(name, output) {
					break
				}
			}
			require.NoError(t, err, "%s said:\n%s", filepath.Base(i.client), output)
		})
	}
	s.checkSkips(t)
}

// overtaken reports whether the client has had an answer before it has noticed its own
// cancellation: it half-closes right after that, and on a machine with much to do the
// backend may be the faster one, whatever is between.
func overtaken(name string, output []byte) bool {
	return name == "cancel_after_begin" && bytes.Contains(output, []byte("got error code 0, want 1"))
}

// build builds a program of this module or one that it depends on.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	program := filepath.Join(dir, filepath.Base(pkg))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, pkg).CombinedOutput()
	require.NoError(t, err, "go build %s:\n%s", pkg, output)
	return program
}

// startInteropServer starts the official server and returns its address. It
// chooses the port itself and says so in its log.
func startInteropServer(t *testing.T, program string) string {
	cmd := exec.Command(program, "-port=0")
	cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_FORMATTER=")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	log := serverLog{port: make(chan string, 1), done: make(chan struct{})}
	go log.read(bufio.NewScanner(stderr))
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone already
		<-log.done
		_ = cmd.Wait() // "killed"
		if t.Failed() {
			t.Logf("the interop server said:\n%s", log.String())
		}
	})
	select {
	case port := <-log.port:
		return net.JoinHostPort("127.0.0.1", port)
	case <-log.done:
	case <-time.After(interopTimeout):
	}
	require.Fail(t, "the interop server does not listen", "it said:\n%s", log.String())
	return ""
}

// serverLog takes what a server writes, so that it never blocks on it.
type serverLog struct {
	port chan string   // where the server listens
	done chan struct{} // closed at the log's end

	mu    sync.Mutex
	lines []string
}

var listening = regexp.MustCompile(`interop server listening on .*:(\d+)`)

// read ends when the server does.
func (l *serverLog) read(lines *bufio.Scanner) {
	defer close(l.done)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			l.port <- m[1]
		}
		l.mu.Lock()
		l.lines = append(l.lines, lines.Text())
		l.mu.Unlock()
	}
}

// String returns the log's last lines.
func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	const enough = 100
	lines := l.lines[max(0, len(l.lines)-enough):]
	return fmt.Sprintf("(%d lines in all)\n%s", len(l.lines), strings.Join(lines, "\n"))
}
