package filter

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Set is the services that a proxy knows the messages of, and the filters on
// their methods. It is immutable.
type Set struct {
	methods map[string]methodTypes
	chains  map[string]*Chain
}

// NewSet checks that each filter's method exists in one of the services and has
// the filter's messages. The error names every filter and service that does not
// fit.
func NewSet(services []*Service, filters []*Filter) (*Set, error) {
	s := &Set{methods: make(map[string]methodTypes), chains: make(map[string]*Chain)}
	var errs []error
	for _, service := range services {
		if service.err != nil {
			errs = append(errs, service.err)
		}
		for name, m := range service.methods {
			if _, again := s.methods[name]; again {
				errs = append(errs, fmt.Errorf("service %s is registered twice", service.name))
				break
			}
			s.methods[name] = m
		}
	}
	for _, f := range filters {
		if err := s.add(f); err != nil {
			errs = append(errs, fmt.Errorf("filter %s: %w", f.name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// add appends f to the chain of its method.
func (s *Set) add(f *Filter) error {
	types, ok := s.methods[f.method]
	if !ok {
		return fmt.Errorf("no registered service has the method %s that it is for%s", f.method, s.suggestion(f.method))
	}
	if err := errors.Join(
		sameType("request", f.method, f.req, types.req), sameType("response", f.method, f.resp, types.resp),
	); err != nil {
		return err
	}
	if f.name == "nil" {
		return fmt.Errorf("its function for %s is nil", f.method)
	}
	chain := s.chains[f.method]
	if chain == nil {
		request, err := codecOf(types.req)
		if err != nil {
			return err
		}
		response, err := codecOf(types.resp)
		if err != nil {
			return err
		}
		chain = NewChain(f.method, request, response, types.clientStreams, types.serverStreams)
		s.chains[f.method] = chain
	}
	chain.Add(f)
	return nil
}

func sameType(name, method string, has, wants reflect.Type) error {
	if has == wants {
		return nil
	}
	return fmt.Errorf("the %s messages of %s are %v, not %v", name, method, wants, has)
}

// suggestion lists what a method that does not exist may have been meant to be.
func (s *Set) suggestion(method string) string {
	service := method[:strings.LastIndexByte(method, '/')+1]
	var others []string
	for name := range s.methods {
		if service != "" && strings.HasPrefix(name, service) {
			others = append(others, name[len(service):])
		}
	}
	if len(others) == 0 {
		return "; register the service with its ServiceInfo"
	}
	slices.Sort(others)
	return "; the service's methods are " + strings.Join(others, ", ")
}

// Chain returns the filters of a method, nil if it has none.
func (s *Set) Chain(method string) *Chain {
	if s == nil {
		return nil
	}
	return s.chains[method]
}

// Knows reports whether a registered service has the method.
func (s *Set) Knows(method string) bool {
	if s == nil {
		return false
	}
	_, ok := s.methods[method]
	return ok
}

// Methods ranges over the full names of all registered methods, sorted.
func (s *Set) Methods() iter.Seq[string] {
	if s == nil {
		return func(func(string) bool) {}
	}
	return slices.Values(slices.Sorted(maps.Keys(s.methods)))
}

// Chains ranges over the chains of all methods that have filters, by method.
func (s *Set) Chains() iter.Seq[*Chain] {
	return func(yield func(*Chain) bool) {
		for method := range s.Methods() {
			if chain := s.chains[method]; chain != nil && !yield(chain) {
				return
			}
		}
	}
}
