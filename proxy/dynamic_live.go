package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// start begins to ask backends for their schemas. close ends it. What they have told
// the generation before, which may be nil, is in use until they answer, as far as the
// rules fit it.
func (d *dynamic) start(r *Relay, g, before *generation) {
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	for _, src := range d.sources {
		if src.asks == nil || len(src.routes) == 0 && !src.shown { // it is fixed, or nothing needs it
			continue
		}
		if src.known = before.told(src); src.known != nil {
			src.kept = d.changed(ctx, g, src, src.known) == nil // or else the calls wait for what is told next
		}
		src.live = schema.NewLive(
			func(ctx context.Context) (*schema.Schema, error) {
				return schema.Reflect(ctx, r.openerTo(g.clusters[src.asks.Cluster].Cluster), schema.Limits{})
			},
			schema.LiveOptions{
				Refresh: time.Duration(src.asks.Refresh),
				Changed: func(s *schema.Schema) error { return d.changed(ctx, g, src, s) },
				Logger:  r.log.With("schema", src.name),
			},
		)
	}
}

// told returns what backends have told for a source like this one, nil for nothing.
func (g *generation) told(like *source) *schema.Schema {
	if g == nil {
		return nil
	}
	src := g.filters.dynamic.sources[like.name]
	if src == nil || src.live == nil || !reflect.DeepEqual(src.asks, like.asks) {
		return nil
	}
	return cmp.Or(src.live.Current(), src.known)
}

// changed has the rules compiled by a schema that backends have told, and the gateway
// know its services. If anything does not fit, all stays as it is. A panic is an error, too: what backends tell must
// not end the proxy.
func (d *dynamic) changed(ctx context.Context, g *generation, src *source, s *schema.Schema) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	all := make([]map[string]*filter.Chain, len(src.routes))
	var errs []error
	for i, r := range src.routes {
		chains, err := d.compile(ctx, r, s)
		all[i] = chains
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	before := src.told.Swap(s)
	if err := g.publish(); err != nil {
		src.told.Store(before)
		return err
	}
	for i, r := range src.routes {
		r.chains.Store(&all[i])
	}
	return nil
}

// publish has the gateways know the services of their schemas, as far as those are known.
func (g *generation) publish() error {
	g.publishing.Lock()
	defer g.publishing.Unlock()
	services := g.filters.dynamic.services()
	if len(services) == 0 {
		return nil
	}
	return at("http.gateway", g.web.use(services))
}

// await waits for the schemas that backends tell until ctx ends, and returns why
// there are some missing.
func (d *dynamic) await(ctx context.Context) error {
	var errs []error
	for _, src := range d.sources {
		if src.live == nil || src.kept { // what is told is in use only when live has it
			continue
		}
		if _, err := src.live.Await(ctx); err != nil {
			errs = append(errs, fmt.Errorf("schema %q: %w; calls %s are answered with UNAVAILABLE for now", src.name, err, src.needed()))
		}
	}
	return errors.Join(errs...)
}

// needed says which calls need the schema.
func (s *source) needed() string {
	if len(s.routes) == 0 {
		return "that need it"
	}
	return "whose rules need it"
}

func (d *dynamic) close() {
	if d.cancel != nil {
		d.cancel()
	}
	for _, src := range d.sources {
		if src.live != nil {
			src.live.Close()
		}
	}
}

// openerTo returns what opens calls of the proxy's own to a cluster. Instances
// that are known to be down are asked last.
func (r *Relay) openerTo(c *cluster.Cluster) schema.Opener {
	return func(ctx context.Context, req *stream.Request) (out stream.Outbound, err error) {
		req.Authority = c.Name()
		var t tries.Tries
		t.Begin(c, "")
		for {
			instance, none := t.Next(func(address string) bool { return r.backends.Down(c.Name(), address) })
			if none != nil {
				return nil, none
			}
			if out, err = r.backends.Open(ctx, c.Name(), instance.Address(), req); err == nil || ctx.Err() != nil {
				return out, err
			}
			if !t.MayGoOn(stream.AsFailure(err)) {
				return nil, err
			}
		}
	}
}
