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
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f, err := newFilters(cfg, newOptions(opts))
	if err != nil {
		return nil, err
	}
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
		plans = append(plans, f.plans(method, method, placesFor(places, method))...)
	}
	for i := range places {
		if pattern, any := places[i].pattern(); any != "" {
			plans = append(plans, f.plans(pattern, any, places[i:i+1])...)
		}
	}
	if cfg.Default == nil {
		return append(plans, MethodPlan{Method: "*"}), nil
	}
	return append(plans, f.plans("*", "*", places[len(places)-1:])...), nil
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

// plans says what happens to calls of a method at each of some places. shown is what
// people are to see as the method.
func (f filters) plans(shown, method string, places []place) []MethodPlan {
	var all []MethodPlan
	for i := range places {
		all = append(all, f.plan(shown, method, &places[i]))
	}
	if len(all) == 0 {
		return []MethodPlan{{Method: shown}}
	}
	return all
}

func (f filters) plan(shown, method string, at *place) MethodPlan {
	target := at.target()
	p := MethodPlan{Method: shown, Route: at.name, When: at.conditions(), Mode: target.Mode, Cluster: at.clusters()}
	switch {
	case target.Mode == conf.ModeDynamic:
		p.Schema = f.dynamic.describe(target.Route)
	case f.typed.Knows(method):
		p.Schema = "generated"
	}
	if chain := f.chain(method, target); chain != nil {
		for _, filter := range chain.Filters() {
			p.Filters = append(p.Filters, filter.Point().String()+" "+filter.String())
		}
	}
	return p
}
