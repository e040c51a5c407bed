package resolver

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
)

// many is how many routes a table has whose size must not tell.
const many = 10_000

// manyTables returns tables of that many routes of one kind each, and one of all
// kinds mixed.
func manyTables() map[string]*Table {
	value := func(i int) *string { return new(fmt.Sprintf("v%d", i)) }
	kinds := map[string]func(i int) conf.Match{
		"method":    func(i int) conf.Match { return conf.Match{Method: fmt.Sprintf("/shop.orders.v1.S%d/Get", i)} },
		"service":   func(i int) conf.Match { return conf.Match{Service: fmt.Sprintf("shop.orders.v1.S%d", i)} },
		"package":   func(i int) conf.Match { return conf.Match{Package: fmt.Sprintf("shop.orders.v%d", i)} },
		"authority": func(i int) conf.Match { return conf.Match{Authority: fmt.Sprintf("t%d.example.com", i)} },
		"wildcard":  func(i int) conf.Match { return conf.Match{Authority: fmt.Sprintf("*.t%d.example.com", i)} },
		"metadata":  func(i int) conf.Match { return metadata(conf.MetadataMatch{Key: "tenant", Exact: value(i)}) },
		"peer":      func(i int) conf.Match { return peers(address(i)) },
		"all at once": func(i int) conf.Match {
			return conf.Match{
				Service: "shop.orders.v1.S9999", Authority: "*.t9999.example.com", Peer: []string{"10.0.0.0/8"},
				Metadata: []conf.MetadataMatch{
					{Key: "stage", Exact: new("test")}, {Key: "tenant", Exact: value(i)}, {Key: "user", Present: new(true)},
				},
			}
		},
	}
	tables := make(map[string]*Table)
	var mixed []conf.Route
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		routes := make([]conf.Route, many)
		for i := range routes {
			routes[i] = route(kinds[name](i), "a")
		}
		tables[name] = table(true, routes...)
		mixed = append(mixed, routes[:many/len(kinds)-1]...)
		mixed = append(mixed, routes[many-1])
	}
	tables["mix"] = table(true, mixed...)
	return tables
}

// callsToMany returns a call that the last routes of all kinds match, and one that few
// do.
func callsToMany() []*Call {
	return []*Call{
		{
			Method: "/shop.orders.v1.S9999/Get", Authority: "api.t9999.example.com:443", Peer: tcpAddr(address(many - 1)),
			Metadata: pairsOf("user-agent", "grpc-go/1.75.0", "stage", "test", "user", "u1", "tenant", "v9999"),
		},
		{
			Method: "/shop.orders.v9999.S/Get", Authority: "t9999.example.com", Peer: tcpAddr("fd00::1"),
			Metadata: pairsOf("user-agent", "grpc-go/1.75.0", "tenant", "none of these"),
		},
	}
}

func address(i int) string { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7}).String() }

func pairsOf(keysAndValues ...string) pairs {
	var p pairs
	for i := 0; i < len(keysAndValues); i += 2 {
		p = append(p, Field{keysAndValues[i], keysAndValues[i+1]})
	}
	return p
}

func TestResolveAllocatesNothing(t *testing.T) {
	for name, table := range manyTables() {
		for _, c := range callsToMany() {
			require.Zero(t, testing.AllocsPerRun(100, func() { table.Resolve(c) }), name)
		}
	}
}

// TestPeerOfAnotherKindAllocatesNothing: no error is made for IPv4 addresses that
// have not as many bits as a network of IPv6.
func TestPeerOfAnotherKindAllocatesNothing(t *testing.T) {
	table := table(true, route(peers("fd00::/64"), "a"))
	for _, c := range []*Call{{Method: "/S/M", Peer: tcpAddr("10.0.0.1")}, {Method: "/S/M"}} {
		require.Zero(t, testing.AllocsPerRun(100, func() { table.Resolve(c) }))
	}
}

// TestIndexTellsRoutesApart: by the value that few have, and with one look for all
// networks of a length.
func TestIndexTellsRoutesApart(t *testing.T) {
	var routes []conf.Route
	for _, tenant := range []string{"x", "y"} {
		stage, tenant := conf.MetadataMatch{Key: "stage", Exact: new("test")}, conf.MetadataMatch{Key: "tenant", Exact: &tenant}
		routes = append(routes, byMetadata("a", stage, tenant), byMetadata("a", tenant, stage))
		routes[len(routes)-1].Match.Metadata[0].Key = "user"
	}
	for i, m := range newMatchers(routes) {
		require.NotEqual(t, "stage", m.metadata[m.indexed].key, "%d", i)
	}
	index := table(true, route(peers("10.0.0.1", "10.0.0.2"), "a"), route(peers("10.0.0.1", "fd00::/32"), "a")).index
	require.Len(t, index.all.all.all.bits, 1)
}

// countingMetadata counts what it is asked.
type countingMetadata struct {
	Metadata
	asked int
}

func (m *countingMetadata) Value(key string, i int) (string, bool) {
	m.asked++
	return m.Metadata.Value(key, i)
}

func TestValuesAreAskedForOnceWhateverTheNumberOfRoutes(t *testing.T) {
	table := manyTables()["metadata"]
	m := &countingMetadata{Metadata: pairsOf("tenant", "v1", "tenant", "v9999")}
	require.Equal(t, "routes[1]", table.Resolve(&Call{Method: "/S/M", Metadata: m}).Route)
	require.Equal(t, 3, m.asked, "two values, and that there is no third")
}

// TestLongNamesCostLittle: a client that sends a megabyte of labels does not have
// each of them looked up, which would take minutes.
func TestLongNamesCostLittle(t *testing.T) {
	labels := strings.Repeat("a.", 1<<19)
	require.Equal(t, []string{"a", "a.a"}, slices.Collect(prefixes(labels+"S", len("a.a"))))
	require.Equal(t, []string{"a", "a.a"}, slices.Collect(suffixes(labels+"a", len("a.a"))))
	require.Equal(t, []string{"b"}, slices.Collect(suffixes("a.b", 9)))
	require.Empty(t, slices.Collect(suffixes(".b", 9)))

	routes := table(true, byPackage("a.a.b", "a"), route(conf.Match{Authority: "*.b.a"}, "b"))
	require.Equal(t, "rest", clusterOf(routes, &Call{Method: "/" + labels + "S/M", Authority: labels + "a"}))
}

// TestLastOfManyRoutes: the tables that the figures are from do what they should.
func TestLastOfManyRoutes(t *testing.T) {
	calls := callsToMany()
	last := fmt.Sprintf("routes[%d]", many-1)
	for name, table := range manyTables() {
		switch name {
		case "mix":
		case "package", "authority":
			require.Equal(t, last, table.Resolve(calls[1]).Route, name)
		default:
			require.Equal(t, last, table.Resolve(calls[0]).Route, name)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	tables, calls := manyTables(), callsToMany()
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				tables[name].Resolve(calls[i%len(calls)])
			}
		})
	}
}
