package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/kitexgrpc"
)

// Proxy is a relay with listeners. Create it with New and run it once.
type Proxy struct {
	cfg   *conf.Config
	log   *slog.Logger
	relay *Relay
	probe string // the method of the call that shows that a listener works

	ready chan struct{} // closed once calls are answered on all listeners
	addrs []net.Addr    // set before ready is closed
}

// New builds a proxy. It checks the configuration, but binds nothing yet.
func New(cfg *conf.Config, opts ...Option) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	o := newOptions(opts)
	relay, err := newRelay(cfg, o)
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: o.logger, relay: relay, ready: make(chan struct{})}
	// Nobody can guess the method, so it hides no backend's.
	p.probe = "/kitexproxy.Probe" + rand.Text() + "/Ready"
	p.relay.answerProbe(p.probe)
	return p, nil
}

// Ready returns a channel that is closed once calls are answered on all
// listeners.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Addrs returns the addresses listened on, in the order of the configuration,
// with the actual port where that says 0. It is valid once Ready is closed.
func (p *Proxy) Addrs() []net.Addr { return p.addrs }

// Stats returns the present figures.
func (p *Proxy) Stats() Stats { return p.relay.Stats() }

// Run listens and serves until ctx ends, then drains: clients are told to go
// elsewhere (GOAWAY), calls under way may finish until timeouts.shutdown is
// over, and are then ended with UNAVAILABLE. It returns nil after that, and
// otherwise the error that kept it from serving. Connections that clients do
// not close may last a second longer; nothing else is left running.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.relay.close()
	listeners, err := listenAll(p.cfg.Listeners)
	if err != nil {
		return err
	}
	p.relay.filters.dynamic.start(p.relay)
	for _, ln := range listeners {
		p.addrs = append(p.addrs, ln.Addr())
	}
	servers := newServers(p.relay, listeners)
	failed := servers.start()
	if err := p.awaitServing(ctx, failed); err != nil {
		servers.stop()
		return err
	}
	if err := p.relay.filters.dynamic.await(ctx, time.Duration(p.cfg.Timeouts.Connect)); err != nil {
		p.log.Warn("calls whose rules need this are answered with UNAVAILABLE for now", "error", err)
	}
	close(p.ready)
	p.log.Info("ready", "listening", addressList(p.addrs))

	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	p.drain(servers)
	return err
}

// awaitServing makes a call to every listener and returns once all have
// answered, or when that fails.
func (p *Proxy) awaitServing(ctx context.Context, failed <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errNotServing)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- p.probeAll(ctx) }() // ends with ctx
	select {
	case err := <-result:
		return err
	case err := <-failed:
		cancel()
		<-result
		return err
	}
}

// probeTimeout is how long the proxy's own listeners may take to answer.
const probeTimeout = 10 * time.Second

var errNotServing = errors.New("the listener does not answer")

func (p *Proxy) probeAll(ctx context.Context) error {
	for _, addr := range p.addrs {
		if err := kitexgrpc.Probe(ctx, conf.FormatAddress(addr), p.probe); err != nil {
			return fmt.Errorf("listener %s does not work: %w", addr, err)
		}
	}
	return nil
}

// drain ends service within timeouts.shutdown.
func (p *Proxy) drain(s *servers) {
	grace := time.Duration(p.cfg.Timeouts.Shutdown)
	p.log.Info("draining", "active_calls", p.Stats().ActiveCalls, "grace", grace)
	end := time.Now().Add(grace)
	// The last part of the time is for what ending takes.
	ctx, cancel := context.WithDeadline(context.Background(), end.Add(-min(grace/2, endingTime)))
	defer cancel()
	stopped := make(chan struct{})
	go func() { // ends kitexExitMargin after the grace time at the latest
		defer close(stopped)
		s.stop()
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
