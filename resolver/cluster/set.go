package cluster

import "time"

// set is what calls choose from: the instances, and which of them may be used. It is
// immutable; whatever changes makes another one.
type set struct {
	all []*Endpoint
	// usable are those that calls go to. If none may be used, they are all that
	// have a weight: a cluster that is taken for ill as a whole is asked all the same.
	usable []candidate
	rest   []candidate // others with a weight
	due    time.Time   // when it has to be made anew; zero: not by itself

	total    uint64 // of the weights of usable
	heaviest uint64 // of them
	equal    bool   // they are all the same

	slowStart time.Duration
	warming   bool      // some of usable have less than their share
	oldest    time.Time // candidate.since of the one that has most of it
}

// candidate is an instance as calls choose it.
type candidate struct {
	*Endpoint
	weight uint64    // 1 to maxWeight
	upTo   uint64    // sum of the weights of usable up to this one
	since  time.Time // when its share began to grow; zero: it has all of it
	key    uint64    // Endpoint.key, which is looked at for each instance
}

// maxWeight bounds what discovery may say.
const maxWeight = 1 << 20

// smallestShare is what a slow start begins with.
const smallestShare = 0.1

// newSet returns the set of what is known of instances. It needs the cluster's mu.
func newSet(all []*Endpoint, slowStart time.Duration) *set {
	s := &set{all: all, slowStart: slowStart}
	for _, e := range all {
		s.dueBy(e)
		if e.weight == 0 {
			continue
		}
		c := candidate{Endpoint: e, weight: uint64(e.weight), since: e.since, key: e.key}
		if e.unhealthy || e.ejected() {
			s.rest = append(s.rest, c)
		} else {
			s.usable = append(s.usable, c)
		}
	}
	if len(s.usable) == 0 {
		s.usable, s.rest = s.rest, nil
	}
	s.weigh()
	return s
}

// dueBy makes the set due when something about an instance changes by itself.
func (s *set) dueBy(e *Endpoint) {
	if e.ejected() {
		s.dueAt(e.ejectedUntil)
	}
	if !e.since.IsZero() {
		s.dueAt(e.since.Add(s.slowStart))
	}
}

func (s *set) dueAt(t time.Time) {
	if s.due.IsZero() || t.Before(s.due) {
		s.due = t
	}
}

// weigh notes what the shares of the usable instances are measured by.
func (s *set) weigh() {
	s.equal = true
	for i := range s.usable {
		c := &s.usable[i]
		s.total += c.weight
		c.upTo = s.total
		s.heaviest = max(s.heaviest, c.weight)
		s.equal = s.equal && c.weight == s.usable[0].weight
		s.warming = s.warming || !c.since.Equal(s.usable[0].since)
		if i == 0 || c.since.Before(s.oldest) {
			s.oldest = c.since
		}
	}
}

// share returns which part of its weight counts for an instance at a time: what a
// slow start has brought it, compared with the one that has most. So those that
// are all new do not wait for each other.
func (s *set) share(c *candidate, now time.Time) float64 {
	if !s.warming {
		return 1
	}
	return s.grown(c.since, now) / s.grown(s.oldest, now)
}

func (s *set) grown(since, now time.Time) float64 {
	if since.IsZero() {
		return 1
	}
	passed := float64(now.Sub(since)) / float64(s.slowStart)
	return min(1, smallestShare+(1-smallestShare)*max(0, passed))
}
