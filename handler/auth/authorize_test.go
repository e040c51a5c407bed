package auth

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
)

func authorize(t testing.TB, rules ...Rule) intercept.Guard {
	t.Helper()
	guard, err := NewAuthorize(rules)
	require.NoError(t, err)
	return guard
}

func callBySomebody(method string, id intercept.Identity) *intercept.Call {
	c := callOf(method)
	c.SetIdentity(id)
	return c
}

func TestMethodPatterns(t *testing.T) {
	for pattern, methods := range map[string]map[string]bool{
		"*":              {"/a.B/C": true, "/B/C": true},
		"/shop.Cart/Add": {"/shop.Cart/Add": true, "/shop.Cart/Addx": false, "/shop.Cart/add": false, "/shop.Cartx/Add": false},
		"shop.Cart":      {"/shop.Cart/Add": true, "/shop.Cart2/Add": false, "/shop.Cart.Sub/Add": false, "/x.shop.Cart/Add": false},
		"shop.*":         {"/shop.Cart/Add": true, "/shop.v1.Cart/Add": true, "/shop/Add": false, "/shopping.Cart/Add": false, "/Cart/Add": false},
		"Cart":           {"/Cart/Add": true, "/shop.Cart/Add": false},
	} {
		guard := authorize(t, Rule{Methods: []string{"/no.Such/Method", pattern}, Allow: true})
		for method, want := range methods {
			assert.Equal(t, want, guard(callOf(method)) == nil, "%s %s", pattern, method)
		}
	}
}

// TestMethodsThatAreNone: what a backend might take for another method is allowed by no
// rule, however wide.
func TestMethodsThatAreNone(t *testing.T) {
	guard := authorize(t, Rule{Methods: []string{"admin.Admin"}}, Rule{Allow: true})
	require.NoError(t, guard(callOf("/echo.Echo/Say")))
	for _, method := range []string{
		"/admin.Admin/Drop", "admin.Admin/Drop", "//admin.Admin/Drop", "/admin.Admin//Drop", "/admin.Admin/Drop/", "/x/admin.Admin/Drop",
		"", "/", "//", "/admin.Admin", "/admin.Admin/", "/./admin.Admin/Drop",
	} {
		isUnauthenticated(t, guard(callOf(method)), fmt.Sprintf("nobody may call %q without credentials", method))
	}
}

func TestIdentityPatterns(t *testing.T) {
	nobody := intercept.Identity{}
	key := intercept.Identity{Kind: KindAPIKey, Name: "alice"}
	token := intercept.Identity{Kind: KindJWT, Name: "alice"}
	forged := intercept.Identity{Kind: KindJWT, Name: "api-key:alice"}
	machine := intercept.Identity{Kind: KindMTLS, Name: "spiffe://prod/a"}
	own := intercept.Identity{Kind: "ldap", Name: "anonymous"}
	all := []intercept.Identity{nobody, key, token, forged, machine, own}
	for pattern, want := range map[string][]intercept.Identity{
		"alice":               {key, token},
		"alice*":              {key, token},
		"al*":                 {key, token},
		"*":                   {key, token, forged, machine, own},
		Anonymous:             {nobody},
		"api-key:alice":       {key},
		"api_keys:alice":      {key},
		"api-key:*":           {key},
		"jwt:*":               {token, forged},
		"jwt:api-key:alice":   {forged},
		"jwt:alice":           {token},
		"spiffe://*":          {machine},
		"spiffe://prod/a":     {machine},
		"spiffe://prod/":      {},
		"mtls:spiffe://prod*": {machine},
		"jwt:spiffe://prod*":  {},
		"ldap:*":              {},
		"Alice":               {},
	} {
		guard, got := authorize(t, Rule{Identities: []string{pattern}, Allow: true}), []intercept.Identity{}
		for _, id := range all {
			if guard(callBySomebody("/a.B/C", id)) == nil {
				got = append(got, id)
			}
		}
		assert.Equal(t, want, got, pattern)
	}
}

func TestClaimPatterns(t *testing.T) {
	id := intercept.Identity{Kind: KindJWT, Name: "alice", Claims: map[string]any{
		"role": "admin", "groups": []any{"a", int64(7)}, "scope": "read write", "level": int64(3), "verified": true,
		"object": map[string]any{"a": "b"}, "scp": "read write",
	}}
	for _, test := range []struct {
		claim  string
		values []string
		want   bool
	}{
		{"role", []string{"owner", "admin"}, true},
		{"role", []string{"adm"}, false},
		{"role", []string{"Admin"}, false},
		{"groups", []string{"a"}, true},
		{"groups", []string{"7"}, true},
		{"groups", []string{"b"}, false},
		{"scope", []string{"write"}, true},
		{"scope", []string{"read write"}, true},
		{"scope", []string{"rea"}, false},
		{"scp", []string{"read"}, false},
		{"level", []string{"3"}, true},
		{"level", []string{"3.0"}, false},
		{"verified", []string{"true"}, true},
		{"object", []string{`{"a":"b"}`}, false},
		{"missing", []string{""}, false},
		{"missing", []string{"<nil>", "null"}, false},
	} {
		guard := authorize(t, Rule{Claims: map[string][]string{test.claim: test.values}, Allow: true})
		assert.Equal(t, test.want, guard(callBySomebody("/a.B/C", id)) == nil, "%s %q", test.claim, test.values)
		assert.Error(t, guard(callBySomebody("/a.B/C", intercept.Identity{Kind: KindAPIKey, Name: "alice"})), "who has no claims")
	}
	both := authorize(t, Rule{Claims: map[string][]string{"role": {"admin"}, "level": {"4"}}, Allow: true})
	require.Error(t, both(callBySomebody("/a.B/C", id)), "all claims must be as said")
}

func TestFirstRuleDecides(t *testing.T) {
	guard := authorize(t,
		Rule{Methods: []string{"shop.Cart"}, Identities: []string{"mallory"}},
		Rule{Methods: []string{"shop.*"}, Identities: []string{"*"}, Allow: true},
		Rule{Methods: []string{"shop.Cart"}, Identities: []string{"bob"}},
	)
	by := func(method, name string) error {
		return guard(callBySomebody(method, intercept.Identity{Kind: KindAPIKey, Name: name}))
	}
	require.NoError(t, by("/shop.Cart/Add", "bob"), "the rule behind is too late")
	require.NoError(t, by("/shop.Stock/Add", "mallory"))
	refused(t, by("/shop.Cart/Add", "mallory"), stream.PermissionDenied, stream.Forbidden, `api-key "mallory" may not call "/shop.Cart/Add"`)
	refused(t, by("/other.Other/A", "bob"), stream.PermissionDenied, stream.Forbidden, `api-key "bob" may not call "/other.Other/A"`)
	isUnauthenticated(t, guard(callOf("/shop.Cart/Add")), `nobody may call "/shop.Cart/Add" without credentials`)
}

func TestRulesThatCannotBe(t *testing.T) {
	for want, rules := range map[string][]Rule{
		"there are no rules":                           nil,
		`rule 2: "a.B/C" selects no methods`:           {{}, {Methods: []string{"a.B/C"}}},
		`rule 1: "" selects no methods`:                {{Methods: []string{""}}},
		`rule 1: "/a.B/*" selects no methods`:          {{Methods: []string{"/a.B/*"}}},
		`rule 1: "a.B/*" selects no methods`:           {{Methods: []string{"a.B/*"}}},
		`rule 1: "a*" selects no methods`:              {{Methods: []string{"a*"}}},
		`rule 1: ".*" selects no methods`:              {{Methods: []string{".*"}}},
		`rule 1: "a.*.*" selects no methods`:           {{Methods: []string{"a.*.*"}}},
		`rule 1: "" is no identity`:                    {{Identities: []string{""}}},
		`rule 1: "jwt:" is no identity`:                {{Identities: []string{"jwt:"}}},
		`rule 1: "a*b" is no identity`:                 {{Identities: []string{"a*b"}}},
		`rule 1: "*/admin*" is no identity`:            {{Identities: []string{"*/admin*"}}},
		`rule 1: claim "role" has no values, one of w`: {{Claims: map[string][]string{"role": nil}}},
	} {
		_, err := NewAuthorize(rules)
		assert.ErrorContains(t, err, want)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	rules := []Rule{{Methods: []string{"shop.Cart"}, Identities: []string{"api-key:alice", "spiffe://prod/*"}, Claims: map[string][]string{"role": {"admin"}}, Allow: true}}
	for i := range 9 {
		rules = append(rules, Rule{Methods: []string{fmt.Sprintf("shop%d.*", i)}, Identities: []string{"*"}, Allow: true})
	}
	guard := authorize(b, append(rules, Rule{Identities: []string{"jwt:*"}, Allow: true})...)
	c := callBySomebody("/echo.Echo/Say", intercept.Identity{Kind: KindJWT, Name: "alice", Claims: map[string]any{"role": "user"}})
	benchmarkGuard(b, guard, func() *intercept.Call { return c })
}
