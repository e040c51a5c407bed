package proxy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
)

// errStopped is the error of a reload that comes too late.
var errStopped = errors.New("the proxy has been stopped")

// Reload has calls that begin from now on go by another configuration, as a whole.
// Calls under way end by the one they began with. Connections to clients stay, and so
// do those to backends whose address and TLS have not changed. Of a cluster that has
// changed, its limits and what its calls have shown of instances begin anew; what
// discovery and health checks have found does not.
//
// What takes another start is left as it was, with a warning in the log that names
// it; see NeedsRestart. After an error, which is as New's, nothing has changed. It
// waits for instances, schemas and keys of tokens that are new as long as
// timeouts.connect, or until ctx ends, and goes on without what has not come by then.
//
// It may be called concurrently; reloads wait for each other, and so does the end of
// Shutdown.
func (r *Relay) Reload(ctx context.Context, cfg *conf.Config) error {
	if err := r.opts.toValidate(cfg).ValidateRouting(); err != nil {
		return err
	}
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.stopped {
		return errStopped
	}
	before := r.current.Load()
	next, err := r.newGeneration(cfg, before)
	if err != nil {
		return err
	}
	// Calls go on with what is known of the clusters that are to change. Two watches of
	// one name would take turns in telling the pool what there is.
	before.stop(next)
	next.start(r, before)
	if err := next.await(ctx, time.Duration(cfg.Timeouts.Connect)); err != nil {
		r.log.Warn("the new configuration begins without something that calls may need", "error", err)
	}
	r.current.Store(next)
	for name := range before.clusters {
		if next.cluster(name) == nil {
			r.backends.Forget(name)
		}
	}
	if changes := needsRestart(r.cfg, cfg); len(changes) > 0 {
		r.log.Warn("some changes take another start", "settings", strings.Join(changes, ", "))
	}
	return nil
}

// NeedsRestart returns the settings in which two configurations differ and that a
// proxy takes in when it starts, and at no reload.
func NeedsRestart(before, after *conf.Config) []string {
	return append(needsRestart(before, after), switchedTLS(before, after)...)
}

// needsRestart is NeedsRestart for a relay, which has no listeners.
func needsRestart(before, after *conf.Config) []string {
	var all []string
	for _, s := range []struct {
		path    string
		changed bool
	}{
		{"transport", before.Transport != after.Transport},
		{"timeouts.connect", before.Timeouts.Connect != after.Timeouts.Connect},
		{"timeouts.shutdown", before.Timeouts.Shutdown != after.Timeouts.Shutdown},
		{"timeouts.keepalive", before.Timeouts.Keepalive != after.Timeouts.Keepalive},
		{"timeouts.idle_connection", before.Timeouts.IdleConnection != after.Timeouts.IdleConnection},
		{"limits.message", before.Limits.Message != after.Limits.Message},
		{"limits.header_list", before.Limits.HeaderList != after.Limits.HeaderList},
		{"limits.streams_per_connection", before.Limits.StreamsPerConnection != after.Limits.StreamsPerConnection},
		{"limits.connections", before.Limits.Connections != after.Limits.Connections},
		{"limits.stream_window", before.Limits.StreamWindow != after.Limits.StreamWindow},
		{"limits.connection_window", before.Limits.ConnectionWindow != after.Limits.ConnectionWindow},
		{"log.format", before.Log.Format != after.Log.Format},
		{"access_log", !reflect.DeepEqual(before.AccessLog, after.AccessLog)},
		{"metrics", !reflect.DeepEqual(before.Metrics, after.Metrics)},
		{"tracing", !reflect.DeepEqual(before.Tracing, after.Tracing)},
		{"admin", !reflect.DeepEqual(before.Admin, after.Admin)},
	} {
		if s.changed {
			all = append(all, s.path)
		}
	}
	return all
}

// switchedTLS returns where a listener begins with TLS, or ends it: it cannot be bound
// a second time while the first one is open.
func switchedTLS(before, after *conf.Config) []string {
	old := encryptions(before)
	var all []string
	for _, l := range encryptions(after) {
		if slices.ContainsFunc(old, func(o encryption) bool {
			return o.list == l.list && o.address == l.address && (o.tls == nil) != (l.tls == nil)
		}) {
			all = append(all, l.path)
		}
	}
	return all
}

// encryption is how one listener of a configuration encrypts.
type encryption struct {
	list, address string
	path          string            // of tls in the configuration
	tls           *conf.ListenerTLS // nil for plaintext
}

// encryptions are those of all listeners, for gRPC and for HTTP.
func encryptions(cfg *conf.Config) []encryption {
	var all []encryption
	add := func(list string, i int, address string, cfg *conf.ListenerTLS) {
		all = append(all, encryption{list, address, conf.KeyPath(conf.ItemPath(list, i), "tls"), cfg})
	}
	for i, l := range cfg.Listeners {
		add("listeners", i, l.Address, l.TLS)
	}
	for i, l := range listenersOf(cfg.HTTP) {
		add("http.listeners", i, l.Address, l.TLS)
	}
	return all
}

// Reload is the Relay's, and takes in the listeners as well: new ones are bound before
// anything changes, and those that are gone take no new connections, while the calls
// on theirs may go on for timeouts.shutdown. After an error nothing has changed, unless
// the error says so. It is for the time from Ready to the end of Run. The level of the
// log is the caller's to change.
func (p *Proxy) Reload(ctx context.Context, cfg *conf.Config) error {
	err := p.reload(ctx, cfg)
	if m := p.relay.reports.metrics; m != nil {
		m.Reloaded(err)
	}
	return err
}

// ReloadFailed counts a reload that has not come to Reload, because there is no valid
// configuration to be put into use.
func (p *Proxy) ReloadFailed(err error) {
	if m := p.relay.reports.metrics; m != nil {
		m.Reloaded(err)
	}
}

// ReopenLogs begins the file of the access log anew, for those who rotate it by renaming.
func (p *Proxy) ReopenLogs() { p.relay.reports.reopen(p.log) }

func (p *Proxy) reload(ctx context.Context, cfg *conf.Config) error {
	if err := p.relay.opts.toValidate(cfg).Validate(); err != nil {
		return err
	}
	p.servers.changing.Lock()
	defer p.servers.changing.Unlock()
	if err := p.isServing(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.servers.life, func() { cancel(errStopped) })()
	listeners, err := p.servers.prepare(cfg.Listeners)
	if err != nil {
		return err
	}
	forHTTP, err := p.http.prepare(cfg.HTTP)
	if err != nil {
		closeAll(listeners.opened)
		return err
	}
	if err := p.relay.Reload(ctx, cfg); err != nil {
		closeAll(listeners.opened)
		closeAllHTTP(forHTTP.opened)
		return err
	}
	p.servers.apply(listeners)
	p.http.apply(forHTTP, time.Duration(p.cfg.Timeouts.Shutdown))
	return p.awaitOpened(ctx, listeners.opened)
}

// errNotReady is the error of a reload that comes too early.
var errNotReady = errors.New("the proxy is not ready yet")

// isServing returns why there is nothing to change at present.
func (p *Proxy) isServing() error {
	select {
	case <-p.ready:
	default:
		return errNotReady
	}
	if p.servers.life.Err() != nil {
		return errStopped
	}
	return nil
}

// awaitOpened waits until listeners that a reload has opened answer.
func (p *Proxy) awaitOpened(ctx context.Context, opened []*front) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errNotServing)
	defer cancel()
	if err := p.probeAll(ctx, opened); err != nil {
		return fmt.Errorf("the new configuration is in use, but: %w", err)
	}
	return nil
}
