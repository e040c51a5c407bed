package proxy

import (
	"errors"
	"fmt"
	"slices"

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
func newFilters(cfg *conf.Config, o *options) (filters, error) {
	set, err := filter.NewSet(o.services, o.filters)
	if err != nil {
		return filters{}, err
	}
	f := filters{typed: set}
	places := placesOf(cfg)
	var errs []error
	if f.dynamic, err = newDynamic(cfg, places); err != nil {
		errs = append(errs, err)
	}
	for chain := range set.Chains() {
		errs = append(errs, checkMode(chain, places))
	}
	for i := range places {
		errs = append(errs, f.checkPlace(&places[i]))
	}
	return f, errors.Join(errs...)
}

// checkMode refuses filters that would never be asked.
func checkMode(chain *filter.Chain, places []place) error {
	method, first := chain.Method(), chain.Filters()[0]
	reached := placesFor(places, method)
	if slices.ContainsFunc(reached, func(p place) bool { return p.action.Mode == conf.ModeStruct }) {
		return nil
	}
	if len(reached) == 0 {
		return fmt.Errorf("filter %s: no route takes its method %s; add one with mode: struct", first, method)
	}
	p := reached[0]
	return fmt.Errorf("filter %s: its method %s goes by %s, which has mode: %s; write mode: struct there, or leave the filter out",
		first, method, p.name, p.target().Mode)
}

// checkPlace refuses mode: struct for what nobody has the structs of.
func (f filters) checkPlace(p *place) error {
	if p.match == nil || p.action.Mode != conf.ModeStruct {
		return nil
	}
	for method := range f.typed.Methods() {
		if p.takes(method) {
			return nil
		}
	}
	return fmt.Errorf("%s: mode: struct: this program has no types for %s; register its service (proxy.WithServices), or write mode: frame",
		p.path, p.wanted())
}

// wanted names what the place matches.
func (p *place) wanted() string {
	switch m := p.match; {
	case m == nil:
		return "methods"
	case m.Method != "":
		return "method " + m.Method
	case m.Service != "":
		return "service " + m.Service
	case m.Package != "":
		return "package " + m.Package
	default:
		return "methods"
	}
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
