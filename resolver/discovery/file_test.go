package discovery

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

// never is a refresh that no test waits for.
const never = 24 * time.Hour

func fileSource(t *testing.T, path string) Source {
	source, err := Open(&conf.Discovery{File: path}, nil)
	require.NoError(t, err)
	return source
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// replace puts a new file in the place of one, as editors and scripts should.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	require.NoError(t, os.Rename(path+".new", path))
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instances.yaml")
	write(t, path, "- {address: a:1, weight: 3}\n")
	w := watch(t, fileSource(t, path), never)
	require.NoError(t, w.Await(t.Context()))
	first := <-w.updates
	assert.Equal(t, 3, first[0].Weight)

	replace(t, path, "- b:1\n")
	assert.Equal(t, "b:1", w.next(t))
	write(t, path, "- c:1\n")
	assert.Equal(t, "c:1", w.next(t))
	replace(t, path, "- d:1\n- c:1\n")
	assert.Equal(t, "c:1 d:1", w.next(t))
}

// A mounted ConfigMap is links: instances.yaml -> ..data/instances.yaml, and ..data to
// a directory that is swapped.
func TestFileThatKubernetesSwaps(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "instances.yaml"), text)
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "- a:1\n")
	path := filepath.Join(dir, "instances.yaml")
	require.NoError(t, os.Symlink("..data/instances.yaml", path))
	w := watch(t, fileSource(t, path), never)
	assert.Equal(t, "a:1", w.next(t))
	version("..2", "- b:1\n")
	assert.Equal(t, "b:1", w.next(t))
	version("..3", "- c:1\n")
	assert.Equal(t, "c:1", w.next(t))
}

func TestFileInADirectoryThatComesAndGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	path := filepath.Join(dir, "instances.yaml")
	w := watch(t, fileSource(t, path), never)
	for _, address := range []string{"a:1", "b:1"} {
		require.NoError(t, os.Mkdir(dir, 0o700))
		write(t, path, "- "+address+"\n")
		assert.Equal(t, address, w.next(t))
		require.NoError(t, os.Rename(dir, dir+"."+address[:1]))
	}
}

func TestFileThatIsBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instances.yaml")
	write(t, path, "- a:1\n")
	w := watch(t, fileSource(t, path), 20*time.Millisecond)
	assert.Equal(t, "a:1", w.next(t))
	for text, problem := range map[string]string{
		"- b:1\n- b\n": ":2:3: [1]: ",
		"":             "the file lists no instances",
		"[]":           "the list has no instances",
	} {
		replace(t, path, text)
		require.Eventually(t, func() bool { return w.log.warnings(problem) == 1 }, 20*time.Second, time.Millisecond, problem)
		require.ErrorContains(t, w.Status().Err, path)
		replace(t, path, "- a:1\n")
		require.Eventually(t, func() bool { return w.Status().Err == nil }, 20*time.Second, time.Millisecond)
		assert.Equal(t, 1, w.log.warnings(problem))
		assert.Empty(t, w.updates)
	}
	require.NoError(t, os.Remove(path))
	require.Eventually(t, func() bool { return w.Status().Err != nil }, 20*time.Second, time.Millisecond)
	require.ErrorIs(t, w.Status().Err, os.ErrNotExist)
	assert.Equal(t, 1, w.Status().Instances)
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	_, err := readFile(dir)
	assert.ErrorContains(t, err, "is not a regular file")

	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = readFile(pipe) // to open it would block
	assert.ErrorContains(t, err, "is not a regular file")

	large := filepath.Join(dir, "large")
	write(t, large, "")
	require.NoError(t, os.Truncate(large, maxFileSize+1))
	_, err = readFile(large)
	assert.ErrorContains(t, err, "is larger than 4 MiB")
}
