package resolver

import "github.com/kitexproxy/kitexproxy/conf"

// Shadow is a route that no call ever goes by.
type Shadow struct {
	// Route is its place in conf.Config.Routes.
	Route int
	// By is the place of the earlier route that takes all its calls, -1 if no call
	// can match it in the first place.
	By int
	// Reason says why, as a sentence that begins with the route's name.
	Reason string
}

// Unreachable returns the routes of a valid configuration that no call ever goes
// by, in order. All of them are certain: a route is left out where that would take
// more than a look at one earlier route, condition by condition. Where several
// earlier routes would each do, By is the first.
func Unreachable(cfg *conf.Config) []Shadow {
	var shadows []Shadow
	var reached index
	for i, m := range newMatchers(cfg.Routes) {
		if key := m.contradiction(); key != "" {
			reason := nameOf(cfg, i) + " is never reached, as it wants " + key + " in the metadata both there and not there"
			shadows = append(shadows, Shadow{Route: i, By: -1, Reason: reason})
			continue
		}
		s := searchCovering(m)
		reached.find(&s)
		if s.found != nil {
			reason := nameOf(cfg, i) + " is never reached, as " + nameOf(cfg, s.found.rank) + " takes " + s.found.String()
			shadows = append(shadows, Shadow{Route: i, By: s.found.rank, Reason: reason})
			continue
		}
		reached.add(m)
	}
	return shadows
}
