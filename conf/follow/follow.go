// Package follow tells of files that change.
package follow

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// again is how soon a directory is looked for again that went away.
const again = time.Second

// File calls changed when it begins and whenever a file may have changed, until ctx
// ends. changed is called by one goroutine at a time and should not take long: events
// wait for it. A file that is not there may come to be.
//
// What is looked at is its directory, since what is renamed into the place of the
// file, and a link that leads elsewhere, is another file.
func File(ctx context.Context, path string, changed func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			inDirectory(ctx, path, changed)
			timer.Reset(again)
		}
	}
}

// inDirectory is File until the file's directory goes away, if there is one.
func inDirectory(ctx context.Context, path string, changed func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return // the system has no more; another time it may
	}
	defer func() { _ = watcher.Close() }()
	directory := filepath.Dir(path)
	if watcher.Add(directory) != nil {
		return
	}
	changed() // perhaps before it was watched
	for leads := leadsTo(path); ; {
		select {
		case <-ctx.Done():
			return
		case <-watcher.Errors: // events were lost
			changed()
		case event := <-watcher.Events:
			if event.Has(fsnotify.Remove|fsnotify.Rename) && filepath.Clean(event.Name) == filepath.Clean(directory) {
				return
			}
			now := leadsTo(path)
			if filepath.Base(event.Name) == filepath.Base(path) || now != leads {
				changed()
			}
			leads = now
		}
	}
}

// leadsTo returns where a path leads; "" if nowhere. Kubernetes changes files that it
// mounts by a link to another directory, which has no file's name.
func leadsTo(path string) string {
	end, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return end
}
