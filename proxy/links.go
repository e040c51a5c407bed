package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/auth"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/limit"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// WithInterceptors adds interceptors around all calls, behind those that there are: the
// first is outermost. What the configuration has around calls is inside of them.
func WithInterceptors(interceptors ...intercept.Interceptor) Option {
	return func(o *options) {
		for _, f := range interceptors {
			o.always = append(o.always, inLink(intercept.Link{Name: filter.FunctionName(f), Interceptor: f}))
		}
	}
}

// WithGuards is WithInterceptors for guards, which cost a call less.
func WithGuards(guards ...intercept.Guard) Option {
	return func(o *options) {
		for _, f := range guards {
			o.always = append(o.always, inLink(intercept.Link{Name: filter.FunctionName(f), Guard: f}))
		}
	}
}

// WithLinks makes links known by their names, for the lists of interceptors that the
// configuration's listeners and routes have.
func WithLinks(links ...intercept.Link) Option {
	return func(o *options) {
		for _, l := range links {
			o.named[l.Name] = inLink(l)
		}
	}
}

// LinkNames returns the names of the links that options make known, in no order: for
// conf.GoInterceptors.
func LinkNames(opts ...Option) []string { return slices.Collect(maps.Keys(newOptions(opts).named)) }

// inLink returns a link of the program whose errors may have a status of Kitex's.
func inLink(l intercept.Link) intercept.Link {
	made := intercept.Link{Name: l.Name}
	if l.Guard != nil {
		made.Guard = func(c *intercept.Call) error { return inGRPC(l.Guard(c)) }
	}
	if l.Interceptor != nil {
		made.Interceptor = func(ctx context.Context, c *intercept.Call, next intercept.Next) error {
			return inGRPC(l.Interceptor(ctx, c, next))
		}
	}
	return made
}

// checkLinks returns an error for links of the program that have no function, which would
// end each call, or two, of which one would not be asked.
func (o *options) checkLinks() error {
	for _, l := range slices.Concat(o.always, slices.Collect(maps.Values(o.named))) {
		switch {
		case l.Guard == nil && l.Interceptor == nil:
			return fmt.Errorf("interceptor %q of the program has no function", l.Name)
		case l.Guard != nil && l.Interceptor != nil:
			return fmt.Errorf("interceptor %q of the program is a guard and an interceptor; make two of it", l.Name)
		}
	}
	return nil
}

// link is an interceptor of the configuration in use.
type link struct {
	intercept.Link
	cfg          *conf.Interceptor
	start, close func()                          // what runs beside calls; nil for nothing
	await        func(ctx context.Context) error // waits for what calls need of it; nil for nothing
}

// around is what a configuration has around calls.
type around struct {
	links     map[string]*link            // of the configuration, by name
	always    []intercept.Link            // for who comes in by none of listeners
	listeners map[string][]intercept.Link // by address, with those that are always
	routes    map[string][]intercept.Link // by the name of the route
}

// newAround makes what a valid configuration has around calls. Interceptors that are as
// they were in the generation before, which may be nil, are taken over with what they
// have counted. Nothing runs for the others before start.
func newAround(cfg *conf.Config, o *options, before *generation) (around, error) {
	a := around{
		links: make(map[string]*link), always: o.always,
		listeners: make(map[string][]intercept.Link), routes: make(map[string][]intercept.Link),
	}
	errs := []error{o.checkLinks()}
	for _, name := range slices.Sorted(maps.Keys(cfg.Interceptors)) {
		made := cfg.Interceptors[name]
		if old := before.link(name); old != nil && reflect.DeepEqual(old.cfg, made) {
			a.links[name] = old
			continue
		}
		l, err := newLink(name, made, o.logger)
		if err != nil {
			errs = append(errs, at(conf.KeyPath("interceptors", name), err))
			continue
		}
		a.links[name] = l
	}
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	for _, l := range cfg.Listeners {
		errs = append(errs, a.listen(l.Address, l.Interceptors, o))
	}
	for _, l := range listenersOf(cfg.HTTP) {
		errs = append(errs, a.listen(l.Address, l.Interceptors, o))
	}
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	for _, p := range placesOf(cfg) {
		if len(p.action.Interceptors) > 0 {
			a.routes[p.name] = a.list(p.action.Interceptors, o)
		}
	}
	return a, nil
}

// listen notes the links of a listener. The error is for one whose address does not tell
// it from another one, as both have a free port, and which has other links.
func (a *around) listen(address string, names []string, o *options) error {
	links := slices.Concat(o.always, a.list(names, o))
	sameName := func(x, y intercept.Link) bool { return x.Name == y.Name }
	if others, ok := a.listeners[address]; ok && !slices.EqualFunc(others, links, sameName) {
		return fmt.Errorf("listener %s: another one at this address, which says that any port will do, has other interceptors; "+
			"give one of them a port", address)
	}
	a.listeners[address] = links
	return nil
}

// list returns the links of these names.
func (a *around) list(names []string, o *options) []intercept.Link {
	var all []intercept.Link
	for _, name := range names {
		if l := a.links[name]; l != nil {
			all = append(all, l.Link)
		} else {
			all = append(all, o.named[name])
		}
	}
	return all
}

// start begins what the links need beside calls, but for those that are of the generation
// before, which may be nil.
func (a *around) start(before *generation) {
	for name, l := range a.links {
		if l.start != nil && before.link(name) != l {
			l.start()
		}
	}
}

// await waits for what calls need of the links, until ctx ends, and returns what is
// missing.
func (a *around) await(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.links)) {
		if l := a.links[name]; l.await != nil {
			errs = append(errs, at(conf.KeyPath("interceptors", name), l.await(ctx)))
		}
	}
	return errors.Join(errs...)
}

// close ends what runs for the links, but for those that another generation, which may
// be nil, has taken over.
func (a *around) close(other *generation) {
	for name, l := range a.links {
		if l.close != nil && other.link(name) != l {
			l.close()
		}
	}
}

// link returns the configured link of that name, nil if there is none.
func (g *generation) link(name string) *link {
	if g == nil {
		return nil
	}
	return g.around.links[name]
}

// of returns the links of who comes in by a listener.
func (a *around) of(listener string) []intercept.Link {
	if links, ok := a.listeners[listener]; ok {
		return links
	}
	return a.always
}

// isThere reports whether anything may be around calls that come in by a listener.
func (a *around) isThere(listener string) bool { return len(a.routes) > 0 || len(a.of(listener)) > 0 }

// links returns what is around calls on the way to a target.
func (r *Relay) links(t *resolver.Target) []intercept.Link {
	g, ok := t.Owner.(*generation)
	if !ok || len(g.around.routes) == 0 {
		return nil
	}
	return g.around.routes[t.Route]
}

// newLink makes a link of the configuration. Nothing runs for it before start.
func newLink(name string, cfg *conf.Interceptor, log *slog.Logger) (l *link, err error) {
	l = &link{cfg: cfg, Link: intercept.Link{Name: name}}
	log = log.With("interceptor", name)
	switch {
	case cfg.APIKeys != nil:
		var keys *auth.Keys
		if keys, err = auth.NewAPIKeys(apiKeysOf(cfg.APIKeys, log)); err == nil {
			l.Guard, l.start, l.close = keys.Guard, keys.Start, keys.Close
		}
	case cfg.JWT != nil:
		var tokens *auth.Tokens
		if tokens, err = auth.NewJWT(jwtOf(cfg.JWT, log)); err == nil {
			l.Guard, l.start, l.await, l.close = tokens.Guard, tokens.Start, tokens.Await, tokens.Close
		}
	case cfg.MTLS != nil:
		l.Guard, err = auth.NewMTLS(auth.MTLS{Identity: cfg.MTLS.Identity, Optional: cfg.MTLS.Optional})
	case cfg.Authorize != nil:
		l.Guard, err = auth.NewAuthorize(rulesOf(cfg.Authorize))
	case cfg.RequestID != nil:
		l.Guard, err = auth.NewRequestID(auth.RequestID{
			Header: cfg.RequestID.Header, Trust: cfg.RequestID.Trust, Response: cfg.RequestID.Response,
		})
	case cfg.RateLimit != nil:
		rate := cfg.RateLimit
		l.Guard, err = limit.NewRate(limit.Rate{
			Calls: rate.Calls, Messages: rate.Messages, Per: time.Duration(rate.Per), Burst: rate.Burst, Key: rate.Key, Keys: rate.Keys,
		})
	case cfg.ConcurrencyLimit != nil:
		busy := cfg.ConcurrencyLimit
		l.Guard, err = limit.NewConcurrency(limit.Concurrency{Calls: busy.Calls, Key: busy.Key, Keys: busy.Keys})
	default:
		err = fmt.Errorf("interceptor %q is of no kind", name)
	}
	return l, err
}

func apiKeysOf(c *conf.APIKeys, log *slog.Logger) auth.APIKeys {
	o := auth.APIKeys{Header: c.Header, File: c.File, Logger: log, Optional: c.Optional, Remove: c.Remove}
	for _, k := range c.Keys {
		o.Keys = append(o.Keys, auth.APIKey{Name: k.Name, SHA256: string(k.SHA256)})
	}
	return o
}

func jwtOf(c *conf.JWT, log *slog.Logger) auth.JWT {
	return auth.JWT{
		Header: c.Header,
		JWKS:   auth.JWKS{File: c.JWKS.File, URL: c.JWKS.URL, Refresh: time.Duration(c.JWKS.Refresh), CA: c.JWKS.CA},
		Issuer: c.Issuer, Audiences: c.Audiences, Algorithms: c.Algorithms, Identity: c.Identity,
		Leeway: time.Duration(c.Leeway), Claims: c.Claims, Optional: c.Optional, Remove: c.Remove, Logger: log,
	}
}

func rulesOf(rules []conf.AccessRule) []auth.Rule {
	all := make([]auth.Rule, len(rules))
	for i, r := range rules {
		all[i] = auth.Rule{Methods: r.Methods, Identities: r.Identities, Claims: r.Claims, Allow: r.Allow}
	}
	return all
}
