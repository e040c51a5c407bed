package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver"
)

// place is one route of a configuration, or its default.
type place struct {
	path   string // in the configuration
	name   string // for people, as resolver.Target.Route has it
	match  *conf.Match
	action *conf.Action
}

// placesOf returns the routes in order, and the default last.
func placesOf(cfg *conf.Config) []place {
	var all []place
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		path := conf.ItemPath("routes", i)
		all = append(all, place{path, cmp.Or(r.Name, path), &r.Match, &r.Action})
	}
	if cfg.Default != nil {
		all = append(all, place{"default", "default", nil, cfg.Default})
	}
	return all
}

// takes reports whether calls of a method may come by the place, as far as the name
// of the method says.
func (p *place) takes(method string) bool {
	return p.match == nil || resolver.MatchesMethod(p.match, method)
}

// hasConditions reports whether a call must be like anything else.
func (p *place) hasConditions() bool {
	return p.match != nil && (p.match.Authority != "" || len(p.match.Metadata) > 0 || len(p.match.Peer) > 0)
}

// conditions says what else a call must be like, "" for nothing.
func (p *place) conditions() string {
	if p.match == nil {
		return ""
	}
	var all []string
	if a := p.match.Authority; a != "" {
		all = append(all, "authority "+a)
	}
	for i := range p.match.Metadata {
		all = append(all, metadataCondition(&p.match.Metadata[i]))
	}
	if len(p.match.Peer) > 0 {
		all = append(all, "peer in "+strings.Join(p.match.Peer, " or "))
	}
	return strings.Join(all, ", ")
}

func metadataCondition(m *conf.MetadataMatch) string {
	switch {
	case m.Exact != nil:
		return fmt.Sprintf("%s is %q", m.Key, *m.Exact)
	case m.Prefix != "":
		return fmt.Sprintf("%s begins with %q", m.Key, m.Prefix)
	case m.Regexp != "":
		return fmt.Sprintf("%s matches %q", m.Key, m.Regexp)
	case m.Present != nil && !*m.Present:
		return m.Key + " is absent"
	default:
		return m.Key + " is present"
	}
}

// clusters says where the place sends calls, for people.
func (p *place) clusters() string {
	if len(p.action.Split) == 0 {
		return p.action.Cluster
	}
	sum := 0
	for _, s := range p.action.Split {
		sum += s.Weight
	}
	var all []string
	for _, s := range p.action.Split {
		all = append(all, s.Cluster+" "+strconv.FormatFloat(100*float64(s.Weight)/float64(sum), 'g', 3, 64)+"%")
	}
	return strings.Join(all, ", ")
}

// target is a target of the place as far as filters depend on it.
func (p *place) target() *resolver.Target {
	mode := p.action.Mode
	if mode == "" {
		mode = conf.ModeFrame
	}
	return &resolver.Target{Route: p.name, Mode: mode}
}

// placesFor returns where calls of a method may come by: in order, up to the first
// place that takes them all.
func placesFor(places []place, method string) []place {
	var some []place
	for _, p := range places {
		if !p.takes(method) {
			continue
		}
		some = append(some, p)
		if !p.hasConditions() {
			break
		}
	}
	return some
}

// comesBy reports whether calls of a method may come by the place of that path.
func comesBy(places []place, path, method string) bool {
	return slices.ContainsFunc(placesFor(places, method), func(p place) bool { return p.path == path })
}
