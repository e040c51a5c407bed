package proxy

import (
	"maps"
	"slices"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// MethodPlan is what happens to the calls of one method.
type MethodPlan struct {
	// Method is the full method name, or "*" for all that are not known.
	Method string
	// Route names the route that takes them, "" if none does.
	Route string
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
	routes := resolver.New(cfg)
	f, err := newFilters(cfg, routes, newOptions(opts))
	if err != nil {
		return nil, err
	}
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
		plans = append(plans, f.plan(method, routes.Resolve(&resolver.Call{Method: method})))
	}
	for i := range cfg.Routes {
		if service := cfg.Routes[i].Match.Service; service != "" {
			name := "/" + service + "/"
			all := f.plan(name, routes.Resolve(&resolver.Call{Method: name}))
			all.Method = name + "*"
			plans = append(plans, all)
		}
	}
	return append(plans, f.plan("*", routes.Default())), nil
}

func (f filters) plan(method string, target *resolver.Target) MethodPlan {
	p := MethodPlan{Method: method}
	if target == nil {
		return p
	}
	p.Route, p.Mode, p.Cluster = target.Route, target.Mode, target.Cluster.Name
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
