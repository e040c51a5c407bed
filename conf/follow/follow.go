// Package follow tells of files that change.
package follow

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// again is how soon a directory is looked for again that went away.
const again = time.Second

// File calls changed when it begins and whenever a file may have changed, until ctx
// ends. changed is called by one goroutine at a time and should not take long: events
// wait for it. A file that is not there may come to be.
//
// What is looked at are directories, since what is renamed into the place of the
// file, and a link that leads elsewhere, is another file: that of the file and those
// of the links on the way to it.
func File(ctx context.Context, path string, changed func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			for onItsWay(ctx, path, changed) { // there is another one now
			}
			timer.Reset(again)
		}
	}
}

// onItsWay is File as long as the links on the way to the file are as they are, and
// the directories are there. It reports whether the links have become others.
func onItsWay(ctx context.Context, path string, changed func()) (moved bool) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return false // the system has no more; another time it may
	}
	defer func() { _ = watcher.Close() }()
	now := wayTo(path)
	if !now.watch(watcher) && !exists(path) {
		return false
	}
	changed() // perhaps before it was watched
	for {
		if !slices.Equal(now.steps, wayTo(path).steps) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-watcher.Errors: // events were lost
			changed()
		case event := <-watcher.Events:
			if now.endsWith(event) {
				return false
			}
			if now.has(event) {
				changed()
			}
		}
	}
}

// way is how a path leads to a file.
type way struct {
	steps       []string // the path, and what it becomes by one link after the other
	directories []string // of the links and of the file
}

// maxLinks is how many links a path may have, as Linux has it. Those that lead in a
// circle are more.
const maxLinks = 40

func wayTo(path string) way {
	w := way{steps: []string{path}}
	for range maxLinks {
		link, next := firstLink(path)
		if link == "" {
			break
		}
		w.steps, w.directories = append(w.steps, next), append(w.directories, filepath.Dir(link))
		path = next
	}
	w.directories = append(w.directories, filepath.Dir(path))
	return w
}

// firstLink returns the first link among a path and the directories above, "" if there
// is none, and what the path is with that to which the link leads in its place.
func firstLink(path string) (link, next string) {
	path = filepath.Clean(path) // a link with a slash behind it is the directory
	above, name := filepath.Dir(path), filepath.Base(path)
	if above == path {
		return "", ""
	}
	if link, next = firstLink(above); link != "" {
		return link, filepath.Join(next, name)
	}
	to, err := os.Readlink(path)
	if err != nil {
		return "", ""
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(above, to)
	}
	return path, to
}

// watch reports false if one of the directories cannot be watched.
func (w *way) watch(watcher *fsnotify.Watcher) bool {
	all := true
	for _, directory := range w.directories {
		all = watcher.Add(directory) == nil && all
	}
	return all
}

// endsWith reports whether one of the directories has gone.
func (w *way) endsWith(event fsnotify.Event) bool {
	return event.Has(fsnotify.Remove|fsnotify.Rename) && slices.Contains(w.directories, filepath.Clean(event.Name))
}

// has reports whether something has happened to the file, or to a link to it.
func (w *way) has(event fsnotify.Event) bool {
	return slices.ContainsFunc(w.steps, func(step string) bool { return filepath.Base(step) == filepath.Base(event.Name) })
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
