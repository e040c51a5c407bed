package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/rule"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// dynamic is what the routes with mode: dynamic need: schemas, and rules made
// into filters by them.
type dynamic struct {
	cfg     *conf.Config
	places  []place
	sources map[string]*source       // by the schema's name
	routes  map[string]*dynamicRoute // by the route's name
	gateway []*source                // whose services the gateway has
	cancel  context.CancelFunc       // ends compiling, once started
}

// source is a schema that is used.
type source struct {
	name   string
	fixed  *schema.Schema                // nil for one that backends tell
	asks   *conf.Reflection              // nil for one that is fixed
	live   *schema.Live                  // of asks, once started
	known  *schema.Schema                // what the generation before was told of asks; nil for nothing
	kept   bool                          // known is in use: nothing has to be waited for
	routes []*dynamicRoute               // whose rules need it
	shown  bool                          // the gateway has its services
	told   atomic.Pointer[schema.Schema] // what backends have told, and fits the rules
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
	if cfg.HTTP != nil && cfg.HTTP.Gateway != nil {
		for _, name := range cfg.HTTP.Gateway.Schemas {
			errs = append(errs, d.addGateway(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return d, err
	}
	return d, d.checkFunctions()
}

// addGateway takes in a schema whose services the gateway has.
func (d *dynamic) addGateway(name string) error {
	src, err := d.source(name)
	if src != nil {
		src.shown = true
		d.gateway = append(d.gateway, src)
	}
	return err
}

// services returns those that the gateway has, as far as they are known.
func (d *dynamic) services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, src := range d.gateway {
		s := src.fixed
		if s == nil {
			s = src.told.Load()
		}
		if s != nil {
			all = slices.AppendSeq(all, s.Services())
		}
	}
	return all
}

// checkFunctions returns which functions are methods that the gateway will never have: all
// its schemas are files, and none has them.
func (d *dynamic) checkFunctions() error {
	if d.cfg.HTTP == nil || d.cfg.HTTP.Functions == nil || slices.ContainsFunc(d.gateway, func(s *source) bool { return s.fixed == nil }) {
		return nil
	}
	services, routes := d.services(), d.cfg.HTTP.Functions.Routes
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		if method := routes[name].Method; method != "" && !hasMethod(services, method) {
			path := conf.KeyPath("http.functions.routes", name) + ".method"
			errs = append(errs, fmt.Errorf("%s: no schema of http.gateway has %s", path, method))
		}
	}
	return errors.Join(errs...)
}

func hasMethod(services []protoreflect.ServiceDescriptor, full string) bool {
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return slices.ContainsFunc(services, func(s protoreflect.ServiceDescriptor) bool {
		return string(s.FullName()) == service && s.Methods().ByName(protoreflect.Name(method)) != nil
	})
}

// addRoute takes in a route that is dynamic.
func (d *dynamic) addRoute(p *place) error {
	src, err := d.source(p.action.Schema)
	if src == nil {
		return err
	}
	r := &dynamicRoute{place: p, source: src}
	clusters := slices.Sorted(maps.Keys(d.cfg.Clusters))
	for i := range p.action.Rules {
		r.rules = append(r.rules, ruleOf(&p.action.Rules[i]))
		r.rules[i].Clusters = clusters
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
