package proxy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/conf"
	"github.com/kitexproxy/kitexproxy/handler/filter"
	"github.com/kitexproxy/kitexproxy/kitex_gen/echo"
	echosvc "github.com/kitexproxy/kitexproxy/kitex_gen/echo/echo"
	"github.com/kitexproxy/kitexproxy/proxy"
	"github.com/kitexproxy/kitexproxy/proxy/proxytest"
)

func planOf(t testing.TB, rest string, opts ...proxy.Option) []proxy.MethodPlan {
	t.Helper()
	plans, err := proxy.Plan(dynamicConfig(t, "127.0.0.1:1", "127.0.0.1:2", rest), opts...)
	require.NoError(t, err)
	return plans
}

func TestPlanOfFrameMode(t *testing.T) {
	require.Equal(t, []proxy.MethodPlan{
		{Method: "/a.B/C", Route: "routes[0]", Mode: conf.ModeFrame, Cluster: "main"},
		{Method: "/a.B/*", Route: "routes[1]", Mode: conf.ModeFrame, Cluster: "other"},
		{Method: "*", Route: "default", Mode: conf.ModeFrame, Cluster: "main"},
	}, planOf(t, `routes:
  - {match: {method: /a.B/C}, cluster: main}
  - {match: {service: a.B}, cluster: other}
default: {cluster: main}
`))
}

func TestPlanWithoutADefault(t *testing.T) {
	require.Equal(t, []proxy.MethodPlan{
		{Method: "/a.B/C", Route: "routes[0]", Mode: conf.ModeFrame, Cluster: "main"},
		{Method: "*"},
	}, planOf(t, "routes:\n  - {match: {method: /a.B/C}, cluster: main}\n"))
}

// named is a filter with a name that does not change.
func named(_ context.Context, _ *filter.Call, _ *echo.EchoRequest) filter.Verdict {
	return filter.Forward
}

func TestPlanOfStructMode(t *testing.T) {
	struct1 := []proxy.Option{
		proxy.WithServices(filter.KitexService(echosvc.NewServiceInfo())),
		proxy.WithFilters(filter.For[echo.EchoRequest, echo.EchoReply](echoPrefix + "Unary").OnRequest(named)),
	}
	plans := planOf(t, `routes:
  - {match: {service: kitexproxy.echo.v1.Echo}, cluster: main, mode: struct}
default: {cluster: other}
`, struct1...)
	entry := func(method string, filters ...string) proxy.MethodPlan {
		return proxy.MethodPlan{Method: echoPrefix + method, Route: "routes[0]", Mode: conf.ModeStruct, Cluster: "main", Schema: "generated", Filters: filters}
	}
	all := entry("*")
	all.Schema = ""
	require.Equal(t, []proxy.MethodPlan{
		entry("Chat"), entry("Collect"), entry("Expand"),
		entry("Unary", "request github.com/kitexproxy/kitexproxy/proxy_test.named"),
		all,
		{Method: "*", Route: "default", Mode: conf.ModeFrame, Cluster: "other"},
	}, plans)
}

func TestPlanOfDynamicMode(t *testing.T) {
	plans := planOf(t, echoSchema+"routes:\n"+
		"  - {match: {method: /kitexproxy.echo.v1.Echo/Collect}, cluster: other}\n"+
		proxytest.Route("service: kitexproxy.echo.v1.Echo", "echo", `- {name: late, on: end, metadata: {remove: [a]}}
- {name: "a b", on: request, clear: [payload]}
- {name: chat only, method: Chat, on: response, drop: true}
- {name: early, on: start, cluster: '"other"'}`)+
		"default: {cluster: main, mode: dynamic, schema: echo}\n")
	entry := func(method string, filters ...string) proxy.MethodPlan {
		return proxy.MethodPlan{Method: echoPrefix + method, Route: "routes[1]", Mode: conf.ModeDynamic, Cluster: "main", Schema: "schema echo", Filters: filters}
	}
	require.Equal(t, []proxy.MethodPlan{
		entry("Chat", `start rule "early"`, `request rule "a b"`, `response rule "chat only"`, `end rule "late"`),
		{Method: echoPrefix + "Collect", Route: "routes[0]", Mode: conf.ModeFrame, Cluster: "other"},
		entry("Expand", `start rule "early"`, `request rule "a b"`, `end rule "late"`),
		entry("Unary", `start rule "early"`, `request rule "a b"`, `end rule "late"`),
		entry("*", `start not in schema "echo"`),
		{Method: "*", Route: "default", Mode: conf.ModeDynamic, Cluster: "main", Schema: "schema echo"},
	}, plans)
}

// What backends will tell is not known yet; what the rules are is.
func TestPlanOfReflection(t *testing.T) {
	plans := planOf(t, "schemas: {live: {reflection: {cluster: other}}}\nroutes:\n"+
		proxytest.Route("service: a.B", "live", `- {name: x, on: response, clear: [c]}
- {name: y, on: end, metadata: {remove: [a]}}
- {name: z, on: start, reject: {code: ABORTED}}`)+
		proxytest.Route("method: /c.D/E", "live", ""))
	require.Equal(t, []proxy.MethodPlan{
		{Method: "/c.D/E", Route: "routes[1]", Mode: conf.ModeDynamic, Cluster: "main", Schema: "schema live (reflection of cluster other)"},
		{
			Method: "/a.B/*", Route: "routes[0]", Mode: conf.ModeDynamic, Cluster: "main", Schema: "schema live (reflection of cluster other)",
			Filters: []string{`start schema "live"`, `start rule "z"`, `response rule "x"`, `end rule "y"`},
		},
		{Method: "*"},
	}, plans)
}

// Plan asks nobody, and leaves nothing running.
func TestPlanOpensNoConnection(t *testing.T) {
	ts := newTypes(t, noteFile("text", "1"))
	backend := startWitness(t, "main", ts.v1)
	_, err := proxy.Plan(dynamicConfig(t, backend.addr, backend.addr, "schemas: {live: {reflection: {cluster: main}}}\nroutes:\n"+
		proxytest.Route("service: notes.v1.Notes", "live", shoutNotes)))
	require.NoError(t, err)
	require.Zero(t, ts.asked.Load())
}

func TestPlanRefusesWhatIsNotValid(t *testing.T) {
	cfg := dynamicConfig(t, "127.0.0.1:1", "127.0.0.1:2", "default: {cluster: main}\n")
	cfg.Default.Cluster = "none"
	_, err := proxy.Plan(cfg)
	require.ErrorContains(t, err, "default.cluster")
}

// The frames of a method without rules do not go by way of messages, which costs
// more: they have no filters.
func TestPlanOfADynamicRouteWithRulesForOtherMethods(t *testing.T) {
	plans := planOf(t, echoSchema+"routes:\n"+proxytest.Route("service: kitexproxy.echo.v1.Echo", "echo", `- {name: x, method: Chat, on: request, drop: true}`))
	for _, p := range plans {
		require.Equal(t, p.Method == echoPrefix+"Chat", len(p.Filters) > 0, "%+v", p)
	}
}
