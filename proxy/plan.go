package proxy

import (
	"maps"
	"slices"

	"github.com/kitexproxy/kitexproxy/conf"
)

// MethodPlan is what happens to the calls of one method.
type MethodPlan struct {
	// Method is the full method name, or "*" for all that are not known.
	Method string
	// Route names the route that takes them, "" if none does.
	Route string
	// When is what else a call must be like to go by that route, "" for nothing. A
	// method whose routes have conditions has a plan for each.
	When string
	// Mode and Cluster are the route's.
	Mode    conf.Mode
	Cluster string
	// Interceptors are the names of what is around them, the outermost first. That of a
	// listener alone is behind its address: "127.0.0.1:8888: clients".
	Interceptors []string
	// Filters are the names of the filters in order, each with the point of the
	// call where it is asked: "request main.shout".
	Filters []string
	// Schema says where the types of the messages come from, "" if they are not
	// known.
	Schema string
}

// Plan returns what a proxy with this configuration does with each method that
// it knows of, by name, and behind those with all others. It opens no
// connections. The errors are New's.
func Plan(cfg *conf.Config, opts ...Option) ([]MethodPlan, error) {
	o := newOptions(opts)
	f, err := validate(cfg, o)
	if err != nil {
		return nil, err
	}
	p := planner{filters: f, around: interceptorsOf(cfg, o)}
	places := placesOf(cfg)
	known := make(map[string]bool)
	for method := range f.typed.Methods() {
		known[method] = true
	}
	for _, method := range f.dynamic.methods() {
		known[method] = true
	}
	for i := range cfg.Routes {
		if m := cfg.Routes[i].Match.Method; m != "" {
			known[m] = true
		}
	}
	var plans []MethodPlan
	for _, method := range slices.Sorted(maps.Keys(known)) {
		plans = append(plans, p.plans(method, method, placesFor(places, method))...)
	}
	for i := range places {
		if pattern, any := places[i].pattern(); any != "" {
			plans = append(plans, p.plans(pattern, any, places[i:i+1])...)
		}
	}
	if cfg.Default == nil {
		return append(plans, MethodPlan{Method: "*", Interceptors: p.around}), nil
	}
	return append(plans, p.plans("*", "*", places[len(places)-1:])...), nil
}

// interceptorsOf names what is around all calls, and around those of each listener.
func interceptorsOf(cfg *conf.Config, o *options) []string {
	var all []string
	for _, l := range o.always {
		all = append(all, l.Name)
	}
	add := func(address string, names []string) {
		for _, name := range names {
			all = append(all, address+": "+name)
		}
	}
	for _, l := range cfg.Listeners {
		add(l.Address, l.Interceptors)
	}
	for _, l := range listenersOf(cfg.HTTP) {
		add(l.Address, l.Interceptors)
	}
	return all
}

// pattern returns what the place matches beside single methods, and the name of a
// method of those that nobody knows; "" if it matches a method or is the default.
func (p *place) pattern() (pattern, any string) {
	switch m := p.match; {
	case m == nil || m.Method != "":
		return "", ""
	case m.Service != "":
		return "/" + m.Service + "/*", "/" + m.Service + "/"
	case m.Package != "":
		return "/" + m.Package + ".*", "/" + m.Package + ".-/"
	default:
		return "*", "*"
	}
}

// planner is what plans are made of.
type planner struct {
	filters filters
	around  []string // the names of what is around all calls
}

// plans says what happens to calls of a method at each of some places. shown is what
// people are to see as the method.
func (l *planner) plans(shown, method string, places []place) []MethodPlan {
	var all []MethodPlan
	for i := range places {
		all = append(all, l.plan(shown, method, &places[i]))
	}
	if len(all) == 0 {
		return []MethodPlan{{Method: shown, Interceptors: l.around}}
	}
	return all
}

func (l *planner) plan(shown, method string, at *place) MethodPlan {
	target := at.target()
	p := MethodPlan{Method: shown, Route: at.name, When: at.conditions(), Mode: target.Mode, Cluster: at.clusters()}
	p.Interceptors = slices.Concat(l.around, at.action.Interceptors)
	switch {
	case target.Mode == conf.ModeDynamic:
		p.Schema = l.filters.dynamic.describe(target.Route)
	case l.filters.typed.Knows(method):
		p.Schema = "generated"
	}
	if chain := l.filters.chain(method, target); chain != nil {
		for _, filter := range chain.Filters() {
			p.Filters = append(p.Filters, filter.Point().String()+" "+filter.String())
		}
	}
	return p
}
