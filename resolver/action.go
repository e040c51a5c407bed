package resolver

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

// choice is the targets of an action, one for each cluster. It is read-only.
type choice struct {
	targets []*Target
	ends    []int // the sums of the weights up to and with each target
}

// pick returns one of the targets, by weight.
func (c *choice) pick() *Target {
	if len(c.targets) == 1 {
		return c.targets[0]
	}
	drawn := 1 + rand.IntN(c.ends[len(c.ends)-1])
	i, _ := slices.BinarySearch(c.ends, drawn) // the first, so none of weight 0
	return c.targets[i]
}

// newChoice builds the targets of an action, which are alike but for the cluster.
func newChoice(alike Target, a *conf.Action, clusters map[string]*cluster.Cluster) *choice {
	split := a.Split
	if len(split) == 0 {
		split = []conf.WeightedCluster{{Cluster: a.Cluster, Weight: 1}}
	}
	c, sum := &choice{}, 0
	for _, w := range split {
		target := alike
		target.Cluster = clusters[w.Cluster]
		sum += w.Weight
		c.targets, c.ends = append(c.targets, &target), append(c.ends, sum)
	}
	return c
}

// newTarget builds what the targets of an action have in common.
func newTarget(route string, a *conf.Action, clusters map[string]*cluster.Cluster, owner any) Target {
	return Target{
		Route: route, Owner: owner, Mode: cmp.Or(a.Mode, conf.ModeFrame),
		Timeout: time.Duration(a.Timeout), UnaryTimeout: time.Duration(a.UnaryTimeout),
		IdleTimeout: time.Duration(a.IdleTimeout), MaxMessage: uint32(a.MessageLimit),
		ForwardUndecodable: a.Undecodable == conf.UndecodableForward,
		RequestMetadata:    newChanges(&a.RequestMetadata),
		ResponseHeader:     newChanges(&a.ResponseHeader),
		ResponseTrailer:    newChanges(&a.ResponseTrailer),
		Retry:              a.Retry, Mirror: newMirror(a.Mirror, clusters),
	}
}

// newMirror returns nil for one that gets nothing.
func newMirror(m *conf.Mirror, clusters map[string]*cluster.Cluster) *Mirror {
	if m == nil || m.Percent == 0 {
		return nil
	}
	return &Mirror{Cluster: clusters[m.Cluster], Share: m.Percent / 100}
}

// newChanges returns nil for none. The order is that of the keys, so that it is
// the same each time.
func newChanges(h *conf.HeaderChanges) *Changes {
	if h.IsEmpty() {
		return nil
	}
	c := &Changes{Set: newFields(h.Set), Add: newFields(h.Add)}
	for _, key := range h.Remove {
		c.Remove = append(c.Remove, lower(key))
	}
	slices.Sort(c.Remove)
	return c
}

func newFields(values map[string]string) []Field {
	var fields []Field
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fields = append(fields, Field{Key: lower(key), Value: values[key]})
	}
	slices.SortStableFunc(fields, func(a, b Field) int { return cmp.Compare(a.Key, b.Key) })
	return fields
}
