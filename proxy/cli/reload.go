package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/proxy"
)

// reloader has a running proxy go by its file when that changes.
type reloader struct {
	proxy  *proxy.Proxy
	name   string // of the configuration, "" for the built-in one
	follow func(ctx context.Context, changed func())
	load   func(ctx context.Context) (*conf.Config, error) // reads it, with what flags say
	inUse  *conf.Config                                    // since the last reload that worked
	failed bool                                            // there has been one since that did not
	level  *slog.LevelVar
	log    *slog.Logger
}

// settle is how long a file must be as it is before it is read: editors write in
// several steps.
const settle = 100 * time.Millisecond

// notifyHangups has SIGHUP sent to a channel from now on, instead of ending the
// process.
func notifyHangups() (hangups chan os.Signal, stop func()) {
	hangups = make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups, func() { signal.Stop(hangups) }
}

// run reloads after each change of the file and at each hangup, until ctx ends.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	changes := make(chan struct{}, 1)
	followed := make(chan struct{})
	go func() { // ends with ctx
		defer close(followed)
		r.follow(ctx, func() { notice(changes) })
	}()
	defer func() { <-followed }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.proxy.ReopenLogs() // which may have been rotated
			r.reload(ctx, true)
		case <-changes: // one comes at the start, perhaps since the file was read
			if wait(ctx, settle) {
				drain(changes)
				r.reload(ctx, false)
			}
		}
	}
}

func notice(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // it has been told already
	}
}

func drain(changes <-chan struct{}) {
	select {
	case <-changes:
	default:
	}
}

// wait reports false if ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// reload reads the file and has the proxy go by it. What is wrong with it is logged,
// and changes nothing. asked is true if somebody waits to hear of it.
func (r *reloader) reload(ctx context.Context, asked bool) {
	next, err := r.load(ctx)
	if err != nil {
		r.failed = true
		r.log.Error("the configuration is not valid, and the one in use stays", "error", err)
		r.proxy.ReloadFailed(err)
		return
	}
	changes := conf.Diff(r.inUse, next)
	if len(changes) == 0 && !asked && !r.failed {
		return // it has been written, but says the same
	}
	err = r.proxy.Reload(ctx, next)
	r.failed = err != nil
	if ctx.Err() != nil {
		return // the program ends, and what it has cut short is nobody's fault
	}
	if err != nil {
		r.log.Error("the configuration cannot be used, and the one in use stays", "error", err)
		return
	}
	r.inUse = next
	var level slog.Level
	_ = level.UnmarshalText([]byte(next.Log.Level)) // valid
	r.level.Set(min(level, r.level.Level()))        // for either one to let this through
	r.log.Info("reloaded", "configuration", r.name, "changes", len(changes))
	r.level.Set(level)
}
