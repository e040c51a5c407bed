package follow_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/conf/follow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const safety = 60 * time.Second

// following follows a file until the test ends; what it returns awaits a change.
func following(t *testing.T, path string) (awaitChange func()) {
	t.Helper()
	changes := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		follow.File(ctx, path, func() { changes <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return func() {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(safety):
			require.Fail(t, "there was no change")
		}
		for len(changes) > 0 { // one change may make several events
			<-changes
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestFileThatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, "1")
	changed := following(t, path)
	changed()
	write(t, path, "2")
	changed()
}

func TestFileThatIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, "1")
	changed := following(t, path)
	changed()
	write(t, path+".new", "2")
	require.NoError(t, os.Rename(path+".new", path))
	changed()
}

func TestFileThatComes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	changed := following(t, path)
	changed()
	write(t, path, "1")
	changed()
}

// TestDirectoryBehindALink: this is how Kubernetes mounts files.
func TestDirectoryBehindALink(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "a.yaml"), version)
	}
	require.NoError(t, os.Symlink("v1", filepath.Join(dir, "data")))
	path := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.Symlink(filepath.Join("data", "a.yaml"), path))
	changed := following(t, path)
	changed()
	require.NoError(t, os.Symlink("v2", filepath.Join(dir, "data.new")))
	require.NoError(t, os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")))
	changed()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "v2", string(b))
}

func TestDirectoryThatComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "a.yaml")
	write(t, path, "1")
	changed := following(t, path)
	changed()
	require.NoError(t, os.RemoveAll(dir))
	changed() // the file is gone
	require.NoError(t, os.Mkdir(dir, 0o700))
	write(t, path, "2")
	changed()
}

// TestOtherFilesAreNoChange: what happens beside the file is told of at no time, as
// the change of the file behind it, which has to be told of, shows.
func TestOtherFilesAreNoChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, "1")
	var read []string
	ctx, cancel := context.WithCancel(t.Context())
	ended, begun := make(chan struct{}), make(chan struct{}, 1)
	go func() { // ends with ctx
		defer close(ended)
		follow.File(ctx, path, func() {
			b, _ := os.ReadFile(path)
			if read = append(read, string(b)); len(read) == 1 {
				begun <- struct{}{}
			}
			if string(b) == "2" {
				cancel()
			}
		})
	}()
	<-begun
	for range 100 {
		write(t, filepath.Join(dir, "b.yaml"), "x")
	}
	write(t, path+".new", "2")
	require.NoError(t, os.Rename(path+".new", path))
	select {
	case <-ended:
	case <-time.After(safety):
		require.Fail(t, "the change was not told of")
	}
	cancel()
	<-ended
	require.Equal(t, []string{"1", "2"}, read)
}

// relink has a link lead elsewhere, as "ln -sfn" and Kubernetes do.
func relink(t *testing.T, to, link string) {
	t.Helper()
	require.NoError(t, os.Symlink(to, link+".new"))
	require.NoError(t, os.Rename(link+".new", link))
}

// versions makes two directories beside each other, with a file each.
func versions(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "a.yaml"), version)
	}
	return dir
}

func TestFileBehindALinkThatIsWritten(t *testing.T) {
	dir, path := versions(t), filepath.Join(t.TempDir(), "link.yaml")
	require.NoError(t, os.Symlink(filepath.Join(dir, "v1", "a.yaml"), path))
	changed := following(t, path)
	changed()
	write(t, filepath.Join(dir, "v1", "a.yaml"), "other")
	changed()
	relink(t, filepath.Join(dir, "v2", "a.yaml"), path)
	changed()
	write(t, path, "through the link")
	changed()
}

// Releases are put into place by a link above the file.
func TestLinkAboveTheDirectory(t *testing.T) {
	dir := versions(t)
	require.NoError(t, os.Symlink("v1", filepath.Join(dir, "current")))
	path := filepath.Join(dir, "current", "a.yaml")
	changed := following(t, path)
	changed()
	for range 2 {
		relink(t, "v2", filepath.Join(dir, "current"))
		changed()
		write(t, path, "other")
		changed()
		relink(t, "v1", filepath.Join(dir, "current"))
		changed()
	}
}

func TestLinksInACircle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.Symlink("b.yaml", path))
	require.NoError(t, os.Symlink("a.yaml", filepath.Join(dir, "b.yaml")))
	changed := following(t, path)
	changed()
	write(t, path+".new", "1")
	require.NoError(t, os.Rename(path+".new", path))
	changed()
}
