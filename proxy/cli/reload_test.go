package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// following is a run of serve with a file that changes.
type following struct {
	*program
	path    string
	address string
	backend string
}

func startFollowing(t *testing.T) *following {
	t.Helper()
	f := &following{backend: startBackend(t)}
	f.path = writeFile(t, f.config(""))
	f.program = start(t, "serve", "-c", f.path)
	f.address = f.program.address(t)
	checkCalls(t, f.address)
	return f
}

// config is a configuration that sends calls to the backend, and more.
func (f *following) config(more string) string { return configFor(f.backend, more) }

func configFor(backend, more string) string {
	return fmt.Sprintf("listeners:\n  - address: 127.0.0.1:0\nclusters:\n  echo:\n    instances: ['%s']\ndefault:\n  cluster: echo\n%s", backend, more)
}

// awaitNew waits for a line of the log behind what there was.
func (f *following) awaitNew(t *testing.T, before, pattern string) string {
	t.Helper()
	// Quantifiers are greedy: the pattern stands behind all that was.
	return f.stderr.await(t, `(?s)^.{`+fmt.Sprint(len(before)%1000)+`}(?:.{1000}){`+fmt.Sprint(len(before)/1000)+`}.*?(`+pattern+`)`)
}

// replace puts another file in the place of the first, as most editors do.
func (f *following) replace(t *testing.T, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.path+"~", []byte(content), 0o600))
	require.NoError(t, os.Rename(f.path+"~", f.path))
}

// edit writes to the file that is there.
func (f *following) edit(t *testing.T, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.path, []byte(content), 0o600))
}

func TestServeFollowsItsFile(t *testing.T) {
	f := startFollowing(t)
	nobody := "unix://" + filepath.Join(t.TempDir(), "nobody.sock")
	for name, write := range map[string]func(*testing.T, string){"renamed": f.replace, "in place": f.edit} {
		t.Run(name, func(t *testing.T) {
			before := f.stderr.String()
			write(t, configFor(nobody, ""))
			f.awaitNew(t, before, `msg=reloaded configuration=\S+ changes=1\n`)
			code, _, _ := run(t, "demo", "--proxy", f.address)
			assert.NotZero(t, code, "calls go to the instance that is not there")

			before = f.stderr.String()
			write(t, f.config(""))
			f.awaitNew(t, before, `msg=reloaded configuration=\S+ changes=1\n`)
			checkCalls(t, f.address)
		})
	}
}

func TestServeReloadsOnSIGHUP(t *testing.T) {
	f := startFollowing(t)
	before := f.stderr.String()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	f.awaitNew(t, before, `msg=reloaded configuration=\S+ changes=0\n`)
	checkCalls(t, f.address)
}

func TestABadFileChangesNothing(t *testing.T) {
	f := startFollowing(t)
	for name, test := range map[string]struct{ content, says string }{
		"unknown key": {f.config("timouts: {connect: 1s}\n"), f.path + `:8:\d+: timouts: unknown key; did you mean .+timeouts`},
		"bad value":   {f.config("timeouts: {connect: soon}\n"), f.path + `:8:\d+: timeouts\.connect: `},
		"syntax":      {f.config("timeouts: {\n"), f.path + `:8:\d+: `},
		"a mode without types": {
			f.config("routes:\n  - match: {service: a.B}\n    cluster: echo\n    mode: struct\n"), `routes\[0\]: mode: struct: this program has no types for service a\.B`,
		},
		"a listener in use": {
			strings.Replace(f.config(""), "  - address", "  - address: "+takenAddress(t)+"\n  - address", 1), "the address is in use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.stderr.String()
			f.replace(t, test.content)
			f.awaitNew(t, before, `level=ERROR msg="the configuration [^"]+ stays" error="[^\n]*`+test.says)
			checkCalls(t, f.address)
		})
	}
	require.NoError(t, os.Remove(f.path))
	before := f.stderr.String()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	f.awaitNew(t, before, `level=ERROR msg="the configuration is not valid, and the one in use stays" error="`+f.path+`: does not exist`)
	checkCalls(t, f.address)

	before = f.stderr.String()
	f.edit(t, f.config("log: {format: text}\ntimeouts: {shutdown: 3s}\n"))
	f.awaitNew(t, before, `settings=timeouts\.shutdown\n`)
	f.awaitNew(t, before, `msg=reloaded`)
}

// SIGHUP is what programs that rotate logs send, and reloads that fail are counted.
func TestSIGHUPOpensTheAccessLogAnew(t *testing.T) {
	f := &following{backend: startBackend(t)}
	log := filepath.Join(t.TempDir(), "calls.log")
	more := fmt.Sprintf("access_log: {output: %q}\nadmin: {address: '127.0.0.1:0'}\n", log)
	f.path = writeFile(t, f.config(more))
	f.program = start(t, "serve", "-c", f.path)
	f.address = f.program.address(t)
	require.NoError(t, os.Rename(log, log+".1"))
	before := f.stderr.String()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	f.awaitNew(t, before, `msg=reloaded`)
	checkCalls(t, f.address)

	before = f.stderr.String()
	f.replace(t, f.config(more+"timouts: {}\n"))
	f.awaitNew(t, before, `the one in use stays`)
	admin := f.stderr.await(t, ` admin=(\S+)`)
	assert.Regexp(t, `kitexproxy_reloads_total\{result="failure"\} 1\n`, answerTo(t, "http://"+admin+"/metrics"))

	f.stop()
	assert.Equal(t, 0, f.code(t))
	calls, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, 5, strings.Count(string(calls), "\n"), "%s", calls)
}

// A bad file that becomes again what is in use has to end the alarm that it has raised.
func TestABadFileThatIsTakenBackIsAReloadThatWorks(t *testing.T) {
	f := &following{backend: startBackend(t)}
	good := f.config("admin: {address: '127.0.0.1:0'}\n")
	f.path = writeFile(t, good)
	f.program = start(t, "serve", "-c", f.path)
	admin := f.stderr.await(t, ` admin=(\S+)`)
	says := func(line string) func() bool {
		return func() bool { return strings.Contains(answerTo(t, "http://"+admin+"/metrics"), line) }
	}

	before := f.stderr.String()
	f.replace(t, good+"timouts: {}\n")
	f.awaitNew(t, before, `the one in use stays`)
	require.Eventually(t, says("kitexproxy_reload_failed 1\n"), patience, time.Millisecond)

	before = f.stderr.String()
	f.replace(t, good)
	f.awaitNew(t, before, `msg=reloaded configuration=\S+ changes=0\n`)
	require.Eventually(t, says("kitexproxy_reload_failed 0\n"), patience, time.Millisecond)
}

// A reload that the end of the program cuts short says nothing of its configuration.
func TestStopDuringAReload(t *testing.T) {
	f := startFollowing(t)
	before := f.stderr.String()
	f.replace(t, `
listeners: [{address: "127.0.0.1:0"}, {address: "localhost:0"}]
clusters: {later: {discovery: {file: absent.yaml}}}
default: {cluster: later}
timeouts: {connect: 1m}
`)
	f.awaitNew(t, before, `msg="no instances found yet"`) // which the reload waits for
	f.stop()
	assert.Equal(t, 0, f.code(t))
	assert.NotContains(t, f.stderr.String(), "level=ERROR")
}

func TestReloadChangesTheLogLevel(t *testing.T) {
	f := startFollowing(t)
	require.NotContains(t, f.stderr.String(), "level=DEBUG")
	before := f.stderr.String()
	f.replace(t, f.config("log: {level: debug}\n"))
	f.awaitNew(t, before, `msg=reloaded`)
	checkCalls(t, f.address)
	f.awaitNew(t, before, `level=DEBUG`)

	before = f.stderr.String()
	f.replace(t, f.config("log: {level: error}\n"))
	f.awaitNew(t, before, `msg=reloaded`) // which the level before still shows
	f.stop()
	assert.Equal(t, 0, f.code(t))
	assert.NotContains(t, f.stderr.String()[len(before):], "msg=stopped")
}

func TestDiff(t *testing.T) {
	old := `
listeners: [{address: "127.0.0.1:8888"}]
clusters:
  one: {instances: ["127.0.0.1:9001"]}
  two: {instances: ["127.0.0.1:9002"], balance: random}
routes:
  - {name: first, match: {service: a.A}, cluster: one}
  - {match: {service: b.B}, cluster: two, timeout: 3s}
default: {cluster: one}
`
	next := `
listeners: [{address: "127.0.0.1:8888"}, {address: ":9999"}]
clusters:
  one: {instances: ["127.0.0.1:9001", "127.0.0.1:9003"]}
  three: {instances: ["127.0.0.1:9004"]}
routes:
  - {match: {service: b.B}, cluster: one, timeout: 5s}
  - {name: first, match: {service: a.A}, split: [{cluster: one, weight: 9}, {cluster: three, weight: 1}]}
default: {cluster: one}
limits: {connections: 7}
log: {level: debug, format: json}
`
	before, after := writeFile(t, old), writeFile(t, next)
	code, stdout, stderr := run(t, "diff", before, after)
	assert.Equal(t, 0, code, stderr)
	assert.Equal(t, `listeners[1] added
clusters.one.instances: [127.0.0.1:9001] -> [127.0.0.1:9001, 127.0.0.1:9003]
clusters.three added
clusters.two removed
routes[0]: routes[1] -> routes[0]
routes[0].cluster: two -> one
routes[0].timeout: 3s -> 5s
routes[1].cluster: one -> (none)
routes[1].split[0] added
routes[1].split[1] added
limits.connections: 10000 -> 7 (takes another start)
log.level: info -> debug
log.format: text -> json (takes another start)
`, stdout)

	code, stdout, stderr = run(t, "diff", before, before)
	assert.Equal(t, 0, code, stderr)
	assert.Equal(t, "no change\n", stdout)
}

func TestDiffOfWhatAReloadWouldRefuse(t *testing.T) {
	good := writeFile(t, configFor("127.0.0.1:9000", ""))
	for says, content := range map[string]string{
		":8:1: timouts: unknown key":                                         configFor("127.0.0.1:9000", "timouts: {}\n"),
		"routes[0]: mode: struct: this program has no types for service a.B": configFor("127.0.0.1:9000", "routes:\n  - match: {service: a.B}\n    cluster: echo\n    mode: struct\n"),
	} {
		code, stdout, stderr := run(t, "diff", good, writeFile(t, content))
		assert.Equal(t, 1, code)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, says)
	}
	for _, args := range [][]string{{"diff"}, {"diff", good}, {"diff", good, good, good}} {
		code, _, stderr := run(t, args...)
		assert.Equal(t, 2, code)
		assert.Contains(t, stderr, "diff takes two files, OLD and NEW")
	}
}
