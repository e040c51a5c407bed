package cli_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/streamclient"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	echoservice "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
)

// process is a run of the binary.
type process struct {
	cmd    *exec.Cmd
	stderr *output
	ended  chan error
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kitexproxy")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

func launch(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), stderr: newOutput(), ended: make(chan error, 1)}
	p.cmd.Stderr = p.stderr
	require.NoError(t, p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended unless the test failed
		p.ended <- <-p.ended
	})
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// code waits for the end of the process and returns its exit code.
func (p *process) code(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
	case <-time.After(patience):
		p.signal(t, syscall.SIGQUIT) // makes it print its goroutines
		p.ended <- <-p.ended
		require.FailNow(t, "the process does not end", "%s", p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

const readyLine = `level=INFO msg=ready listening=(\S+)`

func TestTheBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary")
	}
	binary, backend := build(t), startBackend(t)

	t.Run("ServesUntilSIGTERM", func(t *testing.T) {
		p := launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--backend", backend)
		checkCalls(t, p.stderr.await(t, readyLine))
		p.signal(t, syscall.SIGTERM)
		assert.Equal(t, 0, p.code(t), "%s", p.stderr)
	})

	t.Run("SIGINTDoesTheSame", func(t *testing.T) {
		p := launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--backend", backend)
		p.stderr.await(t, readyLine)
		p.signal(t, os.Interrupt)
		assert.Equal(t, 0, p.code(t), "%s", p.stderr)
	})

	t.Run("ASecondInstanceFails", func(t *testing.T) {
		first := launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--backend", backend)
		address := first.stderr.await(t, readyLine)
		second := launch(t, binary, "serve", "--listen", address, "--backend", backend)
		assert.Equal(t, 1, second.code(t))
		assert.Contains(t, second.stderr.String(), "kitexproxy: cannot listen on "+address+": the address is in use;")
		checkCalls(t, address) // the first is none the worse
		first.signal(t, syscall.SIGTERM)
		assert.Equal(t, 0, first.code(t), "%s", first.stderr)
	})

	t.Run("ASecondSignalEndsItAtOnce", func(t *testing.T) {
		p := launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--backend", backend, "--shutdown-timeout", "1h")
		openCall(t, p.stderr.await(t, readyLine))
		p.signal(t, syscall.SIGTERM)
		p.stderr.await(t, `msg=draining active_calls=1`)
		p.signal(t, syscall.SIGTERM)
		assert.Equal(t, 1, p.code(t), "%s", p.stderr)
	})

	t.Run("AHangupWhileItReadsItsConfigurationEndsNothing", func(t *testing.T) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer silent.Close()
		p := launch(t, binary, "serve", "-c", "etcd://"+silent.Addr().String()+"/kitexproxy/edge")
		conn, err := silent.Accept()
		require.NoError(t, err)
		defer conn.Close()
		p.signal(t, syscall.SIGHUP)
		p.signal(t, syscall.SIGTERM)
		assert.NotEqual(t, -1, p.code(t), "a signal has ended it: %v", p.cmd.ProcessState)
	})
}

// openCall begins a call that goes on until the test or the proxy ends.
func openCall(t *testing.T, address string) {
	t.Helper()
	//lint:ignore SA1019 every option of Kitex's generated stream clients is deprecated
	c, err := echoservice.NewStreamClient("echo", streamclient.ConvertOptionFrom(client.WithHostPorts(address)))
	require.NoError(t, err)
	stream, err := c.Chat(t.Context())
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)
}
