package accesslog

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/stream"
)

// TestReopen: a file that has been moved away keeps what was written, and the lines from
// then on are in a new one.
func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l, err := New(Options{Output: file, SamplePercent: 100})
	require.NoError(t, err)
	carry(l, info(), ended(stream.OK, ""))
	l.waitWritten(t, file)
	require.NoError(t, os.Rename(file, file+".1"))
	require.NoError(t, l.Reopen())
	require.NoError(t, l.Reopen(), "one that nothing has been written to yet")
	carry(l, info(), ended(stream.Internal, ""))
	closeLog(t, l)
	require.Equal(t, "OK", parse(t, read(t, file+".1"))[0]["code"])
	require.Equal(t, "INTERNAL", parse(t, read(t, file))[0]["code"])

	stat, err := os.Stat(file)
	require.NoError(t, err)
	require.Zero(t, stat.Mode().Perm()&^0o640)
	require.ErrorIs(t, l.Reopen(), errClosed)
}

// waitWritten returns once there is something in a file.
func (l *Log) waitWritten(t *testing.T, file string) {
	t.Helper()
	require.Eventually(t, func() bool { return read(t, file) != "" }, safety, gatherTime)
}

// TestReopenLetsGoOfTheFile also when there is nothing to write, so that its space can be
// used.
func TestReopenLetsGoOfTheFile(t *testing.T) {
	l, err := New(Options{Output: filepath.Join(t.TempDir(), "access.log")})
	require.NoError(t, err)
	old := l.output.file
	require.NoError(t, l.Reopen())
	require.Eventually(t, func() bool {
		_, err := old.Stat()
		return errors.Is(err, os.ErrClosed)
	}, safety, gatherTime)
	closeLog(t, l)
}

func TestReopenThatFailsChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	require.NoError(t, os.Mkdir(dir, 0o750))
	file := filepath.Join(dir, "access.log")
	l, err := New(Options{Output: file, SamplePercent: 100})
	require.NoError(t, err)
	require.NoError(t, os.Rename(dir, dir+".old"))
	require.ErrorContains(t, l.Reopen(), "access log: reopen: open "+file)
	carry(l, info(), ended(stream.OK, ""))
	closeLog(t, l)
	require.Len(t, parse(t, read(t, filepath.Join(dir+".old", "access.log"))), 1)
}

func TestReopenOfStandardOutputDoesNothing(t *testing.T) {
	l, err := New(Options{Output: Stdout})
	require.NoError(t, err)
	require.NoError(t, l.Reopen())
	closeLog(t, l)
	_, err = os.Stdout.Stat()
	require.NoError(t, err, "it is not closed")
}

// TestFileIsAddedTo, not written over.
func TestFileIsAddedTo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	for range 2 {
		l, err := New(Options{Output: file, SamplePercent: 100})
		require.NoError(t, err)
		carry(l, info(), ended(stream.OK, ""))
		closeLog(t, l)
	}
	require.Len(t, parse(t, read(t, file)), 2)
}

// TestPipeThatNobodyReads: opening it would wait, which a proxy that starts must not.
func TestPipeThatNobodyReads(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err := New(Options{Output: pipe})
	require.ErrorContains(t, err, pipe)
}

// TestDiskIsFull: that is said once, lines are counted, those that come when there is
// space again are whole, and the log says how many are missing.
func TestDiskIsFull(t *testing.T) {
	var said bytes.Buffer
	d := &disk{space: 100} // for the beginning of a line
	l := startTo(Options{SamplePercent: 100, Logger: slog.New(slog.NewTextHandler(&said, nil))}, d)
	for n := range 3 {
		carry(l, info(), ended(stream.OK, ""))
		require.Eventually(t, func() bool { return l.Dropped() == int64(n)+1 }, safety, gatherTime)
	}
	d.setSpace(1 << 20)
	carry(l, info(), ended(stream.Internal, "after"))
	closeLog(t, l)

	require.EqualValues(t, 3, l.Dropped(), "and not the one after")
	torn, rest, _ := strings.Cut(d.String(), "\n")
	require.Len(t, torn, 100)
	lines := parse(t, rest)
	require.Len(t, lines, 2)
	require.Equal(t, "after", lines[0]["message"])
	require.EqualValues(t, 3, lines[1]["dropped"])
	require.Equal(t, 1, strings.Count(said.String(), "level=ERROR"), said.String())
	require.Contains(t, said.String(), `lines are lost" output=test error="disk full"`)
	require.Contains(t, said.String(), `level=INFO msg="the access log is written again"`)
}

// TestManyLinesAreFewWrites, and no write is huge.
func TestManyLinesAreFewWrites(t *testing.T) {
	var sizes []int
	l := startTo(Options{SamplePercent: 100}, writes(func(b []byte) { sizes = append(sizes, len(b)) }))
	i := info()
	i.Request.Authority = strings.Repeat("x", maxValue)
	for range 1000 {
		carry(l, i, ended(stream.OK, ""))
	}
	closeLog(t, l)
	require.Less(t, len(sizes), 100)
	for _, n := range sizes {
		require.Less(t, n, maxWrite+8*maxValue)
	}
}

// writes takes everything, and tells of it.
type writes func(b []byte)

func (w writes) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
