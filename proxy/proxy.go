package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
	"github.com/kitexproxy/kitexproxy/handler/upstream"
	"github.com/kitexproxy/kitexproxy/proxy/admin"
)

// Proxy is a relay with listeners. Create it with New and run it once.
type Proxy struct {
	cfg     *conf.Config // that it was built with
	log     *slog.Logger
	relay   *Relay
	servers *servers
	http    *httpServers
	admin   *admin.Admin // nil for none
	probe   string       // the method of the call that shows that a listener works

	ready     chan struct{} // closed once calls are answered on all listeners
	adminAddr net.Addr      // set by then; nil for none
}

// New builds a proxy. It checks the configuration, but binds nothing, opens nothing and
// has nothing running yet: a proxy that is not run after all needs no end.
func New(cfg *conf.Config, opts ...Option) (*Proxy, error) {
	o := newOptions(opts)
	if err := o.toValidate(cfg).Validate(); err != nil {
		return nil, err
	}
	relay, err := newRelay(cfg, o)
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: o.logger, relay: relay, servers: newServers(relay), ready: make(chan struct{})}
	p.http = &httpServers{relay: relay, failed: p.servers.failed}
	p.admin = p.newAdmin()
	// Nobody can guess the method, so it hides no backend's.
	p.probe = "/kitexproxy.Probe" + rand.Text() + "/Ready"
	p.relay.answerProbe(p.probe)
	return p, nil
}

// Ready returns a channel that is closed once calls are answered on all
// listeners.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Addrs returns the addresses listened on, in the order of the configuration,
// with the actual port where that says 0; those that a reload has added come last.
// It is valid once Ready is closed.
func (p *Proxy) Addrs() []net.Addr { return p.servers.addrs() }

// Stats returns the present figures.
func (p *Proxy) Stats() Stats { return p.relay.Stats() }

// Run listens and serves until ctx ends, then drains: clients are told to go
// elsewhere (GOAWAY), calls under way may finish until timeouts.shutdown is
// over, and are then ended with UNAVAILABLE. It returns nil after that, and
// otherwise the error that kept it from serving. Connections that clients do
// not close may last a second longer; nothing else is left running.
func (p *Proxy) Run(ctx context.Context) error {
	var end time.Time // of the grace time, once that has begun
	defer func() { p.relay.close(end) }()
	if err := p.relay.open(); err != nil {
		return err
	}
	stopAdmin, err := p.serveAdmin()
	if err != nil {
		return err
	}
	defer stopAdmin()
	fronts, err := p.servers.openAll(p.cfg.Listeners)
	if err != nil {
		return err
	}
	forHTTP, err := p.http.openAll(listenersOf(p.cfg.HTTP))
	if err != nil {
		closeAll(fronts)
		return err
	}
	p.relay.start()
	p.servers.start(fronts)
	p.http.start(forHTTP)
	if err := p.awaitServing(ctx, fronts); err != nil {
		p.servers.stop()
		p.http.stop(ctx)
		return err
	}
	if err := p.relay.await(ctx); err != nil {
		p.log.Warn("something that calls may need has not come yet", "error", err)
	}
	close(p.ready)
	p.log.Info("ready", append([]any{"listening", addressList(p.Addrs())}, p.others()...)...)

	select {
	case err = <-p.servers.failed:
	case <-ctx.Done():
	}
	end = p.drain()
	return err
}

// awaitServing makes a call to every listener and returns once all have
// answered, or when that fails.
func (p *Proxy) awaitServing(ctx context.Context, fronts []*front) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errNotServing)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- p.probeAll(ctx, fronts) }() // ends with ctx
	select {
	case err := <-result:
		return err
	case err := <-p.servers.failed:
		cancel()
		<-result
		return err
	}
}

// probeTimeout is how long the proxy's own listeners may take to answer.
const probeTimeout = 10 * time.Second

var errNotServing = errors.New("the listener does not answer")

func (p *Proxy) probeAll(ctx context.Context, fronts []*front) error {
	for _, f := range fronts {
		if f.wantsCertificate() {
			continue // which the proxy has none of
		}
		peer := upstream.Peer{Address: conf.FormatAddress(f.ln.Addr())}
		if f.cfg.TLS != nil {
			// It is the proxy itself, at an address that its certificate need not be for.
			peer.TLS = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
		}
		if err := kitexgrpc.Probe(ctx, peer, p.probe); err != nil {
			return fmt.Errorf("listener %s does not work: %w", f.ln.Addr(), err)
		}
	}
	return nil
}

// drain ends service within timeouts.shutdown, and returns when that is over.
func (p *Proxy) drain() (end time.Time) {
	grace := time.Duration(p.cfg.Timeouts.Shutdown)
	p.log.Info("draining", "active_calls", p.Stats().ActiveCalls, "grace", grace)
	end = time.Now().Add(grace)
	// The last part of the time is for what ending takes.
	ctx, cancel := context.WithDeadline(context.Background(), end.Add(-min(grace/2, endingTime)))
	defer cancel()
	if p.admin != nil {
		p.admin.Drain()
	}
	stopped := make(chan struct{})
	go func() { // ends kitexExitMargin after the grace time at the latest
		defer close(stopped)
		var both sync.WaitGroup
		both.Go(func() { p.http.stop(ctx) })
		p.servers.stop()
		both.Wait()
	}()
	select {
	case <-stopped: // the connections are gone, and no call can come any more
	case <-ctx.Done():
	}
	p.relay.endCalls(ctx)
	select {
	case <-stopped:
	case <-time.After(max(time.Until(end), flushTime)):
		p.log.Warn("clients keep connections open that have no calls on them")
	}
	p.log.Info("stopped")
	return end
}

// others are what a log has of the addresses that are not for gRPC.
func (p *Proxy) others() []any {
	var all []any
	if addrs := p.HTTPAddrs(); len(addrs) > 0 {
		all = append(all, "http", addressList(addrs))
	}
	if p.adminAddr != nil {
		all = append(all, "admin", conf.FormatAddress(p.adminAddr))
	}
	return all
}

const (
	// endingTime is how long it takes, after the last call has ended, to get
	// the statuses written and the connections closed.
	endingTime = 500 * time.Millisecond
	// flushTime is the least that is left for that.
	flushTime = 100 * time.Millisecond
)

func addressList(addrs []net.Addr) string {
	list := make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = conf.FormatAddress(a)
	}
	return strings.Join(list, ",")
}
