package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/kitexproxy/kitexproxy/proxy/admin"
)

// errStarting and errDraining are why a proxy takes no calls.
var (
	errStarting = errors.New("the proxy is starting")
	errDraining = errors.New("the proxy is draining")
)

// newAdmin returns what answers at the admin address, nil if there is none.
func (p *Proxy) newAdmin() *admin.Admin {
	if p.cfg.Admin == nil {
		return nil
	}
	var figures http.Handler
	if m := p.relay.reports.metrics; m != nil {
		figures = m.Handler()
	}
	return admin.New(admin.Options{
		Ready: p.readiness, Metrics: figures, Logger: p.log,
		Views: map[string]func() any{
			"clusters": func() any { return p.Clusters() },
			"stats":    func() any { return p.Stats() },
		},
	})
}

// readiness returns nil if the proxy takes calls, and otherwise why it does not.
func (p *Proxy) readiness() error {
	select {
	case <-p.ready:
	default:
		return errStarting
	}
	if p.servers.life.Err() != nil {
		return errDraining
	}
	return nil
}

// serveAdmin answers at the admin address until the function that it returns is called.
func (p *Proxy) serveAdmin() (stop func(), err error) {
	if p.admin == nil {
		return func() {}, nil
	}
	ln, err := listen(p.cfg.Admin.Address, adminAddress)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	p.adminAddr = ln.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		if err := p.admin.Serve(ctx, ln); err != nil {
			p.log.Error("the admin address is not served any more", "error", err)
		}
	}()
	return func() { cancel(); <-ended }, nil
}

// AdminAddr returns the admin address, nil if there is none, with the actual port where
// the configuration says 0. It is valid once Ready is closed.
func (p *Proxy) AdminAddr() net.Addr { return p.adminAddr }

// HTTPAddrs returns the addresses listened on for HTTP; see Addrs.
func (p *Proxy) HTTPAddrs() []net.Addr { return p.http.addrs() }
