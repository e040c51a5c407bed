package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// filters says which calls have filters.
type filters struct {
	typed   *filter.Set
	dynamic *dynamic
}

// newFilters checks that what the configuration says of modes and what the
// program knows of services and filters fit together.
func newFilters(cfg *conf.Config, routes *resolver.Table, o *options) (filters, error) {
	set, err := filter.NewSet(o.services, o.filters)
	if err != nil {
		return filters{}, err
	}
	f := filters{typed: set}
	var errs []error
	if f.dynamic, err = newDynamic(cfg); err != nil {
		errs = append(errs, err)
	}
	for chain := range set.Chains() {
		errs = append(errs, checkMode(chain, routes))
	}
	for i := range cfg.Routes {
		errs = append(errs, f.checkRoute(i, &cfg.Routes[i]))
	}
	return f, errors.Join(errs...)
}

// checkMode refuses filters that would never be asked.
func checkMode(chain *filter.Chain, routes *resolver.Table) error {
	method, first := chain.Method(), chain.Filters()[0]
	target := routes.Resolve(&resolver.Call{Method: method})
	switch {
	case target == nil:
		return fmt.Errorf("filter %s: no route takes its method %s; add one with mode: struct", first, method)
	case target.Mode != conf.ModeStruct:
		return fmt.Errorf("filter %s: its method %s goes by %s, which has mode: %s; write mode: struct there, or leave the filter out",
			first, method, target.Route, target.Mode)
	}
	return nil
}

// checkRoute refuses mode: struct for what nobody has the structs of.
func (f filters) checkRoute(i int, r *conf.Route) error {
	if r.Mode != conf.ModeStruct || f.knows(&r.Match) {
		return nil
	}
	wanted := "method " + r.Match.Method
	if r.Match.Method == "" {
		wanted = "service " + r.Match.Service
	}
	return fmt.Errorf("routes[%d]: mode: struct: this program has no types for %s; register its service (proxy.WithServices), or write mode: frame",
		i, wanted)
}

func (f filters) knows(m *conf.Match) bool {
	if m.Method != "" {
		return f.typed.Knows(m.Method)
	}
	for method := range f.typed.Methods() {
		if strings.HasPrefix(method, "/"+m.Service+"/") {
			return true
		}
	}
	return false
}

// chain returns the filters of a call, nil if it has none. A call without any
// costs what it does in frame mode.
func (f filters) chain(method string, t *resolver.Target) *filter.Chain {
	switch t.Mode {
	case conf.ModeStruct:
		return f.typed.Chain(method)
	case conf.ModeDynamic:
		return f.dynamic.filters(method, t)
	default:
		return nil
	}
}
