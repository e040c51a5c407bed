package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/rule"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/handler/tries"
	"github.com/kitexproxy/kitexproxy/resolver"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// dynamic is what the routes with mode: dynamic need: schemas, and rules made
// into filters by them.
type dynamic struct {
	cfg     *conf.Config
	places  []place
	sources map[string]*source       // by the schema's name
	routes  map[string]*dynamicRoute // by the route's name
	cancel  context.CancelFunc       // ends compiling, once started
}

// source is a schema that is used.
type source struct {
	name   string
	fixed  *schema.Schema   // nil for one that backends tell
	asks   *conf.Reflection // nil for one that is fixed
	live   *schema.Live     // of asks, once started
	known  *schema.Schema   // what the generation before was told of asks; nil for nothing
	routes []*dynamicRoute  // whose rules need it
}

// dynamicRoute is a route with mode: dynamic.
type dynamicRoute struct {
	*place
	source *source
	rules  []rule.Rule
	chains atomic.Pointer[map[string]*filter.Chain] // by method; nil while the schema has not come
	absent *filter.Chain                            // until then
	// unknown is for methods that the schema does not have, nil if those cross as
	// in mode: frame.
	unknown *filter.Chain
}

// newDynamic compiles the schemas that are files, and the rules with them. What
// backends will tell is left for start, and the rules of such routes are checked
// as far as that goes. The error has each problem with its place in the file.
func newDynamic(cfg *conf.Config, places []place) (*dynamic, error) {
	d := &dynamic{cfg: cfg, places: places, sources: make(map[string]*source), routes: make(map[string]*dynamicRoute)}
	var errs []error
	for i := range places {
		if places[i].action.Mode == conf.ModeDynamic {
			errs = append(errs, d.addRoute(&places[i]))
		}
	}
	return d, errors.Join(errs...)
}

// addRoute takes in a route that is dynamic.
func (d *dynamic) addRoute(p *place) error {
	src, err := d.source(p.action.Schema)
	if src == nil {
		return err
	}
	r := &dynamicRoute{place: p, source: src}
	for i := range p.action.Rules {
		r.rules = append(r.rules, ruleOf(&p.action.Rules[i]))
		r.rules[i].Clusters = slices.Sorted(maps.Keys(d.cfg.Clusters))
	}
	r.addAffinity(d.cfg)
	d.routes[p.name] = r
	if r.isForAll() && p.match != nil && p.action.Undecodable != conf.UndecodableForward {
		r.unknown = filter.NewChain("", nil, nil, true, true)
		r.unknown.Add(filter.New("", filter.AtStart, "not in schema "+strconv.Quote(src.name), src.lacks))
	}
	if src.fixed == nil {
		return d.awaitSchema(r)
	}
	chains, err := d.compile(context.Background(), r, src.fixed)
	if err == nil {
		r.chains.Store(&chains)
	}
	return err
}

// addAffinity has the first message tell what its call has in common with others,
// where a cluster of the route balances by a field.
func (r *dynamicRoute) addAffinity(cfg *conf.Config) {
	for _, name := range r.action.Clusters() {
		on := cfg.Clusters[name].HashOn
		if on != nil && on.Field != "" {
			r.rules = append(r.rules, rule.Rule{
				Name: "hash_on of " + name, On: filter.AtRequest, Affinity: "string(message." + on.Field + ")",
			})
			return
		}
	}
}

// source returns the schema of that name, and compiles it when it is first asked
// for.
func (d *dynamic) source(name string) (*source, error) {
	if src, ok := d.sources[name]; ok {
		if src.fixed == nil && src.asks == nil {
			return nil, nil // reported already
		}
		return src, nil
	}
	s := d.cfg.Schemas[name]
	src := &source{name: name, asks: s.Reflection}
	d.sources[name] = src
	path := conf.KeyPath("schemas", name)
	var err error
	switch {
	case s.Reflection != nil:
		return src, nil
	case s.DescriptorSet != "":
		path = conf.KeyPath(path, "descriptor_set")
		src.fixed, err = schema.Read(s.DescriptorSet)
	default:
		path = conf.KeyPath(path, "files")
		src.fixed, err = schema.Compile(context.Background(), s.Files, s.ImportPaths)
	}
	if err == nil {
		return src, nil
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, d.cfg.ErrorAt(path, "", line, ""))
	}
	return nil, errors.Join(errs...)
}

// ruleOf returns a rule of the configuration as package rule has it.
func ruleOf(r *conf.Rule) rule.Rule {
	made := rule.Rule{
		Name: r.Name, On: points[r.On], If: r.If, Drop: r.Drop, Set: r.Set, Clear: r.Clear, Redact: r.Redact,
		Metadata: rule.Metadata{Set: r.Metadata.Set, Add: r.Metadata.Add, Remove: r.Metadata.Remove},
		Cluster:  r.Cluster,
	}
	if r.Reject != nil {
		made.Reject = &rule.Reject{Code: string(r.Reject.Code), Message: r.Reject.Message}
	}
	return made
}

var points = map[string]filter.Point{
	conf.OnStart: filter.AtStart, conf.OnRequest: filter.AtRequest, conf.OnHeader: filter.AtHeader,
	conf.OnResponse: filter.AtResponse, conf.OnEnd: filter.AtEnd,
}

// awaitSchema has the calls of a route refused until its schema has come. The
// error has what can be told of the rules without that.
func (d *dynamic) awaitSchema(r *dynamicRoute) error {
	if len(r.rules) == 0 {
		return nil
	}
	src := r.source
	src.routes = append(src.routes, r)
	r.absent = filter.NewChain("", nil, nil, true, true)
	r.absent.Add(filter.New("", filter.AtStart, "schema "+strconv.Quote(src.name), src.unavailable))
	var errs []error
	for i := range r.rules {
		r.absent.Add(placeholder(&r.rules[i]))
		for _, e := range ruleErrors(rule.Check(&r.rules[i])) {
			errs = append(errs, d.faultAt(r, i, e, ""))
		}
	}
	return errors.Join(errs...)
}

// placeholder is the filter of a rule until that can be compiled. It is there to
// be listed, and never asked: the call has been refused by then.
func placeholder(r *rule.Rule) *filter.Filter {
	name := "rule " + strconv.Quote(r.Name)
	if r.On == filter.AtEnd {
		return filter.NewEnd("", name, func(context.Context, *filter.Call, *filter.End) {})
	}
	return filter.New("", r.On, name, func(context.Context, *filter.Call, any) filter.Verdict {
		return filter.Reject(codes.Unavailable, "%s waits for its schema", name)
	})
}

// compile makes filters of the rules of a route, for each method of a schema that
// comes by it. The error has what is wrong with the route; it is ctx's if that
// ends.
func (d *dynamic) compile(ctx context.Context, r *dynamicRoute, s *schema.Schema) (map[string]*filter.Chain, error) {
	c := compilation{route: r, schema: s, chains: make(map[string]*filter.Chain), asked: make([]int, len(r.rules))}
	if err := d.count(&c); err != nil {
		return nil, err
	}
	for name, method := range s.Methods() {
		if _, comes := c.chains[name]; !comes {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if c.method(name, method); c.full() {
			break
		}
	}
	if err := d.wrong(&c); err != nil {
		return nil, err
	}
	return c.chains, nil
}

// count finds the methods that come by the route, and how many each rule is for.
func (d *dynamic) count(c *compilation) error {
	r, there, filters := c.route, false, 0
	for name, method := range c.schema.Methods() {
		if !r.takes(name) {
			continue
		}
		there = true
		if !comesBy(d.places, r.path, name) {
			continue // a route before this one has the method
		}
		c.chains[name] = nil
		for i := range r.rules {
			if r.isFor(i, method) {
				c.asked[i]++
				filters++
			}
		}
	}
	if !there {
		return d.cfg.ErrorAt(conf.KeyPath(r.path, "schema"), r.action.Schema, "has no "+r.wanted(), "")
	}
	if filters > maxReflected && r.source.asks != nil {
		return d.cfg.ErrorAt(conf.KeyPath(r.path, "rules"), "",
			fmt.Sprintf("are for too many methods: %d filters would be made of them, and %d is the limit with what backends tell", filters, maxReflected),
			"give the methods that need rules a route of their own")
	}
	return nil
}

// maxReflected is how many filters backends can make a route have, by telling of
// methods. Each takes some tenths of a millisecond to make, and 10 KiB.
const maxReflected = 10_000

// isFor reports whether the ith rule is for a method.
func (r *dynamicRoute) isFor(i int, method protoreflect.MethodDescriptor) bool {
	if i >= len(r.action.Rules) { // addAffinity's
		return true
	}
	only := r.action.Rules[i].Method
	return only == "" || only == string(method.Name())
}

// isForAll reports whether the route has a rule for all its methods.
func (r *dynamicRoute) isForAll() bool {
	return slices.ContainsFunc(r.action.Rules, func(rule conf.Rule) bool { return rule.Method == "" })
}

// wrong returns all that is wrong with a route, with the places in the
// configuration.
func (d *dynamic) wrong(c *compilation) error {
	r := c.route
	errs := d.lost(r, c.schema)
	for i, n := range c.asked[:len(r.action.Rules)] {
		if only := r.action.Rules[i].Method; n == 0 && only != "" {
			path := conf.KeyPath(r.rulePath(i), "method")
			errs = append(errs, d.cfg.ErrorAt(path, only, "is no method of "+r.match.Service, ""))
		}
	}
	slices.SortStableFunc(c.faults, func(a, b *fault) int { return cmp.Compare(a.rule, b.rule) })
	for _, f := range c.faults {
		errs = append(errs, d.faultAt(r, f.rule, f.Error, c.about(f)))
	}
	if c.full() {
		errs = append(errs, d.cfg.ErrorAt(conf.KeyPath(r.path, "rules"), "", fmt.Sprintf("have more problems; these are %d", len(c.faults)), ""))
	}
	return errors.Join(errs...)
}

// lost refuses a schema without the types of services that rules are in use for:
// to take it would be to leave out those rules. A service that the backends do
// not have any more is another matter.
func (d *dynamic) lost(r *dynamicRoute, s *schema.Schema) []error {
	before := r.chains.Load()
	if before == nil {
		return nil
	}
	ruled := make(map[string]bool) // services
	for method, chain := range *before {
		if chain != nil {
			ruled[resolver.ServiceOf(method)] = true
		}
	}
	var errs []error
	for _, m := range s.Missing() {
		if ruled[m.Service] && len(errs) < maxFaults {
			errs = append(errs, d.cfg.ErrorAt(conf.KeyPath(r.path, "schema"), r.action.Schema,
				fmt.Sprintf("has the service %s no more, which rules are for: %v", m.Service, m.Err), ""))
		}
	}
	return errs
}

// compilation is the rules of a route on their way to be filters.
type compilation struct {
	route  *dynamicRoute
	schema *schema.Schema
	chains map[string]*filter.Chain // by method; nil where no rule is for it
	asked  []int                    // how many methods each rule is for
	faults []*fault
}

// fault is one thing that is wrong with a rule.
type fault struct {
	rule int
	*rule.Error
	methods []string // for which it is wrong
}

// maxFaults is how many things may be wrong with a route before the rest of it
// is not looked at: a rule that is wrong for one method is so for many.
const maxFaults = 20

func (c *compilation) full() bool { return len(c.faults) >= maxFaults }

// method makes filters of the rules for one method.
func (c *compilation) method(name string, method protoreflect.MethodDescriptor) {
	for i := range c.route.rules {
		if !c.route.isFor(i, method) {
			continue
		}
		f, err := rule.Compile(&c.route.rules[i], method, c.schema.Types())
		if err != nil {
			c.note(i, name, err)
			continue
		}
		if c.chains[name] == nil {
			c.chains[name] = filter.NewChain(name, c.schema.Codec(method.Input()), c.schema.Codec(method.Output()),
				method.IsStreamingClient(), method.IsStreamingServer())
		}
		c.chains[name].Add(f)
		if c.route.rules[i].AwaitsFirst() {
			c.chains[name].AwaitFirst()
		}
	}
}

// note notes what is wrong with the ith rule for a method.
func (c *compilation) note(i int, method string, err error) {
	for _, e := range ruleErrors(err) {
		at := slices.IndexFunc(c.faults, func(f *fault) bool { return f.rule == i && *f.Error == *e })
		if at < 0 {
			at = len(c.faults)
			c.faults = append(c.faults, &fault{rule: i, Error: e})
		}
		c.faults[at].methods = append(c.faults[at].methods, method)
	}
}

// about says for which methods a rule is wrong, if not for all.
func (c *compilation) about(f *fault) string {
	switch n := len(f.methods); {
	case n == c.asked[f.rule] && !c.full():
		return ""
	case n == 1:
		return " (method " + f.methods[0] + ")"
	default:
		return fmt.Sprintf(" (method %s and %d more)", f.methods[0], n-1)
	}
}

// faultAt returns what is wrong with the ith rule of a route, with its place in
// the configuration.
func (d *dynamic) faultAt(r *dynamicRoute, i int, e *rule.Error, about string) error {
	if i >= len(r.action.Rules) {
		return d.cfg.ErrorAt(conf.KeyPath(r.path, "schema"), r.action.Schema, "does not fit the "+r.rules[i].Name+": "+e.Problem+about, e.Hint)
	}
	path, value := ruleField(r.rulePath(i), &r.action.Rules[i], e.Field)
	return d.cfg.ErrorAt(path, value, e.Problem+about, e.Hint)
}

func (r *dynamicRoute) rulePath(i int) string {
	return conf.ItemPath(conf.KeyPath(r.path, "rules"), i)
}

// ruleErrors takes apart what package rule has joined.
func ruleErrors(err error) []*rule.Error {
	if err == nil {
		return nil
	}
	var one *rule.Error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*rule.Error
		for _, e := range joined.Unwrap() {
			all = append(all, ruleErrors(e)...)
		}
		return all
	}
	if errors.As(err, &one) {
		return []*rule.Error{one}
	}
	return []*rule.Error{{Problem: err.Error()}}
}

// ruleField returns the path and the text of a field of a rule that package rule
// calls by a name such as "set.user.name".
func ruleField(base string, r *conf.Rule, field string) (path, value string) {
	for prefix, values := range map[string]map[string]string{"set.": r.Set, "metadata.set.": r.Metadata.Set, "metadata.add.": r.Metadata.Add} {
		if key, ok := strings.CutPrefix(field, prefix); ok {
			return conf.KeyPath(base+"."+strings.TrimSuffix(prefix, "."), key), values[key]
		}
	}
	switch field {
	case "":
		return base, ""
	case "if":
		value = r.If
	case "cluster":
		value = r.Cluster
	case "reject.message":
		value = r.Reject.Message
	}
	return base + "." + field, value
}

// filters returns the filters of a call on a dynamic route, nil if it has none.
func (d *dynamic) filters(method string, t *resolver.Target) *filter.Chain {
	r := d.routes[t.Route]
	if r == nil || len(r.rules) == 0 {
		return nil
	}
	chains := r.chains.Load()
	if chains == nil {
		return r.absent
	}
	if chain, known := (*chains)[method]; known {
		return chain
	}
	return r.unknown
}

// methods returns the methods that fixed schemas have and dynamic routes may take.
func (d *dynamic) methods() []string {
	var all []string
	for _, r := range d.routes {
		if chains := r.chains.Load(); chains != nil {
			all = slices.AppendSeq(all, maps.Keys(*chains))
		}
	}
	return all
}

// describe says where the types of a route's messages come from.
func (d *dynamic) describe(route string) string {
	src := d.routes[route].source
	if src.asks != nil {
		return fmt.Sprintf("schema %s (reflection of cluster %s)", src.name, src.asks.Cluster)
	}
	return "schema " + src.name
}

// start begins to ask backends for their schemas. close ends it. What they have told
// the generation before, which may be nil, is in use until they answer, as far as the
// rules fit it.
func (d *dynamic) start(r *Relay, g, before *generation) {
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	for _, src := range d.sources {
		if len(src.routes) == 0 { // no rule needs it, or it is fixed
			continue
		}
		if src.known = before.told(src); src.known != nil {
			_ = d.changed(ctx, src, src.known) // or else the calls wait for what is told next
		}
		src.live = schema.NewLive(
			func(ctx context.Context) (*schema.Schema, error) {
				return schema.Reflect(ctx, r.openerTo(g.clusters[src.asks.Cluster].Cluster), schema.Limits{})
			},
			schema.LiveOptions{
				Refresh: time.Duration(src.asks.Refresh),
				Changed: func(s *schema.Schema) error { return d.changed(ctx, src, s) },
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

// changed has the rules compiled by a schema that backends have told. If any does
// not fit, all stay as they are. A panic is an error, too: what backends tell must
// not end the proxy.
func (d *dynamic) changed(ctx context.Context, src *source, s *schema.Schema) (err error) {
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
	for i, r := range src.routes {
		r.chains.Store(&all[i])
	}
	return nil
}

// await waits for the schemas that backends tell until ctx ends, and returns why
// there are some missing.
func (d *dynamic) await(ctx context.Context) error {
	var errs []error
	for _, src := range d.sources {
		if src.live == nil || src.routes[0].chains.Load() != nil {
			continue
		}
		if _, err := src.live.Await(ctx); err != nil {
			errs = append(errs, fmt.Errorf("schema %q: %w; calls whose rules need it are answered with UNAVAILABLE for now", src.name, err))
		}
	}
	return errors.Join(errs...)
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

// unavailable is the filter of calls that come before their schema: to let them
// through would be to leave out the rules.
func (s *source) unavailable(context.Context, *filter.Call, any) filter.Verdict {
	return filter.Reject(codes.Unavailable, "the schema %q, which the rules of this route need, has not come from the backends of cluster %q yet",
		s.name, s.asks.Cluster)
}

// lacks is the filter of calls of methods that a schema does not have, on a route
// with rules for all methods: to let them through would be to leave those out.
func (s *source) lacks(_ context.Context, c *filter.Call, _ any) filter.Verdict {
	return filter.Reject(codes.Unimplemented, "the schema %q, which the rules of this route need, has no method %s", s.name, c.Method())
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
