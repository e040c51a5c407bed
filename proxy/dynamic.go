package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	"github.com/kitexproxy/kitexproxy/resolver"
)

// dynamic is what the routes with mode: dynamic need: schemas, and rules made
// into filters by them.
type dynamic struct {
	cfg     *conf.Config
	sources map[string]*source       // by the schema's name
	routes  map[string]*dynamicRoute // by the route's name
}

// source is a schema that is used.
type source struct {
	name   string
	fixed  *schema.Schema   // nil for one that backends tell
	asks   *conf.Reflection // nil for one that is fixed
	live   *schema.Live     // of asks, once started
	routes []*dynamicRoute  // that use it
}

// dynamicRoute is a route with mode: dynamic.
type dynamicRoute struct {
	path   string      // of the action in the configuration
	match  *conf.Match // nil for the default
	action *conf.Action
	source *source
	rules  []rule.Rule
	chains atomic.Pointer[map[string]*filter.Chain] // by method; nil while the schema has not come
	absent *filter.Chain                            // until then
}

// newDynamic compiles the schemas that are files, and the rules with them. What
// backends will tell is left for start, and the rules of such routes are checked
// as far as that goes. The error has each problem with its place in the file.
func newDynamic(cfg *conf.Config) (*dynamic, error) {
	d := &dynamic{cfg: cfg, sources: make(map[string]*source), routes: make(map[string]*dynamicRoute)}
	var errs []error
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		errs = append(errs, d.addRoute(conf.ItemPath("routes", i), &r.Match, &r.Action))
	}
	if cfg.Default != nil {
		errs = append(errs, d.addRoute("default", nil, cfg.Default))
	}
	return d, errors.Join(errs...)
}

// addRoute takes in a route, if it is dynamic.
func (d *dynamic) addRoute(path string, match *conf.Match, action *conf.Action) error {
	if action.Mode != conf.ModeDynamic {
		return nil
	}
	src, err := d.source(action.Schema)
	if src == nil {
		return err
	}
	r := &dynamicRoute{path: path, match: match, action: action, source: src}
	for i := range action.Rules {
		r.rules = append(r.rules, ruleOf(&action.Rules[i]))
	}
	r.absent = filter.NewChain("", nil, nil, true, true)
	r.absent.Add(filter.New("", filter.AtStart, "schema "+src.name, src.unavailable))
	d.routes[path] = r
	src.routes = append(src.routes, r)
	if src.fixed != nil {
		return d.compile(r, src.fixed)
	}
	return d.check(r)
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

// check tells what can be told of the rules of a route without its schema.
func (d *dynamic) check(r *dynamicRoute) error {
	var errs []error
	for i := range r.rules {
		errs = append(errs, d.placed(r, i, "", rule.Check(&r.rules[i])))
	}
	return errors.Join(errs...)
}

// compile makes the rules of a route filters of all methods of a schema that it
// takes.
func (d *dynamic) compile(r *dynamicRoute, s *schema.Schema) error {
	chains := make(map[string]*filter.Chain)
	var errs []error
	taken := make([]bool, len(r.rules)) // rules that are for a method that there is
	for name, method := range s.Methods() {
		if !r.takes(name) {
			continue
		}
		chain, err := d.chain(r, s, name, method, taken)
		errs = append(errs, err)
		chains[name] = chain // nil if no rule is for it
	}
	if len(chains) == 0 {
		errs = append(errs, d.cfg.ErrorAt(conf.KeyPath(r.path, "schema"), r.action.Schema, "has "+r.wanted()+" not", ""))
	} else {
		for i, there := range taken {
			if only := r.action.Rules[i].Method; !there && only != "" {
				path := conf.KeyPath(conf.ItemPath(conf.KeyPath(r.path, "rules"), i), "method")
				errs = append(errs, d.cfg.ErrorAt(path, only, "is no method of "+r.match.Service, ""))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.chains.Store(&chains)
	return nil
}

// takes reports whether calls of a method may come by the route, as far as it is
// known: routes before it may take them.
func (r *dynamicRoute) takes(method string) bool {
	switch {
	case r.match == nil:
		return true
	case r.match.Method != "":
		return method == r.match.Method
	default:
		return resolver.ServiceOf(method) == r.match.Service
	}
}

// wanted names what the route's schema should have.
func (r *dynamicRoute) wanted() string {
	switch {
	case r.match == nil:
		return "any method"
	case r.match.Method != "":
		return "the method " + r.match.Method
	default:
		return "the service " + r.match.Service
	}
}

// chain returns the filters of one method, nil if no rule is for it.
func (d *dynamic) chain(r *dynamicRoute, s *schema.Schema, name string, method protoreflect.MethodDescriptor, taken []bool) (*filter.Chain, error) {
	var chain *filter.Chain
	var errs []error
	for i := range r.rules {
		if only := r.action.Rules[i].Method; only != "" && only != string(method.Name()) {
			continue
		}
		taken[i] = true
		f, err := rule.Compile(&r.rules[i], method, s.Types())
		if err != nil {
			errs = append(errs, d.placed(r, i, name, err))
			continue
		}
		if chain == nil {
			chain = filter.NewChain(name, s.Codec(method.Input()), s.Codec(method.Output()), method.IsStreamingClient(), method.IsStreamingServer())
		}
		chain.Add(f)
		if r.rules[i].Cluster != "" && r.rules[i].On == filter.AtRequest {
			chain.AwaitFirst()
		}
	}
	return chain, errors.Join(errs...)
}

// placed returns the errors of a rule with their places in the configuration.
// method is the one that the rule was compiled for, where there may be several.
func (d *dynamic) placed(r *dynamicRoute, i int, method string, err error) error {
	if err == nil {
		return nil
	}
	base := conf.ItemPath(conf.KeyPath(r.path, "rules"), i)
	about := ""
	if method != "" && (r.match == nil || r.match.Method == "") {
		about = " (method " + method + ")"
	}
	var errs []error
	for _, e := range ruleErrors(err) {
		path, value := ruleField(base, &r.action.Rules[i], e.Field)
		errs = append(errs, d.cfg.ErrorAt(path, value, e.Problem+about, e.Hint))
	}
	return errors.Join(errs...)
}

// ruleErrors takes apart what package rule has joined.
func ruleErrors(err error) []*rule.Error {
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
	return (*chains)[method]
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

// start begins to ask backends for their schemas. close ends it.
func (d *dynamic) start(r *Relay) {
	for _, src := range d.sources {
		if src.asks == nil {
			continue
		}
		src.live = schema.NewLive(
			func(ctx context.Context) (*schema.Schema, error) {
				return schema.Reflect(ctx, r.openerTo(src.asks.Cluster), schema.Limits{})
			},
			schema.LiveOptions{
				Refresh: time.Duration(src.asks.Refresh),
				Changed: func(s *schema.Schema) error { return d.changed(src, s) },
				Logger:  r.log.With("schema", src.name),
			},
		)
	}
}

// changed has the rules compiled by a schema that backends have told. If any does
// not fit, all stay as they are.
func (d *dynamic) changed(src *source, s *schema.Schema) error {
	before := make([]*map[string]*filter.Chain, len(src.routes))
	for i, r := range src.routes {
		before[i] = r.chains.Load()
	}
	for _, r := range src.routes {
		if err := d.compile(r, s); err != nil {
			for i, r := range src.routes {
				r.chains.Store(before[i])
			}
			return err
		}
	}
	return nil
}

// await waits for the schemas that backends tell, each no longer than patience,
// and returns why there are some missing.
func (d *dynamic) await(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var errs []error
	for _, src := range d.sources {
		if src.live == nil {
			continue
		}
		if _, err := src.live.Await(ctx); err != nil {
			errs = append(errs, fmt.Errorf("schema %q: %w", src.name, err))
		}
	}
	return errors.Join(errs...)
}

func (d *dynamic) close() {
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

// openerTo returns what opens calls of the proxy's own to a cluster.
func (r *Relay) openerTo(name string) schema.Opener {
	return func(ctx context.Context, req *stream.Request) (out stream.Outbound, err error) {
		cluster := r.routes.Cluster(name)
		req.Authority = name
		start := cluster.Start()
		for i := range cluster.Instances() {
			if out, err = r.backends.Open(ctx, name, cluster.Pick(start, i), req); err == nil {
				break
			}
		}
		return out, err
	}
}
