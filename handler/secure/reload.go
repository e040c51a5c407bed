package secure

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// checkInterval is how long files are taken to be as they were.
const checkInterval = time.Second

// reloader keeps a configuration that is made from files up to date. Its methods
// may be called concurrently.
type reloader struct {
	files []string
	load  func() (*tls.Config, error)
	log   *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	seen    []fs.FileInfo // of files, when they were read last; nil for one that is not there
	checked time.Time
}

// newReloader makes the configuration for the first time. Empty names among files
// are left out.
func newReloader(files []string, log *slog.Logger, load func() (*tls.Config, error)) (*reloader, error) {
	r := &reloader{files: slices.DeleteFunc(files, func(f string) bool { return f == "" }), load: load, log: log}
	r.checked, r.seen = time.Now(), r.look()
	var err error
	if r.config, err = load(); err != nil {
		return nil, err
	}
	return r, nil
}

// current returns the configuration, after a look at the files if the last one was
// a while ago.
func (r *reloader) current() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.checked) >= checkInterval {
		r.checked = now
		r.refresh()
	}
	return r.config
}

// refresh reads the files again if they have changed. Those that cannot be used are
// not read again before they change once more, so that each fault is logged once.
// It needs mu.
func (r *reloader) refresh() {
	found := r.look() // before reading, so that no change is missed
	if slices.EqualFunc(found, r.seen, same) {
		return
	}
	r.seen = found
	config, err := r.load()
	if err != nil {
		r.log.Error("changed TLS files cannot be used, those before stay in force", "error", err)
		return
	}
	r.config = config
	r.log.Info("TLS files have been read again", "files", strings.Join(r.files, ", "))
}

func (r *reloader) look() []fs.FileInfo {
	found := make([]fs.FileInfo, len(r.files))
	for i, file := range r.files {
		if info, err := os.Stat(file); err == nil {
			found[i] = info
		}
	}
	return found
}

// same reports whether a file is as it was, as far as can be told without reading
// it.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
