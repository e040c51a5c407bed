package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/handler/rule"
	"github.com/kitexproxy/kitexproxy/handler/schema"
	"github.com/kitexproxy/kitexproxy/resolver"
)

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
